"""TensorFlow Datasets without TensorFlow: own builders, slices, fields, and what is said where it cannot be done."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest

from jaxtl import cache
from jaxtl.data import tfds_pass
from jaxtl.data.kinds import Options
from jaxtl.data.open import open_data
from jaxtl.data.tfds import open_source
from jaxtl.errors import InputError

pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of prepared data: ``shapes`` has train, validation and test."""

    from shapes_builder import Shapes

    root = tmp_path_factory.mktemp("tfds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Shapes(data_dir=root, file_format="array_record").download_and_prepare()
    return root


@pytest.fixture(autouse=True)
def in_home(home, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(home))


def opened(path, **options):
    return open_source(str(path), 3, Options(**options))


def test_its_own_splits():
    found = opened("shapes")
    assert (len(found.train), len(found.val), found.origin) == (12, 4, "own splits")
    assert found.classes == ("square", "circle", "unused")
    assert found.notes == ("split not used: test", "no images of: unused")


@pytest.mark.parametrize(
    ("path", "count"),
    [("shapes:train", 12), ("shapes:train[:50%]+test", 10), ("shapes:1.0.0:train[2:7]", 5), ("shapes:1.*.*:test", 4)],
)
def test_slices_are_one_set(path, count):
    found = opened(path)
    assert (len(found.train), found.val) == (count, None)
    assert len(set(found.train.names)) == count


def test_a_name_a_folder_and_the_folder_of_a_version_are_the_same(home, small):
    prints = {
        open_data(f"tfds:{path}", small).fingerprint for path in ("shapes", home / "shapes", home / "shapes/1.0.0")
    }
    assert len(prints) == 1


def test_images_are_decoded_as_files_are(home):
    source = opened("shapes:train").train
    image, label = source[3]
    assert image.size == (4, 8)
    assert source.size(3) == (4, 8)
    assert label in (0, 1)
    assert abs(image.getpixel((0, 0))[0] // 10 % 2 - label) == 0


def test_other_fields(home):
    assert opened("shapes:train", label_column="name").classes == ("a", "b")
    assert opened("shapes:train", label_column="age").task == "regression"
    tags = opened("shapes:train", label_column="tags")
    assert (tags.task, tags.classes) == ("multi-label", ("big", "red"))
    assert sorted(tags.train.labels.sum(1).tolist()) == [0] * 4 + [2] * 8
    groups = opened("shapes:train", group_column="who").groups
    assert len(set(groups)) == 4


def test_folds_by_group(small):
    parts = [open_data("tfds:shapes:train", small, group_column="who", folds=2, fold=k) for k in range(2)]
    assert sorted(parts[0].val.names + parts[1].val.names) == sorted([*parts[0].train.names, *parts[0].val.names])


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("shape", {}, "is not prepared in .*; did you mean 'shapes'.*Preparing it needs TensorFlow.*tfds build shape "),
        ("shapes:trian", {}, "'trian' cannot be read.*there are train, validation, test"),
        ("shapes:train[:1", {}, "cannot be read|is not tfds:NAME"),
        ("shapes:train[:0]", {}, "cannot be read"),
        ("shapes:", {}, "is not tfds:NAME or tfds:NAME:SPLIT"),
        ("shapes:2.0.0", {}, "is not prepared"),
        ("shapes", {"label_column": "lable"}, "label_column: there is no field 'lable'; did you mean 'label'"),
        ("shapes", {"path_column": "name"}, "'name' holds no images; 'image' does"),
        ("shapes", {"group_column": "name"}, "groups on both sides of its split: a, b"),
        ("shapes:train[:1]", {}, "only one class"),
    ],
)
def test_problems(path, options, message):
    with pytest.raises(InputError, match=message):
        opened(path, **options)


def test_folders_that_cannot_be_read(home, tmp_path):
    (tmp_path / "hollow").mkdir()
    with pytest.raises(InputError, match="holds no prepared data set"):
        opened(tmp_path / "hollow")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/dataset_info.json").write_text("{")
    with pytest.raises(InputError, match=r"cannot be read .*: prepare it again"):
        opened(tmp_path / "broken")
    for file in (home / "shapes/1.0.0").glob("*.json"):
        text = file.read_text()
        if file.name == "dataset_info.json":
            text = json.dumps({**json.loads(text), "fileFormat": "tfrecord"})
        (tmp_path / "hollow" / file.name).write_text(text)
    with pytest.raises(
        InputError, match=r"was prepared as tfrecord, which only TensorFlow reads.*--file_format=array_record"
    ):
        opened(tmp_path / "hollow")


def test_neither_tensorflow_nor_torch_is_imported(home):
    program = (
        "import sys; from jaxtl.data.open import open_data; from jaxtl.data.preprocess import Preprocess; "
        "next(open_data('tfds:shapes', Preprocess(8), storage='stream').eval_batches(2)); "
        "print(*sorted({'tensorflow', 'torch'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_one_pass_is_enough_for_large_sets(home, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds_pass, "_WORTH_KEEPING", 10)
    for options in ({}, {"label_column": "tags"}, {"label_column": "age", "group_column": "who"}):
        first = opened("shapes:train", **options)
        with monkeypatch.context() as patched:
            patched.setattr(tfds_pass, "waiting", None)
            again = opened("shapes:train", **options)
        assert again.classes == first.classes
        assert again.groups == first.groups
        assert again.train.labels.tolist() == first.train.labels.tolist()
        assert again.train.identity(3) == first.train.identity(3)
    assert {entry.kind for entry in cache.entries()} == {"labels"}
    for file in (tmp_path / "cache").rglob("records.json"):
        file.write_text("[")
    assert len(opened("shapes:train").train) == 12
