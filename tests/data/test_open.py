"""Opening data: specs, splits, what is kept in memory, and the fingerprint."""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from local_files import shared

from jaxtl.data import dataset, keeping
from jaxtl.data.augment import PRESETS, Augment
from jaxtl.data.images import read_image, read_pixels
from jaxtl.data.memory import Memory
from jaxtl.data.open import open_data
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError

GLYPHS = Preprocess(8, (0.5,), (0.5,), crop_pct=1.0)


def test_digits():
    data = open_data("digits", GLYPHS)
    assert data.classes == tuple("0123456789")
    assert len(data.train) + len(data.val) == 1797
    assert data.augment == PRESETS["glyph"]
    batch = next(data.eval_batches(4))
    np.testing.assert_array_equal(batch["image"][0, :, :, 0], np.asarray(data.val[0][0]))


def test_digits_for_a_network_of_photographs():
    batch = next(open_data("digits", Preprocess(32)).train_batches(4))
    assert batch["image"].shape == (4, 32, 32, 3)


def test_a_folder_without_val_is_split(tree, small):
    root = tree({"a": 10, "b": 20})
    data = open_data(f"folder:{root}", small, val_fraction=0.3)
    assert np.bincount(data.train.labels).tolist() == [7, 14]
    assert np.bincount(data.val.labels).tolist() == [3, 6]
    assert not set(data.train.names) & set(data.val.names)
    assert open_data(f"folder:{root}", small, val_fraction=0.3, seed=1).val.names != data.val.names


def test_a_model_gives_its_preprocessing(tree, small):
    spec = f"folder:{tree({'a': 2, 'b': 2})}"
    assert open_data(spec, SimpleNamespace(preprocess=small)).preprocess is small


def test_fewer_training_images_leave_validation_alone(small):
    whole = open_data("digits", GLYPHS)
    few = open_data("digits", GLYPHS, train_samples=100)
    assert len(few.train) == 100
    assert set(few.train.names) < set(whole.train.names)
    assert few.val.names == whole.val.names
    assert np.bincount(open_data("digits", GLYPHS, samples_per_class=5).train.labels).tolist() == [5] * 10


def test_description_names_sources_counts_and_split(tree, small):
    root = tree({"train/a": 7, "train/b": 8, "val/a": 3, "val/b": 4, "old/a": 1})
    text = repr(open_data(f"folder:{root}", small))
    assert text == (
        f"Data(folder:{root}: 15 train + 7 val images (own folders); 2 classes: a 7+3, b 8+4; 16x16x3 bicubic; "
        "folder not used: old)"
    )
    many = open_data(f"folder:{tree({f'c{i}': 2 + i % 2 for i in range(11)}, root='many')}", small)
    assert "11 classes: 1-2 train images in each" in many.describe()


def test_the_fingerprint_changes_with_everything_that_changes_the_pixels(tree, small):
    root = tree({"a": 4, "b": 4})
    spec = f"folder:{root}"
    original = open_data(spec, small).fingerprint
    assert original == open_data(spec, small).fingerprint
    others = {
        open_data(spec, small.replace(size=17)).fingerprint,
        open_data(spec, small, augment="none").fingerprint,
        open_data(spec, small, augment=Augment(flip=0.1)).fingerprint,
        open_data(spec, small, seed=1).fingerprint,
        open_data(spec, small, train_samples=5).fingerprint,
        open_data("digits", small).fingerprint,
    }
    (root / "a/image00.png").rename(root / "a/image99.png")
    others.add(open_data(spec, small).fingerprint)
    (root / "a/image99.png").rename(root / "a/image00.png")
    assert open_data(spec, small).fingerprint == original
    (root / "b/image00.png").write_bytes((root / "b/image00.png").read_bytes() + b"\0")
    others.add(open_data(spec, small).fingerprint)
    (root / "b").rename(root / "c")
    others.add(open_data(spec, small).fingerprint)
    assert len(others | {original}) == 10


@pytest.mark.parametrize("augment", ["light", "none"])
def test_memory_reads_each_file_once_and_changes_no_pixel(tree, small, monkeypatch, augment):
    spec = f"folder:{tree({'train/a': 4, 'train/b': 4, 'val/a': 2, 'val/b': 2})}"
    reads = []
    for read in (read_image, read_pixels):
        counted = functools.partial(lambda read, *given: reads.append(given[0]) or read(*given), read)
        monkeypatch.setattr(f"jaxtl.data.image_files.{read.__name__}", counted)

    def run(storage="auto"):
        data = open_data(spec, small, augment=augment, threads=0, storage=storage, max_bad=None)
        training = list(itertools.islice(data.train_batches(4), 6))
        return training + [batch for _ in range(3) for batch in data.eval_batches(4)]

    remembered = run()
    assert len(reads) == len(set(reads)) == 12
    monkeypatch.setattr(dataset, "PREPARED_BYTES", 0)
    monkeypatch.setattr(keeping, "DECODED_BYTES", 0)
    reads.clear()
    for one, other in zip(remembered, run("stream"), strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
    assert len(reads) == 6 * 4 + 3 * 4


def test_memory_stops_at_its_limit():
    made = []
    memory = Memory(lambda index: made.append(index) or np.zeros(10, np.uint8), lambda item: item.nbytes, limit=25)
    for index in (0, 1, 2, 0, 1, 2):
        memory(index)
    assert made == [0, 1, 2, 2]
    assert len(memory) == 2


def test_a_folder_without_its_kind(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("f3", "photos.csv"):
        (tmp_path / name).mkdir()
        with pytest.raises(InputError, match=f"for a folder write 'folder:{name}'"):
            open_data(name, small)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tdfs:tf_flowers", "unknown data 'tdfs:tf_flowers'.*'folder:PATH', .* and 'digits'.*mean 'tfds'"),
        ("photos", "unknown data 'photos'"),
        ("a/train.csv", "write 'csv:a/train.csv'"),
        ("tar:", "names no shards: write tar:PATTERN"),
        ("digit", "did you mean 'digits'"),
        ("folders:photos", "did you mean 'folder'"),
        ("digits:8x8", "unknown data 'digits:8x8'"),
        ("data/photos", "for a folder write 'folder:data/photos'"),
        ("folder:", "write folder:PATH"),
        ("folder:/no/such/place", "does not exist"),
    ],
)
def test_unknown_data(small, spec, message):
    with pytest.raises(InputError, match=message):
        open_data(spec, small)


def test_other_errors(small):
    with pytest.raises(InputError, match="for a model or a Preprocess, not for dict"):
        open_data("digits", {})
    with pytest.raises(InputError, match="not both"):
        open_data("digits", small, train_samples=20, samples_per_class=2)
    with pytest.raises(InputError, match="did you mean 'glyph'"):
        open_data("digits", small, augment="glyphs")


def test_importing_is_light():
    program = (
        "import sys, jaxtl.data.open; "
        "heavy = {'cv2', 'grain', 'jax', 'simplejpeg', 'sklearn', 'torch', 'matplotlib', 'tensorflow'}; "
        "print(*sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert run.stdout.strip() == ""


def test_photographs():
    spec = f"folder:{shared('data/flowers')}"
    data = open_data(spec, Preprocess(64))
    assert (len(data.train), len(data.val), len(data.classes)) == (2934, 736, 5)
    assert len(data.fingerprint) == 16
    images = [batch["image"] for batch in itertools.islice(data.train_batches(16), 3)]
    again = [batch["image"] for batch in itertools.islice(data.train_batches(16), 3)]
    np.testing.assert_array_equal(images, again)


def test_a_path_is_told_from_an_object(small, tmp_path):
    with pytest.raises(InputError, match="for a folder write 'folder:"):
        open_data(tmp_path / "photos", small)
    with pytest.raises(InputError, match="label_column is empty"):
        open_data("csv:a", small, label_column=[])
