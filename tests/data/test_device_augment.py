"""Augmentation on the device: the laws of the host's, and each image a function of its key."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxtl.data import device_augment
from jaxtl.data.augment import PRESETS, Augment
from jaxtl.data.crops import crop_box
from jaxtl.data.device_augment import augmented, example_keys, random_box
from jaxtl.data.geometry import moved
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError

SIZE = (20, 24)
EVERYTHING = Augment(rotate=10, shear=5, zoom=(0.9, 1.1), translate=0.1, brightness=0.4, contrast=0.4)
run = jax.jit(augmented, static_argnames=("augment", "size", "interpolation"))


def keys(count, seed=0, first=0):
    return example_keys(seed, jnp.zeros(count, jnp.uint32), jnp.arange(first, first + count, dtype=jnp.uint32))


def draws(given):
    """What each key gives, (count, 51)."""
    return np.asarray(jax.jit(jax.vmap(lambda key: jax.random.uniform(key, (51,))))(given))


def boxes(count, height, width, scale=(0.35, 1.0), ratio=(3 / 4, 4 / 3)):
    given = np.random.default_rng(0).random((count, 4, 10), np.float32)
    heights, widths = (np.full(count, side, np.int32) for side in (height, width))
    return np.asarray(draw_boxes(given, heights, widths, scale, ratio))


@functools.partial(jax.jit, static_argnums=(3, 4))
def draw_boxes(draws, heights, widths, scale=(0.35, 1.0), ratio=(3 / 4, 4 / 3)):
    """(count, 4): left, top, width and height."""
    one = functools.partial(random_box, scale=scale, ratio=ratio)
    return jnp.stack(jax.vmap(one)(draws, heights, widths), axis=-1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (9, 50, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def sizes():
    return np.array([[50, 60], [50, 33], [20, 60], [1, 1], [50, 60], [41, 41], [30, 50], [50, 60], [9, 60]], np.int32)


def test_area_and_ratio_of_crops_are_uniform():
    """Where every draw fits: the share of the area, and the logarithm of the ratio."""
    found = boxes(4000, 3000, 3000, scale=(0.2, 0.6))
    left, top, width, height = found.T.astype(float)
    for values, low, high in [
        (width * height / 9e6, 0.2, 0.6),
        (np.log(width / height), np.log(3 / 4), np.log(4 / 3)),
        (left / (3000 - width), 0, 1),
        (top / (3000 - height), 0, 1),
    ]:
        share = np.sort((values - low) / (high - low))
        assert np.abs(share - np.linspace(0, 1, len(share))).max() < 1.63 / np.sqrt(len(share))  # Kolmogorov, 1 %


def test_crops_follow_the_same_law_as_the_hosts():
    """With tries that don't fit, and the central crop after ten of them."""
    for width, height in [(90, 60), (200, 20)]:
        rng = np.random.default_rng(0)
        host = np.array([crop_box((width, height), (0.35, 1.0), (3 / 4, 4 / 3), rng) for _ in range(3000)])
        host[:, 2:] -= host[:, :2]
        ours = boxes(3000, height, width)
        assert (ours[:, :2] >= 0).all()
        assert (ours[:, 0] + ours[:, 2] <= width).all()
        assert (ours[:, 1] + ours[:, 3] <= height).all()
        np.testing.assert_allclose(ours.mean(axis=0), host.mean(axis=0), atol=1)
        np.testing.assert_allclose(np.quantile(ours, [0.1, 0.5, 0.9], 0), np.quantile(host, [0.1, 0.5, 0.9], 0), atol=3)


def test_an_image_is_a_function_of_its_pixels_and_key(images, sizes, monkeypatch):
    """Whatever else is in the batch, however many are changed together, and whatever lies outside of its size."""
    whole = np.asarray(run(images, sizes, keys(9), EVERYTHING, SIZE))
    assert whole.shape == (9, *SIZE, 3)
    assert whole.dtype == np.uint8
    other = np.asarray(run(images, sizes, keys(9, seed=1), EVERYTHING, SIZE))
    assert (other != whole).any(axis=(1, 2, 3)).sum() >= 8

    dirty = images.copy()
    dirty[2, 20:] = 77
    order = np.array([7, 2, 2, 0])
    monkeypatch.setattr(device_augment, "_TOGETHER", 2)
    some = jax.jit(lambda *given: augmented(*given, EVERYTHING, SIZE))(dirty[order], sizes[order], keys(9)[order])
    np.testing.assert_array_equal(some, whole[order])


def test_keys_are_functions_of_seed_kind_and_both_words():
    def words(*given, **options):
        return jax.random.key_data(example_keys(*given, **options))[0].tolist()

    one, two = jnp.array([1], jnp.uint32), jnp.array([2], jnp.uint32)
    assert words(3, one, two) == words(np.uint32(3), one, two)
    found = [words(3, one, two), words(4, one, two), words(3, two, one), words(3, one, two, kind=1)]
    assert len({tuple(word) for word in [*found, words(2**32 - 1, one, two)]}) == 5


def test_crop_and_flip_are_pillows(images, sizes):
    """The box is drawn as in `random_box`, the rest is what the host does with it."""
    preprocess, given = Preprocess(SIZE), keys(9)
    mirrored = 0
    found = np.asarray(run(images, sizes, given, Augment(), SIZE))
    drawn = draw_boxes(draws(given)[:, :40].reshape(9, 4, 10), *sizes.T)
    for image, (left, top, width, height), ours in zip(images, drawn.tolist(), found, strict=True):
        cut = Image.fromarray(image).crop((left, top, left + width, top + height))
        across = cut.resize((SIZE[1], height), preprocess.resample)
        theirs = np.asarray(across.resize(SIZE[::-1], preprocess.resample), np.int32)
        straight, turned = np.abs(ours - theirs).max(), np.abs(ours[:, ::-1] - theirs).max()
        assert min(straight, turned) <= 1
        mirrored += turned < straight
    assert 0 < mirrored < 9


@pytest.mark.parametrize("channels", [1, 3])
def test_without_changes_the_pixels_stay(images, channels):
    prepared = images[:, : SIZE[0], : SIZE[1], :channels]
    sizes = np.tile(np.int32(SIZE), (9, 1))
    np.testing.assert_array_equal(run(prepared, sizes, keys(9), PRESETS["none"], SIZE), prepared)
    flipped = np.asarray(run(prepared, sizes, keys(9), Augment(scale=None, flip=1.0), SIZE))
    np.testing.assert_array_equal(flipped, prepared[:, :, ::-1])


class _Given:
    """A generator for the host that gives what the device draws: -1 to 1 scaled to each range."""

    def __init__(self, draws):
        self._draws = list(draws)

    def uniform(self, low, high, size=None):
        low, high = np.broadcast_arrays(low, high) if size is None else (np.full(size, low), np.full(size, high))
        draws = [self._draws.pop(0) for _ in range(low.size)]
        found = low + (np.array(draws).reshape(low.shape) + 1) / 2 * (high - low)
        return found if found.ndim else float(found)


def test_affine_changes_are_the_hosts():
    augment = Augment(scale=None, flip=0.0, rotate=30, shear=20, zoom=(0.7, 1.4), translate=0.2)
    rows, columns = np.mgrid[:20, :24]
    waves = [127 + 120 * np.sin(rows / 4 + shift) * np.cos(columns / 5) for shift in range(3)]
    image = np.stack(waves, axis=-1).astype(np.uint8)
    found = np.asarray(run(np.tile(image, (40, 1, 1, 1)), np.tile(np.int32(SIZE), (40, 1)), keys(40), augment, SIZE))
    differing = []
    for drawn, ours in zip(draws(keys(40))[:, 40:45], found, strict=True):
        theirs = moved(image, augment._drawn_move(_Given(2 * drawn.astype(float) - 1)))
        differing.append(np.abs(ours.astype(int) - theirs) > 1)
    assert np.mean(differing) < 0.003  # a pixel on the rim may fall to the other side


def test_colour_factors_cover_their_range():
    grey = np.full((400, 8, 8, 3), 100, np.uint8)
    augment = Augment(scale=None, flip=0.0, brightness=0.5)
    found = np.asarray(run(grey, np.tile(np.int32([8, 8]), (400, 1)), keys(400), augment, (8, 8)))[:, 0, 0, 0]
    assert found.min() == pytest.approx(50, abs=2)
    assert found.max() == pytest.approx(150, abs=2)
    assert found.mean() == pytest.approx(100, abs=4)


def test_colour_changes_come_in_every_order():
    image = np.array([[[200, 100, 50], [10, 60, 30]]], np.uint8)
    augment = Augment(scale=None, flip=0.0, brightness=1e-4, contrast=1e-4, saturation=1e-4)

    def mark(value):
        return lambda xp, pixels, factor: xp.full_like(pixels, value)

    # instead of changes, of which the last one to come wins
    marks = {name: mark(value) for value, name in enumerate(device_augment.CHANGES)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_augment, "CHANGES", marks)
        last = jax.jit(lambda *given: augmented(*given, augment, (1, 2)))(
            np.tile(image, (300, 1, 1, 1)), np.tile(np.int32([1, 2]), (300, 1)), keys(300)
        )
    counts = np.bincount(np.asarray(last)[:, 0, 0, 0], minlength=4)
    assert counts[3] == 0  # the hue, which is off
    assert counts[:3].min() > 70


def test_images_of_another_size_need_a_crop(images, sizes):
    with pytest.raises(InputError, match="needs images of 20x24 pixels, not of 50x60"):
        augmented(images, sizes, keys(9), PRESETS["glyph"], SIZE)
