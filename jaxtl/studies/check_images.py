"""One look at each image of a data set, and what they have in common."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from jaxtl.data import sources
from jaxtl.data.bands import as_grey, size_of, to_array
from jaxtl.data.depths import NARROW, with_shift
from jaxtl.data.sources import Source
from jaxtl.errors import InputError, printable
from jaxtl.studies.alike import FINE, FLAT_LEVELS, SMALLEST, THUMBNAIL, alike

Pair = tuple[str, ...]
_AT_LEAST = 64  # short side that thumbnails are made from
_TOGETHER = 256


@dataclass(frozen=True)
class Seen:
    """One image: why it cannot be read, or what is compared."""

    split: str
    name: str
    label: tuple[float, ...]
    reason: str | None = None
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    thumbnail: np.ndarray | None = None
    fine: np.ndarray | None = None
    shift: int = NARROW


def look_at_all(places: list[tuple[str, Source, int]], threads: int) -> Iterator[Seen]:
    """Each of the (split, source, index), in order."""
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, len(places), _TOGETHER):
            yield from pool.map(lambda place: _look_at(*place), places[start : start + _TOGETHER])


def _look_at(split: str, source: Source, index: int) -> Seen:
    name, label = printable(source.names[index]), tuple(np.ravel(source.labels[index]).tolist())
    try:
        image, shift = with_shift(lambda: sources.reduced(source, index, _AT_LEAST))
        size = sources.image_size(source, index) or size_of(image)
    except InputError as error:
        return Seen(split, name, label, reason=str(error))
    grey = as_grey(image)
    thumbnail = np.asarray(grey.resize(THUMBNAIL, Image.Resampling.BOX))
    fine = np.asarray(grey.resize(FINE, Image.Resampling.BOX))
    return Seen(split, name, label, None, size, _digest(source, index), thumbnail, fine, shift)


def _digest(source: Source, index: int) -> bytes:
    """Of the file, or of the pixels where there is none."""
    path: Callable[[int], Path] | None = getattr(source, "path", None)
    if path is None:
        pixels = to_array(source[index][0])
        content = repr(pixels.shape).encode() + pixels.tobytes()
    else:
        content = path(index).read_bytes()
    return hashlib.blake2b(content, digest_size=16).digest()


def equal_files(images: list[Seen]) -> list[list[Seen]]:
    """Groups of more than one."""
    groups: dict[bytes, list[Seen]] = defaultdict(list)
    for image in images:
        groups[image.digest].append(image)
    return [group for group in groups.values() if len(group) > 1]


def look_alikes(images: list[Seen]) -> tuple[tuple[Pair, ...], str | None]:
    """Pairs of different files, in different splits or with different labels, whose hashes are near and whose finer
    thumbnails go together; and a sentence where there are too many of them."""
    large = [
        image
        for image in images
        if image.thumbnail is not None and min(image.size) >= SMALLEST and image.thumbnail.std() >= FLAT_LEVELS
    ]
    if not large:
        return (), None
    files = _numbered([image.digest for image in large])
    places = _numbered([(image.split, image.label) for image in large])

    def wanted(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return (i < j) & (files[i] != files[j]) & (places[i] != places[j])

    coarse = np.stack([image.thumbnail for image in large if image.thumbnail is not None])
    fine = np.stack([image.fine for image in large if image.fine is not None])
    found = alike((coarse, fine), (coarse, fine), wanted)
    return tuple(sorted(names([large[i], large[j]]) for i, j in found.pairs)), found.told


def _numbered(values: Sequence[Hashable]) -> np.ndarray:
    """Equal numbers for equal values."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])


def names(group: Sequence[Seen]) -> Pair:
    """Sorted."""
    return tuple(sorted(image.name for image in group))
