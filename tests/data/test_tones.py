"""Changes of tone and the blur, beside torchvision's functions, on the host and inside jit."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from timm_guest import import_timm

from jaxtl.data import tones
from jaxtl.data.blur import blur, radius_of


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A dark gradient with noise, a flat channel, and few pixels of the highest value."""
    rows, columns = np.mgrid[:37, :41]
    noise = np.random.default_rng(0).integers(0, 30, (37, 41))
    image = np.stack([2 * rows + columns + noise, 3 * columns + noise, np.full_like(rows, 90)], axis=-1)
    image[3, 4] = 255, 200, 90
    return image.astype(np.uint8)


def _compare(name: str, ours, theirs, picture: np.ndarray, tolerance: int = 1) -> None:
    import_timm()
    import torch
    from torchvision.transforms import functional

    for channels in (1, 3):
        pixels = np.ascontiguousarray(picture[:, :, :channels])
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)
        expected = theirs(functional, tensor).permute(1, 2, 0).numpy().astype(np.float32)
        host = ours(np, pixels.astype(np.float32))
        device = jax.jit(partial(ours, jnp))(pixels.astype(np.float32))
        assert (host.dtype, device.dtype) == (np.float32, np.float32)
        assert np.abs(host - expected).max() <= tolerance, name
        assert np.abs(host - np.asarray(device)).max() <= tolerance, name


@pytest.mark.parametrize("bits", [0, 1, 4, 7, 8])
def test_posterize(picture, bits) -> None:
    ours = partial(_last, tones.posterize, bits)
    _compare("posterize", ours, lambda functional, image: functional.posterize(image, bits), picture, 0)


@pytest.mark.parametrize("threshold", [0, 100, 255])
def test_solarize(picture, threshold) -> None:
    ours = partial(_last, tones.solarize, threshold)
    _compare("solarize", ours, lambda functional, image: functional.solarize(image, threshold), picture, 0)


def test_autocontrast(picture) -> None:
    _compare("autocontrast", tones.autocontrast, lambda functional, image: functional.autocontrast(image), picture)


def test_equalize(picture) -> None:
    for image in (
        picture,
        picture[:2, :3],
        np.full((4, 4, 3), 7, np.uint8),
    ):  # too few pixels for a step, and one level
        _compare("equalize", tones.equalize, lambda functional, image: functional.equalize(image), image, 0)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.9])
def test_sharpness(picture, factor) -> None:
    ours = partial(_last, tones.sharpness, factor)
    for image in (picture, picture[:2]):
        _compare("sharpness", ours, lambda functional, image: functional.adjust_sharpness(image, factor), image)


@pytest.mark.parametrize(("sigma", "radius"), [(0.1, 2), (1.3, 4), (8.0, 36)])
def test_blur(picture, sigma, radius) -> None:
    _compare(
        "blur",
        lambda xp, pixels: blur(xp, pixels, sigma, radius),
        lambda functional, image: functional.gaussian_blur(image, [2 * radius + 1] * 2, [sigma, sigma]),
        picture,
    )


def test_the_blurs_radius_fits_small_images() -> None:
    assert radius_of(2.0, (3, 50)) == 2
    assert radius_of(2.0, (1, 1)) == 0
    np.testing.assert_array_equal(blur(np, np.full((1, 1, 1), 9, np.float32), 2.0, 0), [[[9]]])


def _last(function, argument, xp, pixels):
    return function(xp, pixels, argument)
