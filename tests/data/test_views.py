"""Views: a fixed number of random variants of each training image, and the key of what is kept of a split."""

from __future__ import annotations

import contextlib
import itertools
import os

import numpy as np
import pytest
from PIL import Image

from jaxtl.data.augment import Augment
from jaxtl.data.image_files import FileSource
from jaxtl.data.open import open_data
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError

GLYPHS = Preprocess(8, (0.5,), (0.5,), crop_pct=1.0)


@pytest.fixture
def pets(tree):
    return f"folder:{tree({'train/a': 7, 'train/b': 8, 'val/a': 3, 'val/b': 4})}"


def first(batches, count):
    with contextlib.closing(batches):
        return list(itertools.islice(batches, count))


def shown(data, epochs, **options):
    """Per epoch the image of every index; labels must say which index it is."""
    found = []
    for batch in first(data.train_batches(len(data.train), **options), epochs):
        assert sorted(batch["label"]) == list(range(len(data.train)))
        found.append(batch["image"][np.argsort(batch["label"])])
    return found


def numbered(spec, preprocess, **options):
    data = open_data(spec, preprocess, **options)
    data.train.labels = np.arange(len(data.train), dtype=np.int32)
    data.classes = tuple(data.train.names)
    return data


def test_view_batches_are_the_pixels_of_training(pets, small):
    data = numbered(pets, small)
    epochs = shown(data, 7, seed=3, views=3)
    for epoch, images in enumerate(epochs):
        batches = first(data.view_batches(4, epoch % 3, seed=3), 99)
        assert [batch["mask"].sum() for batch in batches] == [4, 4, 4, 3]
        mask = np.concatenate([batch["mask"] for batch in batches])
        kept = np.concatenate([batch["image"] for batch in batches])
        assert not kept[~mask].any()
        np.testing.assert_array_equal(kept[mask], images)
        assert np.concatenate([batch["label"] for batch in batches])[mask].tolist() == list(range(15))
    assert len({epoch.tobytes() for epoch in epochs}) == 3
    (other,) = shown(data, 1, seed=4, views=3)
    assert (other != epochs[0]).any(axis=(1, 2, 3)).all()


def test_views_change_neither_the_order_nor_what_comes_without_them(pets, small):
    data = open_data(pets, small)
    plain, viewed = first(data.train_batches(4, seed=3), 9), first(data.train_batches(4, seed=3, views=2), 9)
    for one, other in zip(plain, viewed, strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
        assert (one["image"] != other["image"]).any()


def test_views_resume_and_ignore_threads(pets, small):
    whole = first(open_data(pets, small, threads=2).train_batches(4, seed=1, views=2), 12)
    tail = first(open_data(pets, small, threads=0).train_batches(4, seed=1, views=2, start=7), 5)
    for one, other in zip(whole[7:], tail, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def test_a_view_does_not_depend_on_how_many_there_are(pets, small):
    data = numbered(pets, small)
    np.testing.assert_array_equal(shown(data, 4, views=3)[:3], shown(data, 4, views=4)[:3])


def test_one_view_without_augmentation_is_the_evaluation(pets, small):
    data = numbered(pets, small, augment="none")
    (batch,) = first(data.eval_batches(15, split="train"), 9)
    for images in shown(data, 3, views=1):
        np.testing.assert_array_equal(images, batch["image"])
    np.testing.assert_array_equal(first(data.view_batches(15, 0), 9)[0]["image"], batch["image"])


def test_views_at_another_training_size():
    data = open_data("digits", GLYPHS, augment=Augment(scale=None, flip=0.0), train_size=12, samples_per_class=1)
    assert first(data.view_batches(10, 0), 1)[0]["image"].shape == (10, 12, 12, 1)


def test_errors(pets, small):
    data = open_data(pets, small)
    with pytest.raises(InputError, match="views must be at least 1, not 0"):
        data.train_batches(4, views=0)
    with pytest.raises(InputError, match="view must be between 0 and 4294967295, not -1"):
        data.view_batches(4, -1)
    with pytest.raises(InputError, match="seed must be between"):
        data.view_batches(4, 0, seed=-1)
    with pytest.raises(InputError, match="batch size"):
        data.view_batches(0, 0)
    with pytest.raises(InputError, match="split must be 'train' or 'val', not 'test'"):
        data.content_key("test")


def test_the_content_key_is_of_the_images_alone(tree, small):
    root = tree({"train/a": 7, "train/b": 8, "val/a": 3, "val/b": 4})
    spec = f"folder:{root}"
    data = open_data(spec, small)
    key = data.content_key("train")
    assert len(key) == 16
    assert int(key, 16) >= 0
    assert key == numbered(spec, Preprocess(24), augment="none").content_key("train")
    others = [data.content_key("val"), open_data(spec, small, train_samples=14).content_key("train")]
    file = root / "train/a/image00.png"
    os.utime(file, (1, 1))
    others.append(open_data(spec, small).content_key("train"))
    assert open_data(spec, small).content_key("val") == data.content_key("val")
    assert len({key, *others}) == 4
    digits = open_data("digits", GLYPHS, train_samples=20)
    assert digits.content_key("train") == open_data("digits", GLYPHS, train_samples=20).content_key("train")


def test_a_file_that_is_not_there_leaves_the_key_as_it_is(tree, small):
    root = tree({"train/a": 4, "train/b": 4, "val/a": 1, "val/b": 1})
    (root / "train/a/lost.png").symlink_to(root / "nowhere.png")
    keys = [open_data(f"folder:{root}", small, max_bad=None).content_key("train") for _ in range(2)]
    (root / "train/a/lost.png").rename(root / "train/a/other.png")
    keys.append(open_data(f"folder:{root}", small, max_bad=None).content_key("train"))
    (root / "nowhere.png").write_bytes((root / "train/a/image00.png").read_bytes())
    keys.append(open_data(f"folder:{root}", small, max_bad=None).content_key("train"))
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("max_bad", [0.01, None])
def test_the_content_key_is_that_of_the_pixels_in_memory(tree, small, split, max_bad):
    """Or what is computed of a file as it was would be found as that of the file as it is."""
    root = tree({"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2})
    older, data = (open_data(f"folder:{root}", small, augment="none", max_bad=max_bad) for _ in range(2))
    key = older.content_key(split)
    next(data.train_batches(8)) if split == "train" else list(data.eval_batches(4))
    os.utime(root / split / "a/image00.png", (1, 1))
    assert data.content_key(split) == key == older.content_key(split)
    assert open_data(f"folder:{root}", small).content_key(split) != key


def test_files_are_asked_once_whether_they_changed(pets, small, monkeypatch):
    asked: list[int] = []
    original = FileSource.stamp
    monkeypatch.setattr(FileSource, "stamp", lambda source, index: (asked.append(index), original(source, index))[1])
    data = open_data(pets, small, storage="stream")
    next(data.train_batches(4))
    assert len({data.content_key("train") for _ in range(3)}) == 1
    assert len(asked) == 15


def test_a_source_that_cannot_be_told_again_has_a_key_of_its_own(pets, small):
    class Pictures:
        targets = [0, 1] * 4

        def __len__(self):
            return 8

        def __getitem__(self, index):
            return Image.new("RGB", (8, 8)), self.targets[index]

    datas = [open_data(Pictures(), small, val_fraction=0.5) for _ in range(2)]
    keys = [data.content_key(split) for data in datas for split in ("train", "val")]
    assert keys == [data.content_key(split) for data in datas for split in ("train", "val")]
    assert len(set(keys)) == 4
    assert not datas[0].found_again("train")
    assert open_data(pets, small).found_again("train")
