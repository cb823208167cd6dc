"""Pictures of any number of channels: PIL images, and arrays of bands that PIL has no mode for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

Picture = Image.Image | np.ndarray
"""A PIL image, or uint8 (height, width, channels)."""


def size_of(picture: Picture) -> tuple[int, int]:
    """Width and height in pixels.

    >>> size_of(np.zeros((3, 4, 6), np.uint8)), size_of(Image.new("RGB", (4, 3)))
    ((4, 3), (4, 3))
    """
    return picture.size if isinstance(picture, Image.Image) else (picture.shape[1], picture.shape[0])


def each_band(picture: Picture, change: Callable[[Image.Image], Image.Image]) -> Picture:
    """The picture after a change of PIL's: of the image, or of every band of an array as an image in mode "L".

    >>> each_band(np.zeros((3, 4, 6), np.uint8), lambda band: band.resize((8, 5))).shape
    (5, 8, 6)
    """
    if isinstance(picture, Image.Image):
        return change(picture)
    bands = (Image.fromarray(np.ascontiguousarray(picture[:, :, band])) for band in range(picture.shape[2]))
    return np.stack([np.asarray(change(band)) for band in bands], axis=-1)


def to_array(picture: Picture) -> np.ndarray:
    """The picture's own pixels, uint8 (height, width, channels), greyscale with one channel."""
    pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def as_grey(picture: Picture) -> Image.Image:
    """In mode "L": of an array the mean of its bands.

    >>> as_grey(np.full((1, 1, 4), [[[0, 0, 100, 100]]], np.uint8)).getpixel((0, 0))
    50
    """
    if isinstance(picture, Image.Image):
        return picture.convert("L")
    return Image.fromarray(np.round(to_array(picture).mean(axis=2)).astype(np.uint8))


def is_grey(pixels: np.ndarray) -> bool:
    """Whether an image (height, width) or (height, width, channels) has no colour; three equal channels are none.

    >>> grey = np.full((2, 2, 3), 7, np.uint8)
    >>> is_grey(grey), is_grey(grey + np.array([0, 0, 1], np.uint8))
    (True, False)
    """
    if pixels.ndim == 2 or pixels.shape[2] != 3:
        return pixels.ndim == 2 or pixels.shape[2] == 1

    def equal(part: np.ndarray) -> bool:
        return bool((part[..., 0] == part[..., 1]).all() and (part[..., 1] == part[..., 2]).all())

    return equal(pixels[::16, ::16]) and equal(pixels)
