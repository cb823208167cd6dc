"""scikit-learn's digits: 1797 handwritten digits of 8x8 pixels that come with the package, so no network is needed."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from jaxtl.data.kinds import Options
from jaxtl.data.opened import Opened

CLASSES = tuple("0123456789")
_BRIGHTEST = 16  # scikit-learn counts dark pixels in cells of 4x4


class ArraySource:
    """Greyscale images held in memory.

    Args:
        images: uint8 (images, height, width).
        labels: int (images,).
        names: one unique name per image.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, names: list[str]) -> None:
        self._images = images
        self.labels = labels.astype(np.int32)
        self.names = names

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self._images[index]), int(self.labels[index])

    def identity(self, index: int) -> str:
        return f"{self.names[index]}\t{hashlib.sha256(self._images[index].tobytes()).hexdigest()}"

    def stamp(self, index: int) -> str:
        return self.identity(index)

    def size(self, index: int) -> tuple[int, int]:
        height, width = self._images.shape[1:3]
        return width, height


def load_digits() -> ArraySource:
    """All digits (Alpaydin and Kaynak 1998, UCI), bright on black, in scikit-learn's order.

    >>> digits = load_digits()
    >>> len(digits), digits[0][0].size, digits[0][0].mode, digits[0][1]
    (1797, (8, 8), 'L', 0)
    """
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    images = np.round(pixels.reshape(-1, 8, 8) * (255 / _BRIGHTEST)).astype(np.uint8)
    return ArraySource(images, labels, [f"digit-{index:04d}" for index in range(len(images))])


def open_source(path: str, channels: int, options: Options) -> Opened:
    """The same as `jaxtl.data.open` takes it."""
    return Opened(CLASSES, load_digits())
