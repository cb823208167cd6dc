"""Changes of colour, as torchvision's ``ColorJitter`` means them: for NumPy arrays, and for JAX arrays inside jit.

Each takes the array module (``numpy`` or ``jax.numpy``), float32 pixels of whole numbers from 0 to 255, (height, width,
channels), and gives such pixels. They differ by at most 1 from ``torchvision.transforms.functional`` on uint8 tensors,
which cuts fractions off where these round.
"""

from __future__ import annotations

from typing import Any

_RED, _GREEN, _BLUE = 0.2989, 0.587, 0.114  # of the luma


def brightness(xp: Any, pixels: Any, factor: Any) -> Any:
    """All values times the factor: 0 is black, 1 the image.

    >>> import numpy as np
    >>> brightness(np, np.full((1, 1, 3), 100.0, np.float32), 1.5)[0, 0, 0].item()
    150.0
    """
    return whole(xp, pixels * factor)


def contrast(xp: Any, pixels: Any, factor: Any) -> Any:
    """Blends with the mean of the image in grey: 0 is that grey, 1 the image. Of other channels than one and three each
    blends with its own mean."""
    height, width = pixels.shape[:2]
    if pixels.shape[-1] not in (1, 3):
        means = xp.sum(pixels.astype(xp.int32), axis=(0, 1)).astype(xp.float32) / (height * width)
        return blend(xp, pixels, means, factor)
    # whole numbers, so that the sum does not depend on the order of its terms
    mean = xp.sum(_grey(xp, pixels).astype(xp.int32)).astype(xp.float32) / (height * width)
    return blend(xp, pixels, mean, factor)


def saturation(xp: Any, pixels: Any, factor: Any) -> Any:
    """Blends with the image in grey: 0 is grey, 1 the image. Images of one channel stay as they are."""
    return pixels if pixels.shape[-1] == 1 else blend(xp, pixels, _grey(xp, pixels), factor)


def hue(xp: Any, pixels: Any, turn: Any) -> Any:
    """Turns the hue by that part of the circle, -0.5 to 0.5. Images of one channel stay as they are.

    >>> import numpy as np
    >>> hue(np, np.array([[[255, 0, 0]]], np.float32), 1 / 3).tolist()  # red becomes green
    [[[0.0, 255.0, 0.0]]]
    """
    if pixels.shape[-1] == 1:
        return pixels
    red, green, blue = (pixels[..., channel] for channel in range(3))
    value = xp.max(pixels, axis=-1)
    spread = value - xp.min(pixels, axis=-1)
    divisor = xp.where(spread == 0, 1, spread)
    sixth = xp.where(
        value == red,
        (green - blue) / divisor,
        xp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    # the inverse for all three channels: Smith 1978, in the form without cases
    turned = [(sixth + 6 * turn + step) % 6 for step in (5, 3, 1)]
    parts = [xp.clip(xp.minimum(angle, 4 - angle), 0, 1) for angle in turned]
    return whole(xp, xp.stack([value - spread * part for part in parts], axis=-1))


CHANGES = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
RGB_ONLY = ("saturation", "hue")


def factor_range(name: str, amount: float) -> tuple[float, float]:
    """The (smallest, largest) factor, or turn of the hue, that an amount of jitter allows.

    >>> factor_range("contrast", 0.5), factor_range("brightness", 2.0), factor_range("hue", 0.25)
    ((0.5, 1.5), (0.0, 3.0), (-0.25, 0.25))
    """
    return (-amount, amount) if name == "hue" else (max(0.0, 1 - amount), 1 + amount)


def _grey(xp: Any, pixels: Any) -> Any:
    if pixels.shape[-1] == 1:
        return pixels
    luma = _RED * pixels[..., 0] + _GREEN * pixels[..., 1] + _BLUE * pixels[..., 2]
    return xp.floor(luma)[..., None]


def grey(xp: Any, pixels: Any) -> Any:
    """The image in grey, with as many channels."""
    return xp.broadcast_to(_grey(xp, pixels), pixels.shape)


def blend(xp: Any, pixels: Any, other: Any, factor: Any) -> Any:
    """The factor times the image, and the rest the other one; above 1 it goes on beyond the image."""
    return whole(xp, factor * pixels + (1 - factor) * other)


def whole(xp: Any, pixels: Any) -> Any:
    """Rounded to whole numbers from 0 to 255."""
    return xp.clip(xp.floor(pixels + 0.5), 0, 255).astype(xp.float32)
