"""Decoded images on disk: written once, whole or not at all."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl import cache

KIND = "decoded"
_TOGETHER = 64  # images decoded before they are written


class DecodedImages:
    """Images of a folder that `write` made: ``images[i]`` is uint8 (height, width, channels), read only.

    They are read one by one: the pages of a memory map would count as the process's own memory. Threads may share it.

    Args:
        folder: holds ``about.json``, ``pixels.bin`` and ``places.npy``.
    """

    def __init__(self, folder: Path) -> None:
        self.about: dict[str, Any] = json.loads((folder / "about.json").read_text())
        self._places = np.load(folder / "places.npy")
        self._file = (folder / "pixels.bin").open("rb", buffering=0)
        if os.fstat(self._file.fileno()).st_size != self.about["bytes"]:
            self._file.close()
            raise ValueError(f"{folder} is not whole")
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        start, height, width, channels = self._places[index]
        pixels = os.pread(self._file.fileno(), height * width * channels, start)
        return np.frombuffer(pixels, np.uint8).reshape(height, width, channels)


def read(key: str) -> DecodedImages | None:
    """The images of that key, or None where they are not there or not whole.

    Args:
        key: as in `write`.
    """
    folder = cache.find(KIND, key)
    try:
        return None if folder is None else DecodedImages(folder)
    except (OSError, ValueError, KeyError):
        return None


def write(key: str, count: int, load: Callable[[int], np.ndarray], *, what: str, threads: int = 1) -> DecodedImages:
    """Decodes all images and keeps them in jaxtl's cache.

    A process that is killed leaves nothing that `read` takes for whole. Of two processes that write a key, one wins.

    Args:
        key: a folder's name, which must change with the pixels.
        count: how many images there are.
        load: from an index to uint8 (height, width, channels); called from several threads.
        what: the images, for people.
        threads: images decoded at the same time.

    Raises:
        OSError: the disk is full; nothing is left behind.
        InputError: the cache may not be written to.

    >>> images = write("doctest", 2, lambda i: np.full((i + 1, 3, 1), i, np.uint8), what="two")
    >>> images[1].shape, int(read("doctest")[1].sum()), read("other")
    ((2, 3, 1), 6, None)
    """
    if read(key) is None:
        cache.remove(KIND, key)
    about: dict[str, Any] = {"what": what, "images": count}
    with cache.written(KIND, key, about) as folder:
        places = np.zeros((count, 4), np.int64)
        size = 0
        with (folder / "pixels.bin").open("wb") as file:
            for index, image in enumerate(_in_order(load, count, threads)):
                places[index] = (size, *image.shape)
                file.write(np.ascontiguousarray(image, np.uint8).data)
                size += image.nbytes
        np.save(folder / "places.npy", places)
        about["bytes"] = size
    found = read(key)
    assert found is not None
    return found


def _in_order(load: Callable[[int], np.ndarray], count: int, threads: int) -> Iterator[np.ndarray]:
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, count, _TOGETHER):
            yield from pool.map(load, range(start, min(start + _TOGETHER, count)))
