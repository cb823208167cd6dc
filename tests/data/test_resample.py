"""Resizing on the device, beside Pillow's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxtl.data.preprocess import INTERPOLATIONS
from jaxtl.data.resample import resized, weights

BOXES = [(0, 0, 61, 47), (3, 5, 50, 40), (20, 1, 9, 44), (60, 46, 1, 1), (10, 10, 24, 20)]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Smooth colours with noise over them, which makes the filters overshoot."""
    rows, columns = np.mgrid[:47, :61]
    smooth = np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=-1)
    noise = np.random.default_rng(0).integers(-80, 80, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_values_are_pillows(picture, interpolation):
    # To an odd number of pixels none lies exactly at a box's edge, and to an even number none between two places, where
    # rounding decides in Pillow.
    height, width = (19, 23) if interpolation == "box" else (20, 24)
    padded = np.pad(picture, [(0, 13), (0, 3), (0, 0)], constant_values=255)
    ours = jax.jit(jax.vmap(lambda *box: resized(padded, box, (height, width), interpolation)))(*jnp.array(BOXES).T)
    for (left, top, across, down), found in zip(BOXES, ours, strict=True):
        cut = Image.fromarray(picture).crop((left, top, left + across, top + down))
        rows = cut.resize((width, down), INTERPOLATIONS[interpolation])
        theirs = np.asarray(rows.resize((width, height), INTERPOLATIONS[interpolation]), np.float32)
        difference = np.abs(np.asarray(found) - theirs)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.05  # halves that are rounded to the other side


def _resized(image, box, size, interpolation):
    """As one compiled program for each shape: single operations take longer to compile."""
    return jax.jit(resized, static_argnums=(2, 3))(image, box, size, interpolation)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_order_of_the_two_passes_hardly_matters(interpolation):
    """Pillow's versions differ in it."""
    rows, columns = np.mgrid[:47, :61]
    smooth = np.clip(np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=-1), 0, 255).astype(np.uint8)
    for left, top, width, height in [(0, 0, 61, 47), (3, 5, 50, 17), (20, 1, 20, 44)]:
        found = _resized(smooth, (left, top, width, height), (20, 24), interpolation)
        cut = Image.fromarray(smooth).crop((left, top, left + width, top + height))
        theirs = np.asarray(cut.resize((24, 20), INTERPOLATIONS[interpolation]), np.float32)
        assert np.abs(np.asarray(found) - theirs).max() <= 2


def test_a_large_reduction(picture):
    large = np.asarray(Image.fromarray(picture).resize((900, 700), Image.Resampling.BILINEAR))
    found = np.asarray(_resized(large, (7, 9, 880, 660), (16, 16), "bicubic"))
    theirs = Image.fromarray(large).crop((7, 9, 887, 669)).resize((16, 16), Image.Resampling.BICUBIC)
    assert np.abs(found - np.asarray(theirs, np.float32)).max() <= 1


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_sums_are_exact_in_any_order(interpolation):
    """What makes an image independent of the batch it is in."""
    given = np.asarray(weights(5, 200, 31, 230, interpolation))
    assert not given[:, :5].any()
    assert not given[:, 205:].any()
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-3)
    pixels = np.random.default_rng(0).integers(0, 256, 230).astype(np.float32)
    exact = given.astype(np.float64) @ pixels.astype(np.float64)
    for order in (np.arange(230), np.arange(230)[::-1], np.random.default_rng(1).permutation(230)):
        sums = np.zeros(31, np.float32)
        for place in order:
            sums = sums + given[:, place] * pixels[place]
        np.testing.assert_array_equal(sums, exact)


def test_weights_are_no_softmax_to_xla() -> None:
    """Which for a GPU takes half a minute to compile what is divided by its own sum, with these whole numbers in it."""
    program = jax.make_jaxpr(lambda start, length: weights(start, length, 8, 16, "bicubic"))(0, 16)
    names = [equation.primitive.name for equation in program.eqns]
    assert names.index("reduce_sum") < names.index("optimization_barrier")
