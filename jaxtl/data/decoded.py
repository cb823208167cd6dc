"""Decoded images on disk: written once, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxtl import cache
from jaxtl.errors import InputError

KIND = "decoded"


class DecodedImages:
    """Images of a folder that a `Writer` made: ``images[i]`` is uint8 (height, width, channels), read only.

    They are read one by one: the pages of a memory map would count as the process's own memory. Threads may share it.
    ``i in images`` tells whether an image was written.

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

    def __contains__(self, index: int) -> bool:
        return bool(self._places[index, 1])

    def __getitem__(self, index: int) -> np.ndarray:
        (_, height), rows = self.opened(index)
        return rows(0, height)

    def opened(self, index: int) -> tuple[tuple[int, int], Callable[[int, int], np.ndarray]]:
        """Width and height of an image, and what reads its rows from one number up to another."""
        start, height, width, channels = self._places[index].tolist()

        def rows(top: int, bottom: int) -> np.ndarray:
            row = width * channels
            pixels = os.pread(self._file.fileno(), (bottom - top) * row, start + top * row)
            return np.frombuffer(pixels, np.uint8).reshape(bottom - top, width, channels)

        return (width, height), rows


def read(key: str) -> DecodedImages | None:
    """The images of that key, or None where they are not there or not whole.

    Args:
        key: as in `Writer`.
    """
    folder = cache.find(KIND, key)
    try:
        return None if folder is None else DecodedImages(folder)
    except (OSError, ValueError, KeyError):
        return None


class NotKept(InputError):
    """Decoded images cannot be written to the disk."""


class Writer:
    """Writes images that are decoded into jaxtl's cache, in any order and from several threads.

    A process that is killed leaves nothing that `read` takes for whole, and so does a writer that nobody needs any
    more. Of two that write a key, one wins.

    Args:
        key: a folder's name, which must change with the pixels.
        count: how many images there are.
        what: the images, for people.

    Raises:
        NotKept: the disk is full, here and in all methods.
        InputError: the cache may not be written to.

    >>> writer = Writer("doctest", 2, "two")
    >>> writer.add(1, np.ones((2, 3, 1), np.uint8))
    >>> 0 in writer, 1 in writer
    (False, True)
    >>> images = writer.finish()
    >>> 0 in images, images[1].shape, read("other")
    (False, (2, 3, 1), None)
    """

    def __init__(self, key: str, count: int, what: str) -> None:
        if read(key) is None:
            cache.remove(KIND, key)
        self._key = key
        self._about: dict[str, Any] = {"what": what, "images": count}
        self._places = np.zeros((count, 4), np.int64)
        self._size = 0
        self._lock = threading.Lock()
        self._entry = contextlib.ExitStack()
        self._folder = self._entry.enter_context(cache.written(KIND, key, self._about))
        with _not_kept():
            self._file = (self._folder / "pixels.bin").open("wb", buffering=0)
        self.abandon = weakref.finalize(self, _abandon, self._entry, self._file)

    def __contains__(self, index: int) -> bool:
        return bool(self._places[index, 1])

    def add(self, index: int, image: np.ndarray) -> None:
        """Writes an image, uint8 (height, width, channels)."""
        with self._lock:
            start = self._size
            self._size += image.nbytes
        left = np.ascontiguousarray(image, np.uint8).data.cast("B")
        with _not_kept():
            while left:
                done = os.pwrite(self._file.fileno(), left, start)
                left, start = left[done:], start + done
        self._places[index] = (start - image.nbytes, *image.shape)

    def finish(self) -> DecodedImages:
        """Makes the entry of what was added."""
        self._file.close()
        self._about["bytes"] = self._size
        self.abandon.detach()
        with _not_kept(), self._entry:
            np.save(self._folder / "places.npy", self._places)
        found = read(self._key)
        assert found is not None
        return found


@contextlib.contextmanager
def _not_kept() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotKept(
            f"decoded images cannot be kept in {cache.cache_folder() / KIND} ({error}): free some space, set "
            "JAXTL_CACHE to another folder, or open the data with storage='stream'"
        ) from error


def _abandon(entry: contextlib.ExitStack, file: IO[bytes]) -> None:
    file.close()
    with contextlib.suppress(GeneratorExit), entry:
        raise GeneratorExit
