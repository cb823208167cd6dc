"""Where training images are kept: the choice, what it changes, and exact resumption everywhere."""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
import weakref

import jax
import numpy as np
import pytest
from PIL import Image

from jaxtl import backend, cache, notices
from jaxtl.data import keeping, storage, training
from jaxtl.data.augment import Augment
from jaxtl.data.images import image_size, read_image, read_pixels, reduced, reduction
from jaxtl.data.open import open_data
from jaxtl.data.preprocess import Preprocess
from jaxtl.data.storage import Footprint, choose
from jaxtl.errors import InputError

TINY = Preprocess(8)
GB = 10**9
PHOTOS = Footprint(1000, 8 * GB, 2 * GB, 3 * GB, 500, 500, False, True)


@pytest.fixture
def pets(tree):
    return f"folder:{tree({'train/a': 7, 'train/b': 8, 'val/a': 3, 'val/b': 4})}"


@pytest.fixture
def said(monkeypatch):
    lines = []
    for module in (keeping, training):
        monkeypatch.setattr(module, "say", lines.append)
    return lines


def first(batches, count):
    with contextlib.closing(batches):
        return [jax.device_get(batch) for batch in itertools.islice(batches, count)]


def same(left, right):
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize(
    ("device", "memory", "room", "kind"),
    [
        (16 * GB, 9 * GB, 20 * GB, "device"),
        (11 * GB, 9 * GB, 20 * GB, "disk"),
        (11 * GB, 7 * GB, 20 * GB, "disk"),
        (None, 9 * GB, 0, "stream"),
        (None, 7 * GB, 2 * GB, "disk"),
        (None, 7 * GB, GB, "stream"),
    ],
)
def test_auto_goes_by_size(device, memory, room, kind):
    chosen = choose("auto", PHOTOS, small=GB, memory=memory, device=device, room=lambda: room)
    assert chosen.kind == kind
    assert chosen.fits == (memory > 8 * GB or kind != "stream")
    assert "GB" in chosen.reason


def test_a_small_set_stays_in_memory():
    assert choose("auto", PHOTOS, small=9 * GB, memory=9 * GB, device=None, room=lambda: 20 * GB).kind == "stream"


def test_what_was_written_needs_no_room():
    assert choose("auto", PHOTOS, small=0, memory=0, device=None, room=lambda: 0, written=lambda: True).kind == "disk"


def test_what_does_not_fit_where_it_is_wanted():
    with pytest.raises(InputError, match=r"take 2\.0 GB on disk, where 1\.0 GB may be used: free some space"):
        choose("disk", PHOTOS, small=0, memory=0, device=None, room=lambda: GB)
    with pytest.raises(InputError, match=r"take 3\.0 GB on the device, which has 2\.0 GB: use storage='disk'"):
        choose("device", PHOTOS, small=0, memory=0, device=2 * GB, room=lambda: 0)
    with pytest.raises(InputError, match="did you mean 'device'"):
        open_data("digits", TINY, storage="devise")
    assert choose("auto", None, small=0, memory=0, device=10**12, room=lambda: GB).kind == "stream"


def test_a_small_set_on_a_cpu_stays_in_memory_and_nothing_is_said(pets, said):
    data = open_data(pets, TINY)
    same(first(data.train_batches(4), 5), first(open_data(pets, TINY, storage="stream").train_batches(4), 5))
    assert data.storage.kind == "stream"
    assert data.storage.fits
    assert said == []
    assert data.describe() == open_data(pets, TINY, storage="stream").describe()
    assert data.fingerprint == open_data(pets, TINY, storage="stream").fingerprint


def test_disk_keeps_small_images_whole_and_reads_each_file_once(pets, said, monkeypatch, cache):
    large = Preprocess(16)  # of twice that no image has more
    reads = []
    monkeypatch.setattr("jaxtl.data.image_files.read_pixels", lambda *given: reads.append(given) or read_pixels(*given))
    data = open_data(pets, large, storage="disk", max_bad=None)
    batches = first(data.train_batches(4, seed=2), 9)
    assert len(reads) == 15
    again = open_data(pets, large, storage="disk", max_bad=None)
    same(first(again.train_batches(4, seed=2), 9), batches)
    same(first(again.train_batches(4, seed=2, start=5), 4), batches[5:])
    monkeypatch.setattr("jaxtl.data.decoded.MAPPED", 0)
    same(first(open_data(pets, large, storage="disk", max_bad=None).train_batches(4, seed=2), 9), batches)
    assert len(reads) == 15
    stream = open_data(pets, large, storage="stream", max_bad=None)
    same(first(stream.train_batches(4, seed=2), 9), batches)
    assert data.fingerprint == stream.fingerprint
    assert "decoded once, into" in said[0]
    assert "kB on disk" in said[0]
    assert "are read from" in said[1]
    assert "training images kept on disk" in again.describe()
    (key,) = (cache / "decoded").iterdir()
    assert key.name in said[0]


def test_disk_keeps_large_images_reduced(pets, said):
    four = Preprocess(4)
    still = Augment(flip=0.0, scale=(1.0, 1.0), ratio=(0.1, 10.0))
    stream, disk = (open_data(pets, four, storage=kind, augment=still) for kind in ("stream", "disk"))
    assert disk.fingerprint != stream.fingerprint
    whole, less = (first(data.train_batches(15), 2) for data in (stream, disk))
    for one, other in zip(whole, less, strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
        assert one["image"].shape == other["image"].shape == (15, 4, 4, 3)
        assert 0 < np.abs(one["image"].astype(int) - other["image"]).mean() < 12
    plain = [open_data(pets, four, storage=kind, augment="none") for kind in ("stream", "disk")]
    same(*(first(data.train_batches(15), 2) for data in plain))
    assert len({data.fingerprint for data in plain}) == 1
    first(open_data(pets, four.replace(size=5), storage="disk", augment=still).train_batches(4), 1)
    assert len({line.split("into ")[1].split(":")[0] for line in said}) == 3


def test_what_is_not_small_goes_to_disk_or_to_memory_or_is_decoded_again(pets, said, monkeypatch):
    monkeypatch.setattr(keeping, "SMALL", 1000)
    data = open_data(pets, TINY)
    first(data.train_batches(4), 1)
    assert data.storage.kind == "disk"
    assert "decoded once, into" in said[-1]
    assert open_data("digits", Preprocess(8, (0.5,), (0.5,))).storage.kind == "stream"  # arrays take no time to decode
    monkeypatch.setattr(cache, "room", lambda: 10)
    small = open_data(pets, TINY.replace(size=4))
    first(small.train_batches(4), 1)
    assert small.storage.kind == "stream"
    assert small.storage.fits
    monkeypatch.setattr(keeping, "DECODED_BYTES", 1000)
    large = open_data(pets, TINY.replace(size=4))
    first(large.train_batches(4), 1)
    assert large.storage.kind == "stream"
    assert "decoded again in every epoch" in said[-1]


def test_what_is_wrong_with_the_disk_is_not_said_of_the_images(pets, monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "room", lambda: 10)
    with pytest.raises(InputError, match="on disk, where 0 kB may be used"):
        open_data(pets, TINY, storage="disk", max_bad=0.5).train_batches(4)
    monkeypatch.undo()
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(cache, "room", lambda: GB)
    with pytest.raises(InputError, match=r"^(?!.*cannot be read).*file"):
        open_data(pets, TINY, storage="disk", max_bad=0.5).train_batches(4)


def test_a_disk_that_cannot_be_written(pets, said, monkeypatch):
    def full(*given, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr("jaxtl.data.decoded.os.pwrite", full)
    for max_bad in (0.5, None):  # a full disk makes no image unreadable
        with pytest.raises(InputError, match=r"No space left on device.*storage='stream'"):
            open_data(pets, TINY, storage="disk", max_bad=max_bad).train_batches(4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """One set and its data on the device, which several tests look at: compiling takes seconds."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(11):
        folder = root / f"train/{'ab'[index % 2]}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (17 + index, 33 - index, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    (root / "val").symlink_to(root / "train")
    spec = f"folder:{root}"
    return spec, open_data(spec, TINY, storage="device")


def test_device_batches_resume_exactly_in_the_order_of_the_host(photos):
    spec, data = photos
    batches = first(data.train_batches(4, seed=7), 8)
    assert isinstance(next(data.train_batches(4))["image"], jax.Array)
    same(first(data.train_batches(4, seed=7, start=5), 3), batches[5:])
    same(first(data.train_batches(4, seed=7, start=2**31), 2), first(data.train_batches(4, seed=7, start=2**31), 2))
    stream = open_data(spec, TINY, storage="stream")
    for one, other in zip(batches, first(stream.train_batches(4, seed=7), 8), strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
        assert one["image"].shape == other["image"].shape
        assert one["image"].dtype == np.uint8
    assert data.fingerprint != stream.fingerprint
    assert data.storage.kind == "device"
    assert "training images kept on device" in data.describe()
    assert len({batch["image"].tobytes() for batch in batches}) == 8
    with pytest.raises(InputError, match="start must be"):
        data.train_batches(4, start=-1)


def test_device_views_are_the_pixels_of_training(photos):
    _, data = photos
    kept = [first(data.view_batches(3, view, seed=7), 9) for view in range(2)]
    assert [batch["mask"].sum() for batch in kept[0]] == [3, 3, 3, 2]
    assert not kept[0][-1]["image"][-1].any()
    known = []
    for batches in kept:
        mask = np.concatenate([batch["mask"] for batch in batches])
        known.append(np.concatenate([batch["image"] for batch in batches])[mask])
        np.testing.assert_array_equal(np.concatenate([batch["label"] for batch in batches])[mask], data.train.labels)
    for epoch, batch in enumerate(first(data.train_batches(11, seed=7, views=2), 5)):
        shown = {image.tobytes() for image in batch["image"]}
        assert shown == {image.tobytes() for image in known[epoch % 2]}
    with pytest.raises(InputError, match="view must be between"):
        data.view_batches(3, -1)


def test_without_augmentation_the_device_shows_the_evaluation(photos):
    spec, _ = photos
    data, stream = (open_data(spec, TINY, augment="none", storage=kind) for kind in ("device", "stream"))
    same(first(data.train_batches(4, seed=3), 5), first(stream.train_batches(4, seed=3), 5))
    same(first(data.view_batches(4, 0), 9), first(data.eval_batches(4, split="train"), 9))
    assert data.fingerprint == stream.fingerprint


def test_elsewhere_than_on_a_cpu_batches_travel_ahead(pets, monkeypatch):
    data = open_data(pets, TINY, storage="stream", threads=0)
    expected = first(data.train_batches(4), 3) + first(data.view_batches(4, 0), 9)
    monkeypatch.setattr(backend, "on_cpu", lambda: False)
    batches = data.train_batches(4)
    assert isinstance(next(batches)["image"], jax.Array)
    batches.close()
    same(first(data.train_batches(4), 3) + first(data.view_batches(4, 0), 9), expected)


def test_a_sample_measures_large_sets(pets, monkeypatch):
    data = open_data(pets, TINY)
    whole = storage.measure(data.train, 3, at_least=8, prepared=(8, 8))
    assert (whole.images, whole.exact, whole.reduced) == (15, True, True)
    assert whole.memory == 3 * sum(width * height for width, height in map(data.train.size, range(15)))
    monkeypatch.setattr(storage, "_ALL_SIZES", 10)
    monkeypatch.setattr(storage, "_SAMPLE", 5)
    some = storage.measure(data.train, 3, at_least=8, prepared=(8, 8))
    assert not some.exact
    assert some.memory == pytest.approx(whole.memory, rel=0.2)


@pytest.mark.parametrize(("memory", "kind"), [(400_000, "device"), (200_000, "stream")])
def test_the_device_is_chosen_by_the_largest_of_all_images(pets, noise, monkeypatch, memory, kind):
    monkeypatch.setattr(storage, "_ALL_SIZES", 10)
    monkeypatch.setattr(storage, "_SAMPLE", 5)
    monkeypatch.setattr(keeping, "device_bytes", lambda: memory)
    data = open_data(pets, Preprocess(4), max_bad=None)
    noise(15, 100).save(data.train.path(1))  # is not in the sample
    sampled = storage.measure(data.train, 3, at_least=8, prepared=(4, 4))
    assert sampled.height < 20
    assert sampled.padded < 200_000 // 4
    assert data.storage.kind == kind
    assert data._kept.footprint.exact
    assert data._kept.footprint.height == 100


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_files_have_the_size_that_the_header_promises(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for width, height in [(333, 251), (130, 900), (64, 64), (700, 701)]:
        path = tmp_path / f"{width}.{suffix}"
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([rows % 256, columns % 256, (rows + columns) // 8], axis=-1).astype(np.uint8)
        Image.fromarray(pixels // 2 + 60).resize((width, height)).save(path, exif=exif)
        upright = read_image(path)
        assert image_size(path) == upright.size
        assert upright.size == ((height, width) if orientation == 6 else (width, height))
        for at_least in (20, 64, 100):
            small = read_image(path, 3, at_least)
            assert small.size[::-1] == storage.kept_size(upright.size, at_least, (1, 1))
            assert min(small.size) >= min(at_least, min(width, height))
            assert min(small.size) < 3 * at_least or reduction(upright.size, at_least) > 1
            difference = np.asarray(small, float) - np.asarray(reduced(upright, at_least), float)
            assert np.abs(difference).mean() < (3 if suffix == "jpg" else 1e-9)


def test_notices_are_the_loggers():
    assert training.say is keeping.say is notices.say


@pytest.mark.parametrize("augment", ["light", "none"])
@pytest.mark.parametrize("kind", ["stream", "disk"])
def test_memory_is_free_once_nobody_has_the_data(pets, kind, augment):
    """Without the garbage collector, which large arrays do not call."""
    gc.disable()
    try:
        data = open_data(pets, TINY, storage=kind, augment=augment)
        first(data.train_batches(4), 3), first(data.eval_batches(4), 2)
        kept = weakref.ref(data._kept)
        del data
        until = time.monotonic() + 20
        while kept() is not None and time.monotonic() < until:  # threads that prepared batches end
            time.sleep(0.01)
        assert kept() is None
    finally:
        gc.enable()
