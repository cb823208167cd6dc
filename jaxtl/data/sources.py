"""Where labelled images come from: the protocol every source keeps, subsets of sources, and stratified choice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxtl.data import images
from jaxtl.data.bands import Picture
from jaxtl.errors import InputError


class Source(Protocol):
    """Labelled images with random access, safe to read from several threads.

    ``source[i]`` is the upright image in mode "RGB" or "L", or uint8 (height, width, channels) where the network takes
    other channels, and its label; `labels` (int32) and `names` are known without reading an image,
    and `names` are unique and the same on every machine. A source whose images may be kept on disk has a method like
    `identity` more, ``stamp``; see `stamp`. It may have ``size`` and ``reduced`` as well; see `image_size` and
    `reduced`. Where images may be broken a method ``check(index)`` decodes one, as cheaply as may be, and raises
    `InputError` if that fails.
    """

    labels: np.ndarray
    names: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Picture, int]: ...

    def identity(self, index: int) -> str:
        """What changes when this image changes: part of the data's fingerprint."""
        ...


class Subset:
    """Some images of a source, in the given order.

    >>> from jaxtl.data.digits import load_digits
    >>> subset = Subset(load_digits(), [3, 1])
    >>> subset.names, subset.labels.tolist()
    (['digit-0003', 'digit-0001'], [3, 1])
    """

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray) -> None:
        self._source = source
        self._indices = [int(index) for index in indices]
        self.labels = source.labels[self._indices]
        self.names = [source.names[index] for index in self._indices]
        if (check := getattr(source, "check", None)) is not None:
            self.check = lambda index: check(self._indices[index])

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[Picture, int]:
        return self._source[self._indices[index]]

    def identity(self, index: int) -> str:
        return self._source.identity(self._indices[index])

    def stamp(self, index: int) -> str | None:
        return stamp(self._source, self._indices[index])

    def size(self, index: int) -> tuple[int, int] | None:
        return image_size(self._source, self._indices[index])

    def reduced(self, index: int, at_least: int) -> Picture:
        return reduced(self._source, self._indices[index], at_least)


def stamp(source: Source, index: int) -> str | None:
    """What changes whenever this image may have changed, a file's place and modification time included.

    It tells more apart than ``identity`` does, and differs between copies of the same data. None where the source
    does not say.

    >>> from jaxtl.data.digits import load_digits
    >>> stamp(Subset(load_digits(), [3, 1]), 0)[:10]
    'digit-0003'
    """
    say = getattr(source, "stamp", None)
    return None if say is None else say(index)


def image_size(source: Source, index: int) -> tuple[int, int] | None:
    """Width and height of an image without decoding it; None where the source does not tell, or it is broken."""
    say = getattr(source, "size", None)
    return None if say is None else say(index)


def reduced(source: Source, index: int, at_least: int) -> Picture:
    """The image, reduced by a whole number while its short side keeps so many pixels: `jaxtl.data.images.reduction`.

    >>> from jaxtl.data.digits import load_digits
    >>> reduced(load_digits(), 0, at_least=4).size
    (4, 4)
    """
    make = getattr(source, "reduced", None)
    return images.reduced(source[index][0], at_least) if make is None else make(index, at_least)


def split(source: Source, classes: Sequence[str], val_fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Training and validation part: of every class the same fraction, and at least one image on both sides.

    Who goes where depends on the image's name and the seed alone, not on the machine.

    Raises:
        InputError: for a fraction outside (0, 1), or naming the classes that have fewer than two images.
    """
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction must be between 0 and 1, not {val_fraction:g}")
    val: list[int] = []
    too_small = []
    for members, name in zip(_shuffled_members(source, len(classes), seed), classes, strict=True):
        if len(members) < 2:
            too_small.append(f"'{name}'")
            continue
        val += members[: min(max(1, round(val_fraction * len(members))), len(members) - 1)]
    if too_small:
        raise InputError(
            f"cannot split into train and val: fewer than two images in class {', '.join(too_small)}; add images or "
            "remove the class"
        )
    chosen = set(val)
    return Subset(source, [i for i in range(len(source)) if i not in chosen]), Subset(source, sorted(val))


def take(source: Source, classes: Sequence[str], samples: int, seed: int) -> Subset:
    """That many images in all, with every class keeping its share and at least one image.

    A smaller number gives a subset of what a larger number gives, up to the rounding of the shares.

    Raises:
        InputError: when there are fewer images than asked for, or more classes than images asked for.
    """
    if not len(classes) <= samples <= len(source):
        raise InputError(
            f"train_samples={samples} must be between {len(classes)} (one image per class) and {len(source)} (all "
            "training images)"
        )
    members = _shuffled_members(source, len(classes), seed)
    counts = _shares(np.array([len(indices) for indices in members]), samples)
    return _chosen(source, [indices[:count] for indices, count in zip(members, counts, strict=True)])


def take_per_class(source: Source, classes: Sequence[str], samples: int, seed: int) -> Subset:
    """That many images of every class.

    Raises:
        InputError: naming the classes that have fewer.
    """
    members = _shuffled_members(source, len(classes), seed)
    if samples < 1:
        raise InputError(f"samples_per_class must be at least 1, not {samples}")
    short = [f"'{name}' ({len(m)})" for name, m in zip(classes, members, strict=True) if len(m) < samples]
    if short:
        raise InputError(f"samples_per_class={samples} is more than there are in class {', '.join(short)}")
    return _chosen(source, [indices[:samples] for indices in members])


def counts(labels: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    """Images per class."""
    return dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def _shuffled_members(source: Source, classes: int, seed: int) -> list[list[int]]:
    """Per class the indices of its images, in an order that depends on names and seed only."""
    order = [hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest() for name in source.names]
    members: list[list[int]] = [[] for _ in range(classes)]
    for index in sorted(range(len(source)), key=order.__getitem__):
        members[source.labels[index]].append(index)
    return members


def _shares(available: np.ndarray, total: int) -> list[int]:
    """Splits a total in proportion to what is available: at least one each, largest remainders first."""
    exact = available * (total / available.sum())
    given = np.maximum(1, np.floor(exact).astype(int))
    while given.sum() != total:
        step = 1 if given.sum() < total else -1
        allowed = given < available if step == 1 else given > 1
        gap = np.where(allowed, step * (exact - given), -np.inf)
        given[int(np.argmax(gap))] += step
    return given.tolist()


def _chosen(source: Source, members: list[list[int]]) -> Subset:
    return Subset(source, sorted(index for indices in members for index in indices))
