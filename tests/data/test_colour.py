"""Changes of colour, beside torchvision's functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from timm_guest import import_timm

from jaxtl.data.augment import Augment
from jaxtl.data.colour import CHANGES, factor_range
from jaxtl.data.preprocess import Preprocess

FACTORS = {
    "brightness": (0.0, 0.6, 1.0, 1.7),
    "contrast": (0.0, 0.6, 1.0, 1.7),
    "saturation": (0.0, 0.5, 1.0, 2.5),
    "hue": (-0.5, -0.13, 0.0, 0.31, 0.5),
}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Random colours, and greys, black, white and pure ones among them."""
    found = np.random.default_rng(0).integers(0, 256, (21, 19, 3), dtype=np.uint8)
    found[0] = found[0, :, :1]
    found[1, :6] = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]
    return found


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_values_are_torchvisions(picture, name, channels):
    import_timm()
    import torch
    from torchvision.transforms import functional

    pixels = picture[:, :, :channels]
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    ours = jax.jit(lambda factor: CHANGES[name](jnp, jnp.asarray(pixels, jnp.float32), factor))
    for factor in FACTORS[name]:
        theirs = getattr(functional, f"adjust_{name}")(tensor, factor).permute(1, 2, 0).numpy().astype(np.float32)
        host = CHANGES[name](np, pixels.astype(np.float32), np.float32(factor))
        assert host.dtype == np.float32
        assert np.abs(host - theirs).max() <= 1
        assert np.abs(host - np.asarray(ours(factor))).max() <= 1


@pytest.mark.parametrize("name", CHANGES)
def test_factors_are_torchvisions(name):
    import_timm()
    from torchvision.transforms import ColorJitter

    for amount in (0.1, 0.5) if name == "hue" else (0.1, 0.5, 1.8):
        assert factor_range(name, amount) == pytest.approx(getattr(ColorJitter(**{name: amount}), name))


def test_on_the_host_the_changes_come_in_random_order_after_the_rest(picture):
    image, preprocess = Image.fromarray(picture[:16, :16]), Preprocess(16, crop_pct=1.0)
    plain = preprocess(image)
    dim = Augment(scale=None, flip=0.0, brightness=0.5)
    assert dim.is_random
    rng = np.random.default_rng(0)
    shares = [dim(image, preprocess, rng).sum() / plain.sum() for _ in range(200)]
    assert 0.5 <= min(shares) < 0.55
    assert 1.2 < max(shares) < 1.5  # what is too bright is cut off
    all_four = Augment(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    once, again = (all_four(image, preprocess, np.random.default_rng(5)) for _ in range(2))
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, again)
    without = Augment()(image, preprocess, np.random.default_rng(5))
    assert (once != without).any()
    grey = Augment(saturation=0.4, hue=0.1)(image, preprocess.with_channels(1), np.random.default_rng(5))
    np.testing.assert_array_equal(grey, Augment()(image, preprocess.with_channels(1), np.random.default_rng(5)))
