"""Augmentation: the right crops, and randomness from the generator alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm_guest import import_timm

from jaxtl.data.augment import PRESETS, Augment, preset
from jaxtl.data.crops import crop_box, parts_of
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 99))
def test_crops_lie_inside_the_image(width, height, seed):
    left, top, right, bottom = crop_box((width, height), (0.35, 1.0), (3 / 4, 4 / 3), np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_crops_cover_the_ranges_of_scale_and_ratio():
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box((1000, 1000), (0.35, 1.0), (3 / 4, 4 / 3), rng) for _ in range(2000)])
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    scale, ratio = widths * heights / 1e6, widths / heights
    assert scale.min() == pytest.approx(0.35, abs=0.01)
    assert scale.max() > 0.95
    assert ratio.min() == pytest.approx(0.75, abs=0.01)
    assert ratio.max() == pytest.approx(4 / 3, abs=0.01)
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.01)
    assert (boxes[:, 0] == 0).mean() < 0.02
    assert (boxes[:, 0] / (1000 - widths).clip(1)).mean() == pytest.approx(0.5, abs=0.03)


def test_crops_follow_the_same_law_as_torchvisions():
    import_timm()
    import torch
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image, rng = Image.new("RGB", (90, 60)), np.random.default_rng(0)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.35, 1.0], [3 / 4, 4 / 3]) for _ in range(1500)])
    ours = np.array([crop_box((90, 60), (0.35, 1.0), (3 / 4, 4 / 3), rng) for _ in range(1500)])
    ours = np.stack([ours[:, 1], ours[:, 0], ours[:, 3] - ours[:, 1], ours[:, 2] - ours[:, 0]], axis=1)
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=1.2)
    np.testing.assert_allclose(np.quantile(ours, [0.1, 0.9], axis=0), np.quantile(theirs, [0.1, 0.9], axis=0), atol=3)


def test_the_fallback_is_torchvisions():
    import_timm()
    from torchvision.transforms import RandomResizedCrop

    for size in [(500, 20), (20, 500), (33, 30)]:  # nothing of three times the area fits
        top, left, height, width = RandomResizedCrop.get_params(Image.new("L", size), [3.0, 3.0], [3 / 4, 4 / 3])
        box = crop_box(size, (3.0, 3.0), (3 / 4, 4 / 3), np.random.default_rng(0))
        assert box == (left, top, left + width, top + height)


def test_none_is_the_evaluation_preprocessing(noise, small):
    image = noise(40, 30)
    assert not PRESETS["none"].is_random
    np.testing.assert_array_equal(PRESETS["none"](image, small, np.random.default_rng(0)), small(image))


@pytest.mark.parametrize("name", ["light", "glyph"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_a_function_of_the_generator(noise, name, channels):
    augment, preprocess, image = preset(name), Preprocess((24, 20)).with_channels(channels), noise(50, 40)
    once, again = (augment(image, preprocess, np.random.default_rng(5)) for _ in range(2))
    assert augment.is_random
    assert once.shape == (24, 20, channels)
    assert once.dtype == np.uint8
    assert once.flags.c_contiguous
    np.testing.assert_array_equal(once, again)
    assert (once != augment(image, preprocess, np.random.default_rng(6))).any()


EVERYTHING = Augment(
    rotate=5, flip_vertical=0.5, policy="randaugment", brightness=0.2, saturation=0.2, grey=0.2, blur=0.5, erase=0.5
)


def reading(images):
    sizes = np.array([image.shape[1::-1] for image in images])
    return sizes, parts_of(images)


@pytest.mark.parametrize("augment", [*PRESETS.values(), EVERYTHING], ids=[*PRESETS, "everything"])
def test_in_place_it_is_the_same(noise, small, augment):
    image = np.asarray(noise(50, 40))
    for seed in range(20):
        expected = augment(Image.fromarray(image), small, np.random.default_rng(seed))
        batch = np.zeros((3, 16, 16, 3), np.uint8)
        if augment.scale is None:
            batch[1] = small(Image.fromarray(image))
            augment.change(batch[1], np.random.default_rng(seed))
        else:
            augment.into(batch[1:2], *reading([image]), small.interpolation, [np.random.default_rng(seed)])
        np.testing.assert_array_equal(batch[1], expected)
        assert not batch[::2].any()


def test_images_of_a_batch_may_share_a_generator(noise, small):
    images = [np.asarray(noise(side, 40)) for side in (50, 30, 44)]
    shared, own = np.zeros((2, 3, 16, 16, 3), np.uint8)
    augment = PRESETS["light"]
    augment.into(shared, *reading(images), small.interpolation, [np.random.default_rng(1)] * 3)
    rngs = [np.random.default_rng(seed) for seed in (1, 2, 3)]
    augment.into(own, *reading(images), small.interpolation, rngs)
    np.testing.assert_array_equal(own[2], augment(images[2], small, np.random.default_rng(3)))
    assert (shared[1:] != own[1:]).any((1, 2, 3)).all()


def test_the_changes_after_the_crop_leave_what_they_are_given(noise):
    pixels = np.asarray(noise(16, 16))
    before = pixels.copy()
    for seed in range(5):
        found = EVERYTHING.after_crop(pixels, np.random.default_rng(seed))
        assert (found != before).any()
    np.testing.assert_array_equal(pixels, before)


def test_flip_mirrors_with_its_probability(noise, small):
    image, rng = noise(16, 16), np.random.default_rng(0)
    augment = Augment(scale=None, flip=0.25)
    plain = small(image)
    flipped = [not np.array_equal(augment(image, small, rng), plain) for _ in range(400)]
    assert np.mean(flipped) == pytest.approx(0.25, abs=0.06)
    np.testing.assert_array_equal(Augment(scale=None, flip=1.0)(image, small, rng), plain[:, ::-1])


def test_a_glyph_is_moved_a_little_and_never_mirrored():
    preprocess = Preprocess(64, (0.5,), (0.5,), crop_pct=1.0)
    glyph = Image.new("L", (64, 64))
    glyph.paste(255, (20, 16, 26, 48))
    glyph.paste(255, (20, 42, 44, 48))  # an L
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    centres, areas = [], []
    for _ in range(300):
        pixels = preset("glyph")(glyph, preprocess, rng)[:, :, 0].astype(float)
        centres.append([(rows * pixels).sum() / pixels.sum(), (columns * pixels).sum() / pixels.sum()])
        areas.append(pixels.sum())
        assert pixels[:32, :32].sum() > pixels[:32, 32:].sum()
    still = np.array([rows[np.asarray(glyph) > 0].mean(), columns[np.asarray(glyph) > 0].mean()])
    moved = np.abs(np.array(centres) - still)
    assert moved.max() < 64 * 0.1 + 4
    assert moved.mean() > 1.5
    zoom = np.sqrt(np.array(areas) / np.asarray(glyph).sum())
    assert zoom.min() == pytest.approx(0.9, abs=0.04)
    assert zoom.max() == pytest.approx(1.1, abs=0.04)


def test_a_single_affine_change_does_what_it_says():
    preprocess = Preprocess(65, (0.5,), (0.5,), crop_pct=1.0, interpolation="nearest")
    image = Image.new("L", (65, 65))
    image.paste(255, (44, 30, 49, 35))  # right of the centre
    still = Augment(scale=None, flip=0.0)

    class AtTheEnd:  # a generator that always draws the upper end
        def uniform(self, low, high, size=None):
            return np.broadcast_to(high, size or np.shape(high)).astype(float)

        def random(self):
            return 1.0

    def centre(**changes):
        pixels = dataclasses.replace(still, **changes)(image, preprocess, AtTheEnd())[:, :, 0]
        return [float(axis.mean()) for axis in np.nonzero(pixels > 127)]

    assert centre(translate=0.1) == pytest.approx([32 + 6.5, 46 + 6.5], abs=0.6)
    assert centre(rotate=90.0) == pytest.approx([46, 32], abs=0.6)
    assert centre(zoom=(1.5, 1.5)) == pytest.approx([32, 53], abs=0.6)
    assert centre(shear=45.0) == pytest.approx([32, 46], abs=0.6)


def test_what_is_uncovered_takes_the_colour_of_the_rim(noise):
    preprocess = Preprocess(32, crop_pct=1.0)
    page = Image.new("RGB", (32, 32), (250, 240, 230))
    pixels = Augment(scale=None, flip=0.0, rotate=45.0, translate=0.5)(page, preprocess, np.random.default_rng(1))
    assert np.unique(pixels.reshape(-1, 3), axis=0).tolist() == [[250, 240, 230]]


def test_errors():
    with pytest.raises(InputError, match="did you mean 'light'"):
        preset("ligth")
    with pytest.raises(InputError) as error:
        Augment((0.5, 0.2), (0.0, 1.0), 1.5, -1.0, 90.0, (1.1, 0.9), 2.0)
    for name in ("scale", "ratio", "flip", "rotate", "shear", "zoom", "translate"):
        assert f"{name} must be" in str(error.value)


@pytest.mark.parametrize("share", [True, False])
def test_what_is_flipped_is_the_mirror_image(noise, small, share):
    images = [np.asarray(noise(side, 40)) for side in range(30, 62)]
    straight, mirrored, some = np.zeros((3, 32, 16, 16, 3), np.uint8)
    for out, flip in ((straight, 0.0), (mirrored, 1.0), (some, 0.5)):
        rngs = [np.random.default_rng(1)] * 32 if share else [np.random.default_rng(seed) for seed in range(32)]
        Augment(flip=flip).into(out, *reading(images), small.interpolation, rngs)
    np.testing.assert_array_equal(mirrored, straight[:, :, ::-1])
    turned, same = ((some == other).all((1, 2, 3)) for other in (mirrored, straight))
    assert (turned ^ same).all()
    assert 5 < turned.sum() < 27
