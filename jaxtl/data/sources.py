"""Where labelled images come from: the protocol every source keeps, subsets of sources, and stratified choice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxtl.data import images
from jaxtl.data.bands import Picture, to_array
from jaxtl.errors import InputError


class Source(Protocol):
    """Labelled images with random access, safe to read from several threads.

    ``source[i]`` is the upright image in mode "RGB" or "L", or uint8 (height, width, channels) where the network takes
    other channels, and its label; `labels` (int32 (N,): classes; float32 (N, K): several answers or numbers) and
    `names` are known without reading an image, and `names` are unique and the same on every machine. A source whose
    images may be kept on disk has a method like `identity` more, ``stamp``; see `stamp`. It may have ``size``,
    ``reduced``, ``pixels`` and ``in_colour`` as well; see `image_size`, `reduced`, `pixels` and `in_colour`. Where
    images are files, which may be broken, a method ``check(index)`` decodes one, as cheaply as may be, and raises
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
        if (path := getattr(source, "path", None)) is not None:
            self.path = lambda index: path(self._indices[index])

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

    def pixels(self, index: int, at_least: int | None) -> np.ndarray:
        return pixels(self._source, self._indices[index], at_least)

    def in_colour(self, index: int) -> Picture:
        return in_colour(self._source, self._indices[index])


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


def stamp_if_there(source: Source, index: int) -> str | None:
    """The same; None as well where the file is not there."""
    try:
        return stamp(source, index)
    except OSError:
        return None


def image_size(source: Source, index: int) -> tuple[int, int] | None:
    """Width and height of an image without decoding it; None where the source does not tell, or it is broken."""
    say = getattr(source, "size", None)
    return None if say is None else say(index)


def check(source: Source, index: int) -> None:
    """Raises `InputError` if the image cannot be read."""
    getattr(source, "check", source.__getitem__)(index)


def reduced(source: Source, index: int, at_least: int) -> Picture:
    """The image, reduced by a whole number while its short side keeps so many pixels: `jaxtl.data.images.reduction`.

    >>> from jaxtl.data.digits import load_digits
    >>> reduced(load_digits(), 0, at_least=4).size
    (4, 4)
    """
    make = getattr(source, "reduced", None)
    return images.reduced(source[index][0], at_least) if make is None else make(index, at_least)


def pixels(source: Source, index: int, at_least: int | None) -> np.ndarray:
    """The image as an array, uint8 (height, width, channels), whole where `at_least` is None, else as `reduced`.

    >>> from jaxtl.data.digits import load_digits
    >>> pixels(load_digits(), 0, None).shape
    (8, 8, 1)
    """
    make = getattr(source, "pixels", None)
    if make is not None:
        return make(index, at_least)
    return to_array(source[index][0] if at_least is None else reduced(source, index, at_least))


def in_colour(source: Source, index: int) -> Picture:
    """The image as it was before it lost its colours to a network of one channel, where the source can still tell.

    >>> from jaxtl.data.digits import load_digits
    >>> in_colour(Subset(load_digits(), [3, 1]), 0).mode
    'L'
    """
    read = getattr(source, "in_colour", None)
    return source[index][0] if read is None else read(index)


def split(source: Source, classes: Sequence[str], val_fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Training and validation part: of every class the same fraction, and at least one image on both sides.

    Who goes where depends on the image's name and the seed alone, not on the machine. Where labels are not one class an
    image, the fraction is one of all images. Classes without images are passed over.

    Raises:
        InputError: for a fraction outside (0, 1), or naming the classes that have fewer than two images.
    """
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction must be between 0 and 1, or 1 for a test set, not {val_fraction:g}")
    val: list[int] = []
    too_small = []
    for members, name in _shuffled_members(source, classes, seed):
        if len(members) < 2:
            too_small.append(name)
            continue
        val += members[: min(max(1, round(val_fraction * len(members))), len(members) - 1)]
    _refuse_small(too_small)
    chosen = set(val)
    return Subset(source, [i for i in range(len(source)) if i not in chosen]), Subset(source, sorted(val))


def fold(source: Source, classes: Sequence[str], folds: int, number: int, seed: int) -> tuple[Subset, Subset]:
    """Training and validation part of k-fold cross-validation: each image is in the validation part of one fold.

    Every class is dealt out in turn, so that its images in two folds differ by one at most, and so do all images. Who
    goes where depends on the image's name and the seed alone.

    Args:
        source: the images.
        classes: their names.
        folds: how many, at least 2.
        number: which, from 0.
        seed: of who goes where.

    Raises:
        InputError: numbers out of range, fewer images than folds, or classes with fewer than two images.

    >>> from jaxtl.data.digits import CLASSES, load_digits
    >>> [len(part) for part in fold(load_digits(), CLASSES, 5, 0, seed=0)]
    [1437, 360]
    """
    check_fold(folds, number, len(source))
    members = _shuffled_members(source, classes, seed)
    _refuse_small([name for indices, name in members if len(indices) < 2])
    dealt = [index for indices, _ in members for index in indices]
    val = set(dealt[number::folds])
    return Subset(source, [i for i in range(len(source)) if i not in val]), Subset(source, sorted(val))


def check_fold(folds: int, number: int, images: int) -> None:
    """Raises `InputError` for a number of folds, or of one of them, that there cannot be."""
    if not 2 <= folds <= images:
        raise InputError(f"folds must be between 2 and {images} (the images), not {folds}")
    if not 0 <= number < folds:
        raise InputError(f"fold must be between 0 and {folds - 1}, since folds is {folds}, not {number}")


def take(source: Source, classes: Sequence[str], samples: int, seed: int) -> Subset:
    """That many images in all, with every class keeping its share and at least one image.

    A smaller number gives a subset of what a larger number gives, up to the rounding of the shares.

    Raises:
        InputError: when there are fewer images than asked for, or more classes than images asked for.
    """
    members = [indices for indices, _ in _shuffled_members(source, classes, seed)]
    if not len(members) <= samples <= len(source):
        least = f"{len(members)} (one image per class)" if has_classes(source) else "1"
        raise InputError(f"train_samples={samples} must be between {least} and {len(source)} (all training images)")
    counts = _shares(np.array([len(indices) for indices in members]), samples)
    return _chosen(source, [indices[:count] for indices, count in zip(members, counts, strict=True)])


def take_per_class(source: Source, classes: Sequence[str], samples: int, seed: int) -> Subset:
    """That many images of every class.

    Raises:
        InputError: naming the classes that have fewer.
    """
    if samples < 1:
        raise InputError(f"samples_per_class must be at least 1, not {samples}")
    if not has_classes(source):
        raise InputError("samples_per_class is for one class an image: give train_samples")
    members = _shuffled_members(source, classes, seed)
    short = [f"{name} ({len(indices)})" for indices, name in members if len(indices) < samples]
    if short:
        raise InputError(f"samples_per_class={samples} is more than there are in class {', '.join(short)}")
    return _chosen(source, [indices[:samples] for indices, _ in members])


def counts(labels: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    """Images per class.

    Raises:
        InputError: labels that are not one class an image.

    >>> counts(np.array([0, 1, 1]), ["a", "b"])
    {'a': 1, 'b': 2}
    """
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError("images are counted by class only where each has one: give task='class', if that is meant")
    return dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def has_classes(source: Source) -> bool:
    """Whether each image has one class: labels are whole numbers (N,)."""
    return source.labels.ndim == 1 and np.issubdtype(source.labels.dtype, np.integer)


def hash_order(names: Sequence[str], seed: int) -> list[int]:
    """Positions in an order that depends on names and seed only.

    >>> hash_order(["a", "b", "c"], 0), hash_order(["c", "b", "a"], 0)
    ([2, 1, 0], [0, 1, 2])
    """
    keys = [hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest() for name in names]
    return sorted(range(len(names)), key=keys.__getitem__)


def _shuffled_members(source: Source, classes: Sequence[str], seed: int) -> list[tuple[list[int], str]]:
    """For each class that has images their indices, in `hash_order`, and its quoted name; without classes, all."""
    order = hash_order(source.names, seed)
    if not has_classes(source):
        return [(order, "of all")]
    members: list[list[int]] = [[] for _ in classes]
    for index in order:
        members[source.labels[index]].append(index)
    return [(indices, f"'{name}'") for indices, name in zip(members, classes, strict=True) if indices]


def _refuse_small(classes: list[str]) -> None:
    if classes:
        whole = all(name.strip("'").removeprefix("-").isdecimal() for name in classes)
        raise InputError(
            f"cannot split into train and val: fewer than two images in class {', '.join(classes)}; add images or "
            f"remove the class{'; if these are numbers and no classes, give task=regression' if whole else ''}"
        )


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
