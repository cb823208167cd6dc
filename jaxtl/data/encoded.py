"""Images whose files lie inside something larger: a shard, a table, a record."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import numpy as np

from jaxtl.data.bands import Picture
from jaxtl.data.images import decode_image, decode_pixels, image_size
from jaxtl.errors import InputError


class EncodedSource:
    """Image files that are given as bytes, and their labels; decoded when they are asked for.

    Args:
        read: from an index to the bytes of the file; called from several threads.
        names: one unique name an image.
        labels: int32 (N,) or float32 (N, K).
        channels: 3 reads RGB images, 1 greyscale ones, others arrays of bands.
        identity: from an index to what changes when the image changes; None: its name and a digest of the bytes.
        stamp: from an index to where the bytes lie and when that was written, or None where it is not known.

    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (4, 3), "red").save(file, "PNG")
    >>> source = EncodedSource(lambda index: file.getvalue(), ["red"], np.zeros(1, np.int32))
    >>> source[0][0].size, source.size(0), source.stamp(0)
    ((4, 3), (4, 3), None)
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        names: list[str],
        labels: np.ndarray,
        channels: int = 3,
        *,
        identity: Callable[[int], str] | None = None,
        stamp: Callable[[int], str | None] = lambda index: None,
    ) -> None:
        self._read = read
        self._channels = channels
        self._identity = identity
        self._stamp = stamp
        self.names = names
        self.labels = labels

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Picture, int]:
        return self._decoded(index, None), label_of(self.labels, index)

    def identity(self, index: int) -> str:
        if self._identity is not None:
            return self._identity(index)
        return f"{self.names[index]}\t{hashlib.sha256(self._read(index)).hexdigest()}"

    def stamp(self, index: int) -> str | None:
        return self._stamp(index)

    def size(self, index: int) -> tuple[int, int] | None:
        try:
            return image_size(io.BytesIO(self._read(index)), self._channels)
        except InputError:  # there is no file
            return None

    def check(self, index: int) -> None:
        self._decoded(index, 1)

    def reduced(self, index: int, at_least: int) -> Picture:
        return self._decoded(index, at_least)

    def pixels(self, index: int, at_least: int | None) -> np.ndarray:
        return decode_pixels(self._read(index), self._what(index), self._channels, at_least)

    def in_colour(self, index: int) -> Picture:
        return decode_image(self._read(index), self._what(index), 3 if self._channels == 1 else self._channels)

    def _decoded(self, index: int, at_least: int | None) -> Picture:
        return decode_image(self._read(index), self._what(index), self._channels, at_least)

    def _what(self, index: int) -> str:
        return f"image '{self.names[index]}'"


def label_of(labels: np.ndarray, index: int) -> int:
    """A label as a source gives it: a whole number, or the row where there are several.

    >>> label_of(np.array([3, 4]), 1), label_of(np.ones((2, 2)), 0).tolist()
    (4, [1.0, 1.0])
    """
    return int(labels[index]) if labels.ndim == 1 else labels[index]
