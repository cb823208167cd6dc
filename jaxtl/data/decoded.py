"""Decoded images on disk: written once, whole or not at all, and read through a memory map."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_BYTES = 20 * 10**9  # of all decoded images on disk
_ABANDONED_SECONDS = 3600  # a part that nobody has written to for so long
_TOGETHER = 64  # images decoded before they are written


class DecodedImages:
    """Images of a folder that `write` made: ``images[i]`` is uint8 (height, width, channels), read only.

    Args:
        folder: holds ``about.json``, ``pixels.bin`` and ``places.npy``.
    """

    def __init__(self, folder: Path) -> None:
        self.about: dict[str, Any] = json.loads((folder / "about.json").read_text())
        self._places = np.load(folder / "places.npy")
        self._pixels = np.memmap(folder / "pixels.bin", np.uint8, mode="r")
        if len(self._pixels) != self.about["bytes"]:
            raise ValueError(f"{folder} is not whole")

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        start, height, width, channels = self._places[index]
        return self._pixels[start : start + height * width * channels].reshape(height, width, channels)


def cache_folder() -> Path:
    """Where decoded images are kept: ``decoded`` in $JAXTL_CACHE, $XDG_CACHE_HOME/jaxtl or ~/.cache/jaxtl."""
    if given := os.environ.get("JAXTL_CACHE"):
        return Path(given).expanduser() / "decoded"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxtl" / "decoded"


def read(key: str, folder: Path | None = None) -> DecodedImages | None:
    """The images of that key, or None where they are not there or not whole.

    Args:
        key: as in `write`.
        folder: of all keys; None: `cache_folder`.
    """
    place = (folder or cache_folder()) / key
    try:
        found = DecodedImages(place)
    except (OSError, ValueError, KeyError):
        return None
    with contextlib.suppress(OSError):  # somebody else's folder
        os.utime(place / "about.json")  # the latest use: `make_room` removes what was not used for longest
    return found


def write(
    key: str,
    count: int,
    load: Callable[[int], np.ndarray],
    *,
    what: str,
    folder: Path | None = None,
    threads: int = 1,
) -> DecodedImages:
    """Decodes all images and keeps them under ``<folder>/<key>/``.

    They are written beside their place, and moved there when all of them are: a process that is killed leaves nothing
    that `read` takes for whole, and what it leaves is removed later. Where two processes write the same key, one wins.

    Args:
        key: a folder's name, which must change with the pixels.
        count: how many images there are.
        load: from an index to uint8 (height, width, channels); called from several threads.
        what: the images, for people.
        folder: of all keys; None: `cache_folder`.
        threads: images decoded at the same time.

    Raises:
        OSError: the disk is full or may not be written to; nothing is left behind.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> images = write("pair", 2, lambda i: np.full((i + 1, 3, 1), i, np.uint8), what="two", folder=folder)
    >>> images[1].shape, int(read("pair", folder)[1].sum()), read("other", folder)
    ((2, 3, 1), 6, None)
    """
    folder = folder or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    part = folder / f".{key}.{os.getpid()}.{time.time_ns()}.part"
    part.mkdir()
    try:
        places = np.zeros((count, 4), np.int64)
        size = 0
        with (part / "pixels.bin").open("wb") as file:
            for index, image in enumerate(_in_order(load, count, threads)):
                places[index] = (size, *image.shape)
                file.write(np.ascontiguousarray(image, np.uint8).data)
                size += image.nbytes
            _settle(file)
        with (part / "places.npy").open("wb") as file:
            np.save(file, places)
            _settle(file)
        about = {"what": what, "images": count, "bytes": size, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        with (part / "about.json").open("wb") as file:
            file.write(json.dumps(about, indent=1).encode())
            _settle(file)
        try:
            os.replace(part, folder / key)
        except OSError:
            if (found := read(key, folder)) is not None:
                return found
            shutil.rmtree(folder / key, ignore_errors=True)  # not whole
            os.replace(part, folder / key)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return DecodedImages(folder / key)


def room(folder: Path | None = None, limit: int = LIMIT_BYTES) -> int:
    """Bytes that one more set of images may take: the limit, but never more than half of what the disk has free.

    What older sets take counts as free, since `make_room` removes them.
    """
    folder = folder or cache_folder()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(existing, os.W_OK):
        return 0
    kept = sum(size for _, _, size in _kept(folder))
    return min(limit, (shutil.disk_usage(existing).free + kept) // 2)


def make_room(needed: int, folder: Path | None = None, limit: int = LIMIT_BYTES) -> list[str]:
    """Removes the sets that were not used for longest until so many bytes fit; gives their keys.

    A process that still reads one of them keeps it until it ends.
    """
    folder = folder or cache_folder()
    removed = []
    kept = sorted(_kept(folder))
    total = sum(size for _, _, size in kept)
    for _, place, size in kept:
        if total + needed <= limit and needed <= shutil.disk_usage(folder).free // 2:
            break
        shutil.rmtree(place, ignore_errors=True)
        total -= size
        removed.append(place.name)
    return removed


def _kept(folder: Path) -> Iterator[tuple[float, Path, int]]:
    """Time of the latest use, place and bytes of each set."""
    for about in folder.glob("[!.]*/about.json"):
        with contextlib.suppress(OSError):
            yield about.stat().st_mtime, about.parent, sum(file.stat().st_size for file in about.parent.iterdir())


def _in_order(load: Callable[[int], np.ndarray], count: int, threads: int) -> Iterator[np.ndarray]:
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, count, _TOGETHER):
            yield from pool.map(load, range(start, min(start + _TOGETHER, count)))


def _settle(file: Any) -> None:
    """So that the move into place does not reach the disk before the content."""
    file.flush()
    os.fsync(file.fileno())


def _remove_abandoned(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            latest = max(place.stat().st_mtime for place in (part, *part.iterdir()))
            if time.time() - latest > _ABANDONED_SECONDS:
                shutil.rmtree(part, ignore_errors=True)
