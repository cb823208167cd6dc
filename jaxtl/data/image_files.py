"""Image files on disk as a source, wherever their labels come from."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from jaxtl.data.bands import Picture
from jaxtl.data.encoded import label_of
from jaxtl.data.images import image_size, read_image, read_pixels


class FileSource:
    """Image files with labels of any kind; files are opened when they are asked for.

    Args:
        root: the folder that names are relative to.
        names: paths of the images, with forward slashes, from root on or absolute.
        labels: int32 (N,) or float32 (N, K).
        channels: 3 reads RGB images, 1 greyscale ones, others arrays of bands.
    """

    def __init__(self, root: Path, names: list[str], labels: np.ndarray, channels: int = 3) -> None:
        self._root = root
        self._channels = channels
        self.names = names
        self.labels = labels

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Picture, int]:
        return read_image(self.path(index), self._channels), label_of(self.labels, index)

    def path(self, index: int) -> Path:
        return self._root / self.names[index]

    def check(self, index: int) -> None:
        read_image(self.path(index), self._channels, at_least=1)

    def identity(self, index: int) -> str:
        return f"{self.names[index]}\t{self.path(index).stat().st_size}"

    def stamp(self, index: int) -> str:
        path = os.path.join(self._place, self.names[index])  # names may be absolute
        found = os.stat(path)
        return f"{path}\t{found.st_size}\t{found.st_mtime_ns}"

    def size(self, index: int) -> tuple[int, int] | None:
        return image_size(self.path(index), self._channels)

    def reduced(self, index: int, at_least: int) -> Picture:
        return read_image(self.path(index), self._channels, at_least)

    def pixels(self, index: int, at_least: int | None) -> np.ndarray:
        return read_pixels(self.path(index), self._channels, at_least)

    def in_colour(self, index: int) -> Picture:
        return read_image(self.path(index), 3 if self._channels == 1 else self._channels)

    @cached_property
    def _place(self) -> Path:
        return self._root.resolve()
