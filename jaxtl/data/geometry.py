"""Rotation, shear, zoom and shift of an image around its centre."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Move:
    """What happens to an image, in this order: shear, rotation, zoom, shift.

    Attributes:
        rotate: in degrees, clockwise.
        shear_x: how far a row moves to the right for each row down.
        shear_y: how far a column moves down for each column to the right.
        zoom: a factor.
        shift_x: to the right, as a part of the width.
        shift_y: down, as a part of the height.
    """

    rotate: Any = 0.0
    shear_x: Any = 0.0
    shear_y: Any = 0.0
    zoom: Any = 1.0
    shift_x: Any = 0.0
    shift_y: Any = 0.0

    def back(self, xp: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """The matrix that takes a place in the result, counted from its centre and without the shift, to the image.

        >>> Move(zoom=2.0).back(np)[0][0].item()
        0.5
        """
        angle = xp.radians(self.rotate)
        cosine, sine = self.zoom * xp.cos(angle), self.zoom * xp.sin(angle)
        a, b = cosine - sine * self.shear_y, cosine * self.shear_x - sine
        c, d = sine + cosine * self.shear_y, sine * self.shear_x + cosine
        area = a * d - b * c
        return (d / area, -b / area), (-c / area, a / area)


def moved(pixels: np.ndarray, move: Move) -> np.ndarray:
    """The moved image, uint8 (height, width, channels), bilinear; what was uncovered takes the rim's median colour.

    >>> image = np.zeros((1, 4, 1), np.uint8)
    >>> image[0, 1] = 200
    >>> moved(image, Move(shift_x=0.25))[0, :, 0].tolist()
    [0, 0, 200, 0]
    """
    height, width, channels = pixels.shape
    back = np.array(move.back(np))
    centre = np.array([width / 2, height / 2])
    shift = np.array([move.shift_x * width, move.shift_y * height])
    origin = centre - back @ (centre + shift)
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    fill = tuple(int(value) for value in np.median(rim, axis=0))
    matrix = (*back[0], origin[0], *back[1], origin[1])

    def transformed(part: np.ndarray, colour: int | tuple[int, ...]) -> np.ndarray:
        how = Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        return np.asarray(Image.fromarray(part).transform((width, height), *how, fillcolor=colour))

    if channels == 3:
        return transformed(pixels, fill)
    bands = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    return np.stack([transformed(band, colour) for band, colour in zip(bands, fill, strict=True)], axis=-1)
