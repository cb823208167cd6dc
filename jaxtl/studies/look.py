"""Looks at a data set before anything is trained on it: counts, sizes, colour, duplicates and contradictions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from jaxtl.data.bands import as_grey, is_grey, size_of
from jaxtl.data.dataset import Data
from jaxtl.data.progress import tracked
from jaxtl.data.sources import Source, counts
from jaxtl.errors import InputError
from jaxtl.studies.alike import FINE, FLAT_LEVELS, SMALLEST, THUMBNAIL, alike

_SHOWN = 3


@dataclass(frozen=True)
class Look:
    """What was seen.

    Attributes:
        name: what the data was opened from.
        train, val: images by class, all of them.
        seen: by split how many of its images were opened; everything below is about these.
        widths, heights: smallest, median and largest, in pixels.
        input_size: (height, width) of the network's input, and ``smaller``: the share of images below it on a side.
        grey: share of images without colour, RGB with three equal channels included.
        near_duplicates: (training image, validation image) that look the same; they make an accuracy too high.
        contradictions: training images with the same pixels and different classes.
        flat: images too small or with too little contrast for a comparison.
        seconds: what the look took.
        too_similar: a sentence where the search for near duplicates ended early, since too many images look the same.
    """

    name: str
    train: dict[str, int]
    val: dict[str, int]
    seen: dict[str, int]
    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    input_size: tuple[int, int]
    smaller: float
    grey: float
    near_duplicates: tuple[tuple[str, str], ...]
    contradictions: tuple[tuple[str, ...], ...]
    flat: int
    seconds: float
    too_similar: str | None = None

    @property
    def images(self) -> int:
        """Training images."""
        return sum(self.train.values())

    @property
    def images_per_class(self) -> float:
        """Training images of a class, on average over the classes."""
        return self.images / len(self.train)

    @property
    def imbalance(self) -> float:
        """The largest class over the smallest."""
        return max(self.train.values()) / max(1, min(self.train.values()))

    @property
    def short_side(self) -> int:
        """The smaller of median width and median height, in pixels."""
        return min(self.widths[1], self.heights[1])

    @property
    def sampled(self) -> bool:
        """Whether some images were left out."""
        return sum(self.seen.values()) < self.images + sum(self.val.values())

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.images} training and {sum(self.val.values())} validation images in {len(self.train)} classes"
        smallest, largest = min(self.train, key=self.train.__getitem__), max(self.train, key=self.train.__getitem__)
        yield (
            f"images a class: {self.train[smallest]} ({smallest}) to {self.train[largest]} ({largest}), "
            f"ratio {self.imbalance:.1f}"
        )
        if self.sampled:
            parts = ", ".join(f"{count} of {split}" for split, count in self.seen.items())
            yield f"looked at a random sample: {parts}"
        height, width = self.input_size
        yield (
            f"width {_range(self.widths)}, height {_range(self.heights)} pixels (smallest/median/largest); "
            f"{self.smaller:.0%} are smaller than the network's {height}x{width}"
        )
        yield f"{self.grey:.0%} without colour"
        if self.near_duplicates:
            yield (
                f"{len(self.near_duplicates)} pairs across training and validation look the same, and make validation "
                f"too easy: {_some([' ~ '.join(pair) for pair in self.near_duplicates])}"
            )
        else:
            yield "no near duplicates across training and validation"
        if self.too_similar:
            yield self.too_similar
        if self.flat:
            yield f"{self.flat} images are too small or too flat to be compared"
        if self.contradictions:
            yield (
                f"{len(self.contradictions)} times the same training image has different classes: "
                f"{_some([' = '.join(names) for names in self.contradictions])}"
            )


@dataclass
class _Seen:
    """What is kept of the opened images of a split."""

    indices: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    grey: list[bool] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    thumbnails: list[np.ndarray] = field(default_factory=list)
    fine: list[np.ndarray] = field(default_factory=list)


def look(data: Data, *, most: int = 5000, seed: int = 0, seconds: float = 25.0, progress: bool = True) -> Look:
    """Opens the images of a data set once and tells what a plan has to know of them.

    Near duplicates are found by a difference hash: 64 bits that say, on a greyscale thumbnail of 9x8 pixels, whether a
    pixel is darker than its right neighbour (Krawetz 2013); all pairs across the splits are compared.

    Args:
        data: from ``jaxtl.open_data``.
        most: open so many images of each split at most, drawn at random.
        seed: of that draw.
        seconds: stop opening images of a split after so long; what was opened is drawn at random, too.
        progress: show a bar on a terminal's standard error.

    Raises:
        InputError: ``most`` or ``seconds`` is not above 0, or an image cannot be read.

    >>> import jaxtl
    >>> data = jaxtl.open_data("digits", jaxtl.Preprocess(size=32, mean=(0.5,), std=(0.5,)), samples_per_class=20)
    >>> found = look(data, progress=False)
    >>> found.images, found.imbalance, found.widths, found.smaller, found.grey
    (200, 1.0, (8, 8, 8), 1.0, 1.0)
    """
    if most < 1 or seconds <= 0:
        raise InputError(f"look needs most and seconds above 0, not {most} and {seconds:g}")
    begun = time.perf_counter()
    train = _open(data.train, "training images", most, seed, seconds, progress)
    val = _open(data.val, "validation images", most, seed, seconds, progress)
    sizes = np.array(train.sizes + val.sizes)
    height, width = data.preprocess.size
    near, told, flat = _near_duplicates(data, train, val)
    return Look(
        name=data.name,
        train=counts(data.train.labels, data.classes),
        val=counts(data.val.labels, data.classes),
        seen={"train": len(train.indices), "val": len(val.indices)},
        widths=spread_of(sizes[:, 0]),
        heights=spread_of(sizes[:, 1]),
        input_size=(height, width),
        smaller=float(np.mean((sizes[:, 0] < width) | (sizes[:, 1] < height))),
        grey=float(np.mean(train.grey + val.grey)),
        near_duplicates=near,
        contradictions=_contradictions(data.train, train),
        flat=flat,
        seconds=time.perf_counter() - begun,
        too_similar=told,
    )


def _open(source: Source, what: str, most: int, seed: int, seconds: float, progress: bool) -> _Seen:
    seen = _Seen()
    order = np.random.default_rng(seed).permutation(len(source))[:most].tolist()
    until = time.perf_counter() + seconds
    with closing(tracked(order, len(order), f"looking at {what}", progress)) as indices:
        for index in indices:
            image, _ = source[index]
            pixels = np.asarray(image)
            seen.indices.append(index)
            seen.sizes.append(size_of(image))
            seen.grey.append(is_grey(pixels))
            seen.digests.append(
                hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()
            )
            grey = as_grey(image)
            seen.thumbnails.append(np.asarray(grey.resize(THUMBNAIL, Image.Resampling.BOX)))
            seen.fine.append(np.asarray(grey.resize(FINE, Image.Resampling.BOX)))
            if time.perf_counter() > until:
                break
    return seen


def _near_duplicates(data: Data, train: _Seen, val: _Seen) -> tuple[tuple[tuple[str, str], ...], str | None, int]:
    """Pairs of names that look the same, what is to be said of them, and how many images could not be compared."""
    left, right = _comparable(train), _comparable(val)
    flat = len(train.indices) + len(val.indices) - len(left) - len(right)
    if not len(left) or not len(right):
        return (), None, flat
    ours, theirs = (
        (np.array(part.thumbnails)[at], np.array(part.fine)[at]) for part, at in ((train, left), (val, right))
    )
    found = alike(ours, theirs)
    names = [(data.train.names[train.indices[left[i]]], data.val.names[val.indices[right[j]]]) for i, j in found.pairs]
    return tuple(sorted(names)), found.told, flat


def _comparable(seen: _Seen) -> np.ndarray:
    """Places of the images that are large enough and have contrast."""
    large = np.array(seen.sizes).min(axis=1) >= SMALLEST
    return np.flatnonzero(large & (np.array(seen.thumbnails).std(axis=(1, 2)) >= FLAT_LEVELS))


def _contradictions(source: Source, seen: _Seen) -> tuple[tuple[str, ...], ...]:
    same: dict[bytes, list[int]] = {}
    for index, digest in zip(seen.indices, seen.digests, strict=True):
        same.setdefault(digest, []).append(index)
    return tuple(
        sorted(
            tuple(source.names[index] for index in sorted(indices))
            for indices in same.values()
            if len(set(source.labels[indices].tolist())) > 1
        )
    )


def spread_of(lengths: np.ndarray) -> tuple[int, int, int]:
    """Smallest, median and largest."""
    return int(lengths.min()), int(np.median(lengths)), int(lengths.max())


def _range(spread: tuple[int, int, int]) -> str:
    return "/".join(map(str, spread))


def _some(texts: Sequence[str]) -> str:
    shown = ", ".join(texts[:_SHOWN])
    return shown if len(texts) <= _SHOWN else f"{shown} and {len(texts) - _SHOWN} more"
