"""Random-resized crops: where they lie, and their pixels, resized by OpenCV where that is as good as Pillow."""

from __future__ import annotations

import math

import numpy as np

from jaxtl.data.bands import each_band, to_array
from jaxtl.data.preprocess import INTERPOLATIONS

TRIES = 10
DRAWS = 2 + 2 * TRIES
"""Random numbers that a crop takes."""
BARELY = 1.3
"""Up to so many pixels in the place of one are resized without antialiasing."""
_TOGETHER = 4  # channels that OpenCV takes at a time
_BY_OPENCV = {"bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC"}


def crop_boxes(
    sizes: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float], draws: np.ndarray
) -> np.ndarray:
    """A random crop of each image, int64 (images, 4): left, top, right and bottom in pixels.

    The Inception crop as torchvision does it (Szegedy et al. 2014, arXiv:1409.4842): ten tries, then the largest
    central crop with an allowed ratio.

    Args:
        sizes: width and height of each image, (images, 2).
        scale: the crop's share of the area, (smallest, largest).
        ratio: its width over its height, (smallest, largest), drawn uniformly in the logarithm.
        draws: (images, DRAWS), uniform in [0, 1).

    >>> crop_boxes([[100, 50]], (1.0, 1.0), (1.0, 1.0), np.full((1, DRAWS), 0.5))  # no square of the whole area fits
    array([[25,  0, 75, 50]])
    """
    width, height = np.asarray(sizes, np.float64).T
    narrowest, widest = math.log(ratio[0]), math.log(ratio[1])
    area = (scale[0] + draws[:, 2::2] * (scale[1] - scale[0])) * (width * height)[:, None]
    aspect = np.exp(narrowest + draws[:, 3::2] * (widest - narrowest))
    wide, high = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (wide > 0) & (wide <= width[:, None]) & (high > 0) & (high <= height[:, None])
    first, each = fits.argmax(1), np.arange(len(fits))
    found = fits[each, first]
    wide = np.where(found, wide[each, first], np.clip(np.rint(height * ratio[1]), 1, width))
    high = np.where(found, high[each, first], np.clip(np.rint(width / ratio[0]), 1, height))
    left = np.where(found, np.floor(draws[:, 0] * (width - wide + 1)), (width - wide) // 2)
    top = np.where(found, np.floor(draws[:, 1] * (height - high + 1)), (height - high) // 2)
    return np.stack([left, top, left + wide, top + high], 1).astype(np.int64)


def crop_box(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """The same of one image of that (width, height).

    >>> crop_box((100, 50), (1.0, 1.0), (1.0, 1.0), np.random.default_rng(0))
    (25, 0, 75, 50)
    """
    left, top, right, bottom = crop_boxes(np.array([size]), scale, ratio, rng.random((1, DRAWS)))[0].tolist()
    return left, top, right, bottom


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
