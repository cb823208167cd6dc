"""Random-resized crops: where they lie, and their pixels, resized by OpenCV where that is as good as Pillow."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxtl.data.bands import each_band, to_array
from jaxtl.data.preprocess import INTERPOLATIONS

TRIES = 10
DRAWS = 2 + 2 * TRIES
"""Random numbers that a crop takes."""
BARELY = 1.15
"""Up to so many pixels in the place of one the filter is the one asked for, without antialiasing."""
MILDLY = 1.7
"""Up to so many it is the bilinear one, which is nearer to an antialiased bicubic one than a bicubic one is."""
_TOGETHER = 4  # channels that OpenCV takes at a time
_BY_OPENCV = {"bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC"}
_PILLOW = -1  # no flag of OpenCV's


ReadParts = Callable[[np.ndarray], Iterable[np.ndarray]]
"""From a box of each image, int64 (images, 4) as `crop_boxes` gives them, what is in it, uint8 (rows, columns,
channels). Each holds until the next one is asked for, and may not be written to."""


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
    sizes = np.asarray(sizes, np.float64)
    narrowest, widest = math.log(ratio[0]), math.log(ratio[1])
    area = (scale[0] + draws[:, 2::2] * (scale[1] - scale[0])) * sizes.prod(1)[:, None]
    side, wider = np.sqrt(area), np.exp((narrowest + draws[:, 3::2] * (widest - narrowest)) / 2)
    tried = np.rint(np.stack([side * wider, side / wider], 2))
    fits = ((tried > 0) & (tried <= sizes[:, None])).all(2)
    each, first = np.arange(len(fits)), fits.argmax(1)
    crop = tried[each, first]
    corner = np.floor(draws[:, :2] * (sizes - crop + 1))
    if len(none := np.flatnonzero(~fits[each, first])):
        largest = np.clip(np.rint(sizes[none, ::-1] * (ratio[1], 1 / ratio[0])), 1, sizes[none])
        crop[none], corner[none] = largest, (sizes[none] - largest) // 2
    return np.concatenate([corner, corner + crop], 1).astype(np.int64)


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

    Bilinear and bicubic are OpenCV's, several times faster than Pillow's. Where the image is enlarged, or becomes
    smaller by `BARELY` at most, they are without antialiasing; up to `MILDLY` both are bilinear; beyond, a pixel is the
    mean of the area that it covers. All other filters, and crops that shrink by more on one side while the other one
    grows, are Pillow's. Of photographs OpenCV's pixels are on average at most 1 level of 255 away from Pillow's where
    they are enlarged, and at most 3 where they are reduced.

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
    if out is None:
        out = np.empty((*size, pixels.shape[2]), np.uint8)
    resized_crops(parts_of([pixels]), np.array([box]), interpolation, out[None])
    return out


def parts_of(images: Sequence[np.ndarray]) -> ReadParts:
    """Of images in memory, uint8 (height, width, channels).

    >>> [part.tolist() for part in parts_of([np.array([[1, 2, 3], [4, 5, 6]])])(np.array([[1, 0, 3, 1]]))]
    [[[2, 3]]]
    """

    def read(boxes: np.ndarray) -> list[np.ndarray]:
        each = zip(images, boxes.tolist(), strict=True)
        return [image[top:bottom, left:right] for image, (left, top, right, bottom) in each]

    return read


def resized_crops(
    read: ReadParts, boxes: np.ndarray, interpolation: str, out: np.ndarray, mirrored: np.ndarray | None = None
) -> None:
    """`resized_crop` of several images with the same channels.

    Args:
        read: gives their parts.
        boxes: int64 (images, 4).
        interpolation: one of `jaxtl.data.preprocess.INTERPOLATIONS`.
        out: uint8 (images, height, width, channels), contiguous.
        mirrored: which of them are mirrored besides, bool (images,).
    """
    import cv2

    (height, width), together = out.shape[1:3], out.shape[3] <= _TOGETHER
    by_pillow = operator.methodcaller("resize", (width, height), INTERPOLATIONS[interpolation])
    ways = _ways(boxes, out.shape[1:3], interpolation)
    turns = itertools.repeat(False, len(boxes)) if mirrored is None else mirrored.tolist()
    for found, crop, way, turn in zip(list(out), read(boxes), ways, turns, strict=True):
        if way == _PILLOW:
            found[:] = to_array(each_band(crop, by_pillow))
        elif together:
            cv2.resize(crop, (width, height), found, 0, 0, way)
        else:
            for first in range(0, crop.shape[2], _TOGETHER):
                part = found[:, :, first : first + _TOGETHER]
                resized = cv2.resize(crop[:, :, first : first + _TOGETHER], (width, height), interpolation=way)
                part[:] = resized.reshape(part.shape)
        if turn:
            mirror(found)


def _ways(boxes: np.ndarray, size: Sequence[int], interpolation: str) -> list[int]:
    """How each crop is resized: by OpenCV with that flag, or by Pillow."""
    import cv2

    if interpolation not in _BY_OPENCV:
        return [_PILLOW] * len(boxes)
    fewer = (boxes[:, 3:1:-1] - boxes[:, 1::-1]) / size
    most, flags = fewer.max(1), (getattr(cv2, _BY_OPENCV[interpolation]), cv2.INTER_LINEAR, cv2.INTER_AREA)
    ways = np.take(flags, np.searchsorted((BARELY, MILDLY), most))
    return np.where((most > MILDLY) & (fewer.min(1) < 1), _PILLOW, ways).tolist()


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
