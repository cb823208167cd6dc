"""Resized crops: Pillow's and torchvision's within a tolerance, without aliasing, for any number of channels."""

from __future__ import annotations

import numpy as np
import pytest
from local_files import shared
from PIL import Image
from timm_guest import import_timm

from jaxtl.data.crops import mirror, resized_crop
from jaxtl.data.images import read_pixels
from jaxtl.data.preprocess import INTERPOLATIONS

FACTORS = [0.5, 0.67, 1.0, 1.15, 1.28, 1.32, 1.75, 2.0, 3.5]


def by_pillow(pixels, box, size, interpolation):
    crop = Image.fromarray(pixels).crop(box)
    return np.asarray(crop.resize(size[::-1], INTERPOLATIONS[interpolation])).astype(float)


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    files = sorted(shared("data/hymenoptera/val").rglob("*.jpg"))[::8]
    return [pixels for file in files if min((pixels := read_pixels(file)).shape[:2]) >= 230]


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_photographs_are_those_of_pillow_within_three_levels(photographs, interpolation, factor):
    side = round(220 / factor)
    box = (7, 3, 227, 223)
    apart = [
        np.abs(
            resized_crop(pixels, box, (side, side), interpolation) - by_pillow(pixels, box, (side, side), interpolation)
        )
        for pixels in photographs
    ]
    assert len(apart) > 5
    assert np.mean([difference.mean() for difference in apart]) < (3 if factor > 1 else 1)
    assert max(difference.mean() for difference in apart) < 8
    assert max(np.quantile(difference, 0.99) for difference in apart) < 40


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_they_are_those_of_torchvision_too(photographs, interpolation):
    import_timm()
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resized_crop as theirs

    pixels = torch.from_numpy(photographs[0].transpose(2, 0, 1).copy())
    for height, width, size in [(100, 110, 160), (200, 190, 180), (200, 180, 100)]:
        expected = theirs(pixels, 3, 7, height, width, [size, size], InterpolationMode(interpolation), antialias=True)
        found = resized_crop(photographs[0], (7, 3, 7 + width, 3 + height), (size, size), interpolation)
        assert np.abs(found - expected.numpy().transpose(1, 2, 0).astype(float)).mean() < 3.5


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [1.4, 1.9, 2.5, 4.3])
def test_what_is_finer_than_the_result_becomes_grey(interpolation, factor):
    rows, columns = np.mgrid[:300, :300]
    checkers = np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    side = round(280 / factor)
    found = resized_crop(checkers, (9, 11, 289, 291), (side, side), interpolation)
    assert found.mean() == pytest.approx(127.5, abs=1)
    assert found.std() < 50  # bicubic without antialiasing: 61


@pytest.mark.parametrize("interpolation", ["nearest", "box", "hamming", "lanczos"])
def test_other_filters_are_pillows(noise, interpolation):
    pixels = np.asarray(noise(50, 40))
    for size in [(16, 16), (60, 70)]:
        found = resized_crop(pixels, (5, 3, 45, 38), size, interpolation)
        np.testing.assert_array_equal(found, by_pillow(pixels, (5, 3, 45, 38), size, interpolation))


def test_one_side_may_shrink_while_the_other_grows(noise):
    pixels = np.asarray(noise(120, 40))
    found = resized_crop(pixels, (0, 0, 120, 40), (60, 60), "bilinear")
    np.testing.assert_array_equal(found, by_pillow(pixels, (0, 0, 120, 40), (60, 60), "bilinear"))


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 13])
@pytest.mark.parametrize("size", [(40, 50), (26, 30), (13, 9), (20, 60)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_each_channel_is_resized_as_if_it_were_alone(channels, size, interpolation):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 44, channels), dtype=np.uint8)
    found = resized_crop(pixels, (4, 3, 40, 37), size, interpolation)
    assert found.shape == (*size, channels)
    for channel in range(channels):
        alone = resized_crop(pixels[:, :, channel : channel + 1], (4, 3, 40, 37), size, interpolation)
        # OpenCV rounds the pixels at the end of a row in another way, and what lies there depends on the channels
        np.testing.assert_allclose(found[:, :, channel : channel + 1].astype(int), alone, atol=1)
    batch = np.zeros((3, *size, channels), np.uint8)
    assert resized_crop(pixels, (4, 3, 40, 37), size, interpolation, batch[1]) is not None
    np.testing.assert_array_equal(batch[1], found)
    mirror(batch[1])
    np.testing.assert_array_equal(batch[1], found[:, ::-1])
    assert not batch[::2].any()
