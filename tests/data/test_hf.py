"""Hugging Face datasets that lie on disk: forms, splits, fields, and what cannot be used."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from jaxtl.data.hf import open_source
from jaxtl.data.kinds import Options
from jaxtl.data.open import open_data
from jaxtl.errors import InputError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def png(value: int) -> dict:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (value, 0, 0)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def made(labels, **columns):
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["square", "circle"])}
    for name, values in columns.items():
        kind = np.asarray(values[0]).dtype
        features[name] = datasets.Value("string" if kind.kind == "U" else str(kind))
    values = {"image": [png(i) for i in range(len(labels))], "label": labels, **columns}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def opened(path, **options):
    return open_source(str(path), 3, Options(**options))


@pytest.fixture
def saved(tmp_path):
    splits = {"train": made([1, 0] * 4), "test": made([0, 1]), "validation": made([0, 1, 1])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_what_save_to_disk_wrote(saved):
    found = opened(saved)
    assert (len(found.train), len(found.val)) == (8, 3)
    assert found.classes == ("square", "circle")
    assert found.train.labels.tolist() == [1, 0] * 4
    assert found.notes == ("split not used: test",)
    assert found.train[5][0].getpixel((0, 0)) == (5, 0, 0)
    assert found.train.size(5) == (4, 3)
    assert len(opened(f"{saved}:test").train) == 2


def test_a_parquet_file_and_slices_of_it(tmp_path):
    made([1, 0] * 4).to_parquet(tmp_path / "a.parquet")
    assert len(opened(tmp_path / "a.parquet").train) == 8
    half = opened(f"{tmp_path / 'a.parquet'}:train[4:]")
    assert (len(half.train), half.val) == (4, None)
    assert half.train[0][0].getpixel((0, 0)) == (4, 0, 0)


def test_photographs_are_turned_upright(tmp_path):
    file, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (4, 3)).save(file, "JPEG", exif=exif)
    records = made([1, 0])
    photographs = [{"bytes": file.getvalue(), "path": None}] * 2
    columns = {"image": photographs, "label": records["label"]}
    datasets.Dataset.from_dict(columns, features=records.features).to_parquet(tmp_path / "a.parquet")
    assert opened(tmp_path / "a.parquet").train[0][0].size == (3, 4)


def test_a_folder_of_images(tree, small):
    root = tree({"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/dog": 1})
    data = open_data(f"hf:{root}", small)
    assert (data.classes, len(data.train), len(data.val)) == (("cat", "dog"), 6, 2)
    assert data.content_key("train") == open_data(f"hf:{root}", small).content_key("train")
    folder = open_data(f"folder:{root}", small)
    for one, other in zip(data.eval_batches(2), folder.eval_batches(2), strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])


def test_two_columns_of_images_have_two_keys(tmp_path, small):
    """Or what was computed of one would be taken for the other's."""
    kinds = {"left": datasets.Image(), "right": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    values = {"left": [png(i) for i in range(6)], "right": [png(99)] * 6, "label": [0, 1] * 3}
    datasets.Dataset.from_dict(values, features=datasets.Features(kinds)).save_to_disk(tmp_path / "two")
    keys = [
        open_data(f"hf:{tmp_path / 'two'}", small, path_column=column).content_key("train")
        for column in ("left", "right", "left")
    ]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize("seed", [0, 3], ids=["val", "train"])
def test_a_record_without_an_image_is_left_out(tmp_path, small, seed):
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    values = {"image": [*map(png, range(9)), None], "label": [0, 1] * 5}
    datasets.Dataset.from_dict(values, features=datasets.Features(kinds)).save_to_disk(tmp_path / "gaps")
    data = open_data(f"hf:{tmp_path / 'gaps'}", small, val_fraction=0.3, seed=seed, max_bad=0.5)
    assert len(data.train) + len(data.val) == 9
    (reason,) = data.left_out["train"] + data.left_out["val"]
    assert reason == "image 'train-000009' is empty: leave the record out"
    assert data.content_key("train") != data.content_key("val")


def test_other_fields(tmp_path):
    made([0, 1] * 3, age=[0.5, 1.5] * 3, who=list("aabbcc")).save_to_disk(tmp_path / "a")
    assert opened(tmp_path / "a", label_column="age").task == "regression"
    found = opened(tmp_path / "a", group_column="who")
    assert found.groups == tuple("aabbcc")


def test_problems(saved, tmp_path):
    made([0, 1, -1, -1]).save_to_disk(tmp_path / "unlabelled")
    datasets.Dataset.from_dict({"text": ["a"], "label": [1]}).save_to_disk(tmp_path / "text")
    (tmp_path / "a.txt").write_text("a")
    for path, options, message in [
        (f"{saved}:trian", {}, "opened by whole splits; there are train, test, validation"),
        (saved, {"label_column": "labels"}, "there is no field 'labels'; did you mean 'label'"),
        (tmp_path / "unlabelled", {}, r"out of range, '-1' .2 times., in train\[2\], train\[3\]"),
        (tmp_path / "text", {}, "it has no images: none among 'text', 'label'"),
        (tmp_path / "a.txt", {}, "is no .parquet or .arrow file"),
        ("nobody/nothing", {}, "hf:nobody/nothing cannot be opened: "),
    ]:
        with pytest.raises(InputError, match=message):
            opened(path, **options)
