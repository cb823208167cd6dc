"""Images that cannot be read: left out while they are few, listed before training when they are many."""

from __future__ import annotations

import errno
import gc
import itertools
import logging

import numpy as np
import pytest
from PIL import Image

from jaxtl import cache
from jaxtl.data import images, looked, readable
from jaxtl.data.open import open_data
from jaxtl.data.preprocess import Preprocess
from jaxtl.data.unreadable import unreadable
from jaxtl.errors import InputError

BROKEN = ["image03.jpg", "image05.jpg"]


@pytest.fixture
def pets(tree):
    """Forty training images, of which two cannot be read, and four validation images."""
    root = tree({"train/cat": 20, "train/dog": 20, "val/cat": 2, "val/dog": 2}, suffix=".jpg")
    (root / "train/cat/image03.jpg").write_bytes(b"")
    whole = (root / "train/dog/image05.jpg").read_bytes()
    (root / "train/dog/image05.jpg").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the images that are decoded."""
    seen: list[str] = []

    def counted(read):
        def reading(path, *arguments, **options):
            seen.append(path.name)
            return read(path, *arguments, **options)

        return reading

    for name in ("read_image", "read_pixels"):
        monkeypatch.setattr(f"jaxtl.data.image_files.{name}", counted(getattr(images, name)))
    return seen


def test_few_are_left_out_and_named(pets, small, caplog):
    caplog.set_level(logging.INFO, logger="jaxtl")
    data = open_data(f"folder:{pets}", small, max_bad=0.1)
    assert (len(data.train), len(data.val)) == (38, 4)
    assert "train/cat/image03.jpg" not in data.train.names
    assert data.train.labels.tolist() == [0] * 19 + [1] * 19
    first, second = data.left_out["train"]
    assert "image03.jpg' (the file is empty)" in first
    assert "image05.jpg'" in second
    assert "truncated" in second
    assert data.left_out["val"] == ()
    assert caplog.messages == [f"left out of train: {first}", f"left out of train: {second}"]
    assert "2 train images left out, which cannot be read" in data.describe()
    assert data.record()["left_out"] == {"train": [first, second]}
    assert len({batch["image"].shape for batch in itertools.islice(data.train_batches(8), 10)}) == 1


def test_the_same_step_gives_the_same_batch(pets, small):
    def batch(step, **options):
        data = open_data(f"folder:{pets}", small, max_bad=0.1, **options)
        return next(data.train_batches(8, seed=3, start=step))

    straight = next(itertools.islice(open_data(f"folder:{pets}", small, max_bad=0.1).train_batches(8, seed=3), 6, None))
    for again in (batch(6), batch(6, threads=1), batch(6, storage="disk")):
        np.testing.assert_array_equal(again["image"], straight["image"])
        np.testing.assert_array_equal(again["label"], straight["label"])


@pytest.mark.parametrize("max_bad", [0.01, 0.05, 0.0])
def test_many_stop_everything_before_it_begins(pets, small, max_bad):
    data = open_data(f"folder:{pets}", small, max_bad=max_bad)
    assert data.classes == ("cat", "dog")  # opening reads no image
    with pytest.raises(InputError) as error:
        data.steps_per_epoch(8)
    message = str(error.value)
    assert message.startswith(f"2 of 40 train images cannot be read, and max_bad={max_bad:g} allows less than")
    assert "image03.jpg' (the file is empty): replace it or delete it" in message
    assert "image05.jpg'" in message
    assert len(data.val) == 4


def test_a_class_that_loses_all_its_images_stops_it(tree, small):
    root = tree({"train/cat": 1, "train/dog": 20, "val/cat": 1, "val/dog": 1})
    (root / "train/cat/image00.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"no train image can be read of class 'cat':\n- cannot read.*image00"):
        _ = open_data(f"folder:{root}", small, max_bad=0.5).train


def test_what_was_seen_is_not_looked_at_again(pets, small, decoded):
    def opened(**options):
        decoded.clear()
        return len(open_data(f"folder:{pets}", small, max_bad=0.1, **options).train)

    assert (opened(), len(decoded)) == (38, 40)
    assert (opened(), decoded) == (38, BROKEN)
    assert (opened(train_samples=30, seed=1) >= 28, set(decoded) <= set(BROKEN)) == (True, True)
    whole = (pets / "train/dog/image06.jpg").read_bytes()
    (pets / "train/dog/image05.jpg").write_bytes(whole)
    assert (opened(), decoded) == (39, BROKEN)
    assert (opened(), decoded) == (39, BROKEN[:1])
    assert cache.clear(looked.KIND) > 0
    assert (opened(), len(decoded)) == (39, 40)
    assert len(open_data(f"folder:{pets}", small, max_bad=None).train) == 40


def test_what_the_look_decodes_goes_to_the_device(pets, small, decoded, monkeypatch):
    given = []
    for room, times in ((2**30, 40), (0, 78), (4000, 77)):  # of the last the first image alone is kept
        cache.clear()
        decoded.clear()
        monkeypatch.setattr("jaxtl.data.keeping.DECODED_BYTES", room)
        data = open_data(f"folder:{pets}", small, max_bad=0.1, storage="device", threads=1)
        given.append(next(data.view_batches(38, 0)))
        assert len(decoded) == times
    for batch in given[1:]:
        np.testing.assert_array_equal(batch["image"], given[0]["image"])


def test_what_is_not_cropped_is_decoded_once_for_device_and_evaluation(pets, small, decoded):
    data = open_data(f"folder:{pets}", small, max_bad=0.1, storage="device", augment="none", threads=1)
    next(data.view_batches(38, 0))
    next(data.eval_batches(38, split="train"))
    assert len(decoded) == 40


@pytest.mark.parametrize("storage", ["disk", "stream"])
def test_an_interrupted_look_goes_on_where_it_was(pets, small, monkeypatch, storage):
    looks: list[str] = []

    def interrupted(path, *arguments, **options):
        looks.append(path.name)
        if len(looks) == 36:
            raise KeyboardInterrupt
        return images.read_pixels(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("jaxtl.data.image_files.read_pixels", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _ = open_data(f"folder:{pets}", small, max_bad=0.1, storage=storage, threads=1).train
    (entry,) = (entry for entry in cache.entries() if entry.kind == looked.KIND)
    assert entry.about["images"] == 30  # two lots of sixteen, of which two images cannot be read
    assert len(open_data(f"folder:{pets}", small, max_bad=0.1, storage=storage).train) == 38


def test_what_was_seen_is_remembered_now_and_then(pets, small, monkeypatch):
    monkeypatch.setattr(readable, "_OFTEN", 0)
    seen: list[int] = []
    monkeypatch.setattr(readable, "remember", lambda key, looked, what: seen.append(len(looked.stamps)))
    _ = open_data(f"folder:{pets}", small, max_bad=0.1).train
    assert seen == list(range(1, 39))


@pytest.mark.parametrize("storage", ["disk", "stream"])
def test_what_failed_for_a_moment_is_looked_at_again(tree, small, monkeypatch, storage):
    root = tree({"train/cat": 8, "train/dog": 8, "val/cat": 1, "val/dog": 1})
    failing = {root / "train/cat/image03.png"}

    def read(path, *arguments, **options):
        if path in failing:
            raise unreadable(path, OSError(errno.EIO, "Input/output error"))
        return images.read_pixels(path, *arguments, **options)

    monkeypatch.setattr("jaxtl.data.image_files.read_pixels", read)
    data = open_data(f"folder:{root}", small, max_bad=0.1, storage=storage)
    assert len(data.train) == 15
    assert "image03.png' ([Errno 5] Input/output error)" in data.left_out["train"][0]
    failing.clear()
    data = open_data(f"folder:{root}", small, max_bad=0.1, storage=storage)
    assert len(data.train) == 16
    assert sum(len(batch["label"]) for batch in itertools.islice(data.train_batches(8), 2)) == 16


@pytest.fixture
def scans(tmp_path):
    """Writes grey images of 16 bits for training and validation, each with a largest value, and gives their spec."""

    def write(*train: int) -> str:
        for part, values in (("train", train), ("val", (4095, 4000))):
            for number, largest in enumerate(values):
                folder = tmp_path / "scans" / part / "ab"[number % 2]
                folder.mkdir(parents=True, exist_ok=True)
                pixels = np.linspace(0, largest, 20 * 20).astype(np.uint16).reshape(20, 20)
                Image.fromarray(pixels).save(folder / f"{number}.png")
        return f"folder:{tmp_path / 'scans'}"

    return write


GREY = Preprocess(16, (0.5,), (0.5,))


def test_depths_that_differ_are_told_at_every_opening(scans, caplog, decoded):
    caplog.set_level(logging.INFO, logger="jaxtl")
    spec = scans(4095, 4000, 4096, 4095)
    for _ in range(2):
        decoded.clear()
        caplog.clear()
        data = open_data(spec, GREY)
        assert (len(data.train), len(data.val)) == (4, 2)
        assert caplog.messages == [
            "train: images of more than 8 bits become bytes in 2 ways, by the largest value of each: bits 4 to 11 of 3 "
            "(such as 'train/a/0.png'), the upper eight of 16 bits of 1 (such as 'train/a/2.png'); if equal values "
            "mean the same in all of them, save them as 8-bit images by one rule"
        ]
    assert decoded == []
    scans(4095, 4000, 4095, 4095)
    caplog.clear()
    assert len(open_data(spec, GREY).train) == 4
    assert caplog.messages == []


@pytest.mark.parametrize("augment", ["light", "none"])
@pytest.mark.parametrize("storage", ["auto", "disk", "stream"])
def test_the_look_is_the_only_decoding(pets, small, decoded, storage, augment):
    data = open_data(f"folder:{pets}", small, max_bad=0.1, storage=storage, augment=augment)
    for _ in itertools.islice(data.train_batches(8), 10):
        pass
    for _ in range(2):
        assert sum(batch["mask"].sum() for batch in data.eval_batches(3)) == 4
    assert len(decoded) == 44
    if augment == "none":
        assert sum(batch["mask"].sum() for batch in data.eval_batches(8, split="train")) == 38
        assert len(decoded) == 44


def test_on_disk_the_next_run_finds_what_the_look_decoded(pets, small, decoded):
    def opened(**options):
        decoded.clear()
        return open_data(f"folder:{pets}", small, max_bad=0.1, **options)

    some = opened(train_samples=20)
    assert len(some.train) >= 18
    assert len(decoded) == 20
    data = opened(storage="disk")
    assert (len(data.train), len(decoded)) == (38, 20 + len(some.left_out["train"]))
    batches = list(itertools.islice(data.train_batches(8), 9))
    assert 38 <= len(decoded) <= 40
    again = opened(storage="disk")
    for one, other in zip(batches, again.train_batches(8), strict=False):
        np.testing.assert_array_equal(one["image"], other["image"])
    assert decoded == BROKEN
    assert cache.clear(looked.KIND) > 0
    assert len(opened(storage="disk").train) == 38
    assert sorted(decoded) == BROKEN


def test_a_set_that_was_only_looked_at_is_on_disk(pets, small, decoded):
    assert len(open_data(f"folder:{pets}", small, max_bad=0.1, storage="disk").train) == 38
    decoded.clear()
    next(open_data(f"folder:{pets}", small, max_bad=0.1, storage="disk").train_batches(8))
    assert decoded == BROKEN


def test_too_many_bad_ones_leave_nothing_on_disk(pets, small):
    with pytest.raises(InputError, match="2 of 40"):
        _ = open_data(f"folder:{pets}", small, max_bad=0.0, storage="disk").train
    gc.collect()
    assert [entry.kind for entry in cache.entries()] == [looked.KIND]
    assert list((cache.cache_folder() / "decoded").iterdir()) == []


def test_a_cache_that_cannot_be_written_does_no_harm(pets, small, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "file"))
    assert len(open_data(f"folder:{pets}", small, max_bad=0.1).train) == 38


def test_a_link_to_nothing_is_left_out(tree, small):
    root = tree({"train/cat": 8, "train/dog": 8, "val/cat": 1, "val/dog": 1})
    (root / "train/cat/lost.png").symlink_to(root / "nowhere.png")
    data = open_data(f"folder:{root}", small, max_bad=0.1)
    assert len(data.train) == 16
    assert "lost.png' is a link to a file that does not exist" in data.left_out["train"][0]
    assert data.fingerprint == open_data(f"folder:{root}", small, max_bad=0.1).fingerprint


@pytest.mark.parametrize("max_bad", [-0.1, 1.5])
def test_a_share_is_between_none_and_all(small, max_bad):
    with pytest.raises(InputError, match="between 0 and 1"):
        open_data("digits", small, max_bad=max_bad)


def test_sources_without_files_are_taken_as_they_are():
    assert open_data("digits", Preprocess(8, (0.5,), (0.5,)), max_bad=0.0).train.names
    assert not cache.entries()
