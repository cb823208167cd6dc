"""Gaussian blur, for NumPy arrays and for JAX arrays inside jit."""

from __future__ import annotations

import math
from typing import Any

from jaxtl.data.colour import whole


def radius_of(largest_sigma: float, size: tuple[int, int]) -> int:
    """How far the kernel reaches for sigmas up to that, in pixels: three sigmas, and less than the image.

    >>> radius_of(2.0, (224, 224)), radius_of(2.0, (4, 9))
    (6, 3)
    """
    return min(math.ceil(3 * largest_sigma), min(size) - 1)


def blur(xp: Any, pixels: Any, sigma: Any, radius: int) -> Any:
    """Each pixel becomes the mean of those around it, weighted by a normal distribution; the image is mirrored at its
    rim. ``torchvision.transforms.functional.gaussian_blur`` with a kernel of ``2 * radius + 1``.

    Args:
        xp: ``numpy`` or ``jax.numpy``.
        pixels: float32 (height, width, channels), whole numbers from 0 to 255; also what is given.
        sigma: standard deviation in pixels, above 0.
        radius: a Python number, less than both sides.

    >>> import numpy as np
    >>> spot = np.zeros((5, 5, 1), np.float32)
    >>> spot[2, 2] = 255
    >>> blur(np, spot, 1.0, 1)[2, :, 0].tolist()
    [0.0, 32.0, 52.0, 32.0, 0.0]
    """
    distances = xp.arange(-radius, radius + 1, dtype=xp.float32)
    weights = xp.exp(-0.5 * (distances / sigma) ** 2)
    weights = weights / weights.sum()
    mirrored = xp.pad(pixels, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    height, width = pixels.shape[:2]
    down = sum(weights[i] * mirrored[i : i + height] for i in range(2 * radius + 1))
    return whole(xp, sum(weights[i] * down[:, i : i + width] for i in range(2 * radius + 1)))
