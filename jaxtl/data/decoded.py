"""Decoded images on disk: written once, whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import json
import mmap
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from jaxtl import cache
from jaxtl.data.crops import ReadParts, parts_of
from jaxtl.errors import InputError
from jaxtl.notices import say

KIND = cache.DECODED
MAPPED = 512 * 2**20  # bytes of a file up to which it may become part of the process's memory

_own = threading.local()
_coming: dict[str, threading.Thread] = {}
"""By key, what makes an entry that nobody waited for."""


class DecodedImages:
    """Images that a `Writer` wrote: ``images[i]`` is uint8 (height, width, channels), read from the disk.

    Nothing is kept in memory, unless `map` asks for it; the system has what was read lately. Threads may share it.
    ``i in images`` tells whether an image was written.

    Args:
        about: what ``about.json`` says.
        places: of each image the first byte, height, width and channels, int64 (images, 4).
        file: the pixels' open descriptor, which is closed with the images.

    Raises:
        ValueError: the file has not the size that it should have.
    """

    def __init__(self, about: Mapping[str, Any], places: np.ndarray, file: int) -> None:
        weakref.finalize(self, os.close, file)
        self.about = about
        self._places = places
        self._file = file
        self._mapped: np.ndarray | None = None
        if os.fstat(file).st_size != about["bytes"]:
            raise ValueError(f"the pixels are not {about['bytes']} bytes")

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, index: int) -> bool:
        return bool(self._places[index, 1])

    def __getitem__(self, index: int) -> np.ndarray:
        height, width = self._places[index, 1:3]
        (whole,) = self.parts(np.array([index]))(np.array([[0, 0, width, height]]))
        return whole.copy()

    def map(self) -> None:
        """Makes a file of at most `MAPPED` bytes part of the process's memory, page by page as it is looked at: that
        is to be done before images are read many times, because the first time takes as long as to copy them. The
        system may take the memory back."""
        if self._mapped is None and 0 < self.about["bytes"] <= MAPPED:
            self._mapped = np.frombuffer(mmap.mmap(self._file, 0, prot=mmap.PROT_READ), np.uint8)

    def shapes(self, indices: np.ndarray) -> np.ndarray:
        """Height, width and channels of some images, int64 (images, 3); zeros where none was written."""
        return self._places[indices, 1:]

    def parts(self, indices: np.ndarray) -> ReadParts:
        """Reads parts of some images, for the thread that asks."""
        places = self._places[indices]
        if self._mapped is None:
            return functools.partial(self._read_parts, places)
        return parts_of(
            [self._mapped[start : start + h * w * c].reshape(h, w, c) for start, h, w, c in places.tolist()]
        )

    def _read_parts(self, places: np.ndarray, boxes: np.ndarray) -> Iterator[np.ndarray]:
        memory = _own_memory(int(places[:, 1:].prod(1).max(initial=0)))
        each = zip(places.tolist(), boxes.tolist(), strict=True)
        for (start, _, width, channels), (left, top, right, bottom) in each:
            start += top * width * channels
            pixels = memory[: (bottom - top) * width * channels]
            done = os.preadv(self._file, (pixels.data,), start)
            while done < pixels.size:
                if not (more := os.preadv(self._file, (pixels[done:].data,), start + done)):
                    raise OSError(f"{KIND} images end before byte {start + done}")
                done += more
            yield pixels.reshape(-1, width, channels)[:, left:right]


def _own_memory(size: int) -> np.ndarray:
    """At least so many bytes, the same ones for all that a thread reads: new memory costs more than what is read."""
    memory = getattr(_own, "memory", None)
    if memory is None or len(memory) < size:
        memory = _own.memory = np.empty(size, np.uint8)
    return memory


def read(key: str) -> DecodedImages | None:
    """The images of that key, or None where they are not there or not whole.

    Args:
        key: as in `Writer`.
    """
    if (coming := _coming.get(key)) is not None:
        coming.join()
    folder = cache.find(KIND, key)
    if folder is None:
        return None
    try:
        about = json.loads((folder / "about.json").read_text())
        places = np.load(folder / "places.npy")
        return DecodedImages(about, places, os.open(folder / "pixels.bin", os.O_RDONLY))
    except (OSError, ValueError, KeyError, EOFError):
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
            self._file = (self._folder / "pixels.bin").open("w+b", buffering=0)
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

    def finish(self, *, wait: bool = True) -> DecodedImages:
        """Makes the entry of what was added. The disk may take seconds for it: without `wait` that goes on by itself,
        to the end of the process at the latest, and a full disk, or a folder that was removed meanwhile, is no error
        then; the images can be read at once."""
        self._about["bytes"] = self._size
        with _not_kept():
            found = DecodedImages(self._about, self._places, os.dup(self._file.fileno()))
        self._file.close()
        self.abandon.detach()
        if wait:
            self._make_entry()
        else:
            _coming[self._key] = threading.Thread(target=self._make_entry_if_possible)
            _coming[self._key].start()
        return found

    def _make_entry(self) -> None:
        with _not_kept(), self._entry:
            np.save(self._folder / "places.npy", self._places)

    def _make_entry_if_possible(self) -> None:
        try:
            self._make_entry()
        except NotKept as error:
            say(f"the next run decodes its images again: {error}")
        finally:
            _coming.pop(self._key, None)


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
