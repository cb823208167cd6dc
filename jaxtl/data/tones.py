"""Changes of tone as RandAugment has them: for NumPy arrays, and for JAX arrays inside jit.

Each takes the array module (``numpy`` or ``jax.numpy``), float32 pixels of whole numbers from 0 to 255, (height, width,
channels), and gives such pixels. They differ by at most 1 from ``torchvision.transforms.functional`` on uint8 tensors,
which cuts fractions off where these round.
"""

from __future__ import annotations

from typing import Any

from jaxtl.data.colour import blend, whole


def posterize(xp: Any, pixels: Any, bits: Any) -> Any:
    """Keeps so many upper bits of each value, 0 to 8.

    >>> import numpy as np
    >>> posterize(np, np.array([[[0, 127, 255]]], np.float32), 2).tolist()
    [[[0.0, 64.0, 192.0]]]
    """
    step = 2.0 ** (8 - bits)
    return (xp.floor(pixels / step) * step).astype(xp.float32)


def solarize(xp: Any, pixels: Any, threshold: Any) -> Any:
    """Inverts the values from the threshold on.

    >>> import numpy as np
    >>> solarize(np, np.array([[[0, 127, 255]]], np.float32), 127).tolist()
    [[[0.0, 128.0, 0.0]]]
    """
    return xp.where(pixels >= threshold, 255 - pixels, pixels).astype(xp.float32)


def autocontrast(xp: Any, pixels: Any) -> Any:
    """Stretches each channel to the whole range from 0 to 255; one of a single value stays as it is."""
    low, high = pixels.min((0, 1)), pixels.max((0, 1))
    flat = high == low
    return xp.where(flat, pixels, whole(xp, (pixels - low) * (255 / xp.where(flat, 1, high - low)))).astype(xp.float32)


def equalize(xp: Any, pixels: Any) -> Any:
    """Makes each channel's values equally frequent, as PIL's ``ImageOps.equalize`` does."""
    return xp.stack([_equalized(xp, pixels[..., channel]) for channel in range(pixels.shape[-1])], axis=-1)


def _equalized(xp: Any, plane: Any) -> Any:
    values = plane.astype(xp.int32)
    below = xp.searchsorted(xp.sort(values.ravel()), xp.arange(256), side="left")  # how many are below each level
    step = below[values.max()] // 255
    table = xp.clip((below + step // 2) // xp.maximum(step, 1), 0, 255)
    return xp.where(step == 0, plane, table[values]).astype(xp.float32)


def sharpness(xp: Any, pixels: Any, factor: Any) -> Any:
    """Blends with a smoothed image: 0 is that, 1 the image, 2 a sharper one. The rim stays as it is."""
    height, width = pixels.shape[:2]
    if min(height, width) < 3:
        return pixels
    around = sum(pixels[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3))
    inner = pixels[1:-1, 1:-1]
    smooth = whole(xp, (around + 4 * inner) / 13)
    rows = xp.concatenate([pixels[1:-1, :1], blend(xp, inner, smooth, factor), pixels[1:-1, -1:]], axis=1)
    return xp.concatenate([pixels[:1], rows, pixels[-1:]], axis=0)
