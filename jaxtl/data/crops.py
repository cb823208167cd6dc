"""Random-resized crops: where they lie, and their pixels, resized by OpenCV where that is as good as Pillow."""

from __future__ import annotations

import math

import numpy as np

from jaxtl.data.bands import each_band, to_array
from jaxtl.data.preprocess import INTERPOLATIONS

TRIES = 10
BARELY = 1.3
"""Up to so many pixels in the place of one are resized without antialiasing."""
_TOGETHER = 4  # channels that OpenCV takes at a time
_BY_OPENCV = {"bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC"}


def crop_box(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A random crop of an image of that (width, height), as (left, top, right, bottom) in pixels.

    The Inception crop as torchvision does it (Szegedy et al. 2014, arXiv:1409.4842): ten tries, then the largest
    central crop with an allowed ratio.

    Args:
        size: of the image.
        scale: the crop's share of the area, (smallest, largest).
        ratio: its width over its height, (smallest, largest), drawn uniformly in the logarithm.
        rng: gives the same count of numbers to every image.

    >>> crop_box((100, 50), (1.0, 1.0), (1.0, 1.0), np.random.default_rng(0))  # a square of full area does not fit
    (25, 0, 75, 50)
    """
    width, height = size
    smallest, largest = scale
    narrowest, widest = math.log(ratio[0]), math.log(ratio[1])
    x, y, *tries = rng.random(2 + 2 * TRIES).tolist()  # one call: each takes longer than all of the rest
    for share, shape in zip(tries[::2], tries[1::2], strict=True):
        area = (smallest + share * (largest - smallest)) * width * height
        aspect = math.exp(narrowest + shape * (widest - narrowest))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = int(x * (width - crop_width + 1)), int(y * (height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    crop_width = min(width, max(1, round(height * ratio[1])))
    crop_height = min(height, max(1, round(width / ratio[0])))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def resized_crop(
    pixels: np.ndarray,
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    interpolation: str,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """A part of an image at another size, uint8 (height, width, channels), in `out` where that is given.

    Bilinear and bicubic are OpenCV's, several times faster than Pillow's: without antialiasing where the image is
    enlarged or becomes smaller by `BARELY` at most, else the mean of the area that a pixel covers. All other filters,
    and crops that shrink on one side while the other one grows, are Pillow's. Of photographs OpenCV's pixels are on
    average at most 1 level of 255 away from Pillow's where they are enlarged, and at most 3 where they are reduced.

    Args:
        pixels: uint8 (height, width, channels).
        box: left, top, right and bottom.
        size: (height, width) wanted.
        interpolation: one of `jaxtl.data.preprocess.INTERPOLATIONS`.
        out: uint8 (height, width, channels), contiguous.

    >>> stripes = np.array([[[0], [100], [0], [100]]], np.uint8)
    >>> resized_crop(stripes, (0, 0, 4, 1), (1, 2), "bicubic")[0, :, 0].tolist()
    [50, 50]
    """
    left, top, right, bottom = box
    height, width = size
    crop = pixels[top:bottom, left:right]
    if out is None:
        out = np.empty((height, width, pixels.shape[2]), np.uint8)
    fewer = sorted(((bottom - top) / height, (right - left) / width))
    filter_name = _BY_OPENCV.get(interpolation)
    if filter_name is None or (fewer[1] > BARELY and fewer[0] < 1):
        resample = INTERPOLATIONS[interpolation]
        out[:] = to_array(each_band(crop, lambda band: band.resize((width, height), resample)))
        return out
    import cv2

    how = cv2.INTER_AREA if fewer[1] > BARELY else getattr(cv2, filter_name)
    if pixels.shape[2] <= _TOGETHER:
        cv2.resize(crop, (width, height), dst=out, interpolation=how)
        return out
    for first in range(0, pixels.shape[2], _TOGETHER):
        part = out[:, :, first : first + _TOGETHER]
        part[:] = cv2.resize(crop[:, :, first : first + _TOGETHER], (width, height), interpolation=how).reshape(
            part.shape
        )
    return out


def mirror(pixels: np.ndarray) -> None:
    """Exchanges left and right of an image, uint8 (height, width, channels), contiguous.

    >>> pixels = np.array([[[1, 2], [3, 4]]], np.uint8)
    >>> mirror(pixels)
    >>> pixels.tolist()
    [[[3, 4], [1, 2]]]
    """
    import cv2

    if pixels.shape[2] > _TOGETHER:
        pixels[:] = pixels[:, ::-1].copy()
    else:
        cv2.flip(pixels, 1, dst=pixels)
