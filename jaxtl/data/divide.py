"""Which images are held out: the data's own split, a drawn one, one of several folds, or one that was written down."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data import sources
from jaxtl.data.bands import Picture
from jaxtl.data.each_label import check_each_label, with_each_label
from jaxtl.data.groups import fold_groups, split_groups
from jaxtl.data.opened import Opened, check_groups, checked
from jaxtl.data.problems import refuse, shown
from jaxtl.data.sources import Source, Subset
from jaxtl.errors import InputError


def divide(
    opened: Opened,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    folds: int | None = None,
    fold: int = 0,
    split_file: str | Path | None = None,
    groups_bind: bool = False,
) -> tuple[Source, Source, str, tuple[str, ...]]:
    """Training images, validation images, where the split comes from, and notes, for people.

    A split that the data came with is used, unless folds or a file are asked for: folds divide its training images, and
    a file divides all. Of several labels an image a part that is drawn leaves training an image of each.

    Args:
        opened: the data.
        val_fraction: what is held out where the data has no split; 1: all, and nothing to train on is left.
        seed: of who is held out.
        folds: how many folds cross-validation has; None: none.
        fold: which of them is held out, from 0.
        split_file: JSON with the names of the images in ``train`` and ``val``, as `Data.write_split` writes it.
        groups_bind: whether a file must not part groups; a drawn split never does.

    Raises:
        InputError: numbers out of range, a file that does not fit the data, or one that parts groups; a fold that takes
            all images of a class or label out of training.
    """
    if split_file is not None and folds is not None:
        raise InputError("give folds or split_file, not both")
    if fold and folds is None:
        raise InputError(f"fold={fold} needs folds, the number of all of them")
    if split_file is not None:
        return _written(opened, Path(split_file).expanduser(), groups_bind)
    groups = None if opened.groups is None else opened.groups[: len(opened.train)]
    if folds is not None:
        notes = () if opened.val is None else (f"{len(opened.val)} validation images of the {opened.origin} not used",)
        if groups is None:
            parts = sources.fold(opened.train, opened.classes, folds, fold, seed)
        else:
            parts = fold_groups(opened.train, opened.classes, groups, folds, fold, seed)
        if opened.task == "multi-label":
            check_each_label(parts, opened.classes, f"fold {fold} of {folds}{_by_group(groups)}")
        return *parts, f"fold {fold} of {folds}{_by_group(groups)}, seed {seed}", notes
    if opened.val is not None:
        return opened.train, opened.val, opened.origin, ()
    if val_fraction == 1:
        return Subset(opened.train, []), opened.train, "all images", ()
    if groups is None:
        parts = sources.split(opened.train, opened.classes, val_fraction, seed)
    else:
        parts = split_groups(opened.train, opened.classes, groups, val_fraction, seed)
    if opened.task == "multi-label":
        parts = with_each_label(opened.train, parts, groups, seed)
    return *parts, f"{val_fraction:.0%} held out{_by_group(groups)}, seed {seed}", ()


def _by_group(groups: Sequence[str] | None) -> str:
    return "" if groups is None else f" by {len(set(groups))} groups"


def _written(opened: Opened, path: Path, groups_bind: bool) -> tuple[Source, Source, str, tuple[str, ...]]:
    names = read_split(path)
    whole: Source = opened.train if opened.val is None else Joined(opened.train, opened.val)
    place = {name: index for index, name in enumerate(whole.names)}
    problems = []
    if missing := [name for part in names.values() for name in part if name not in place]:
        problems.append(
            f"{len(missing)} of its images are not in the data: {shown(missing)}; it was written for other data"
        )
    refuse(path, problems)
    indices = [[place[name] for name in names[part]] for part in ("train", "val")]
    train, val = (Subset(whole, part) for part in indices)
    if groups_bind and opened.groups is not None:
        ours, theirs = ([opened.groups[index] for index in part] for part in indices)
        check_groups(str(path), ours, theirs)
    checked(str(path), dataclasses.replace(opened, train=train, val=val))
    left = len(whole) - len(train) - len(val)
    return train, val, f"split of {path.name}", (f"{left} images in neither part",) if left else ()


def read_split(path: Path) -> dict[str, list[str]]:
    """The names in ``train`` and ``val`` of a split that was written down.

    Raises:
        InputError: no such file, no such names in it, or an image in both parts or twice in one.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"split_file '{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"split_file '{path}' is no JSON: {error}") from None
    found: dict[str, Any] = {part: record.get(part) if isinstance(record, dict) else None for part in ("train", "val")}
    problems = [
        f"'{part}' must be a list of names of images"
        for part, names in found.items()
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names)
    ]
    refuse(path, problems)
    if both := sorted(set(found["train"]) & set(found["val"])):
        problems.append(f"{len(both)} images are in train and in val: {shown(both)}")
    for part, names in found.items():
        if len(set(names)) < len(names):
            problems.append(f"'{part}' names images twice")
    refuse(path, problems)
    return found


class Joined:
    """The images of one source and then those of another.

    >>> from jaxtl.data.digits import load_digits
    >>> digits = load_digits()
    >>> Joined(Subset(digits, [3]), Subset(digits, [1])).names
    ['digit-0003', 'digit-0001']
    """

    def __init__(self, first: Source, second: Source) -> None:
        self._parts = first, second
        self.labels = np.concatenate([first.labels, second.labels])
        self.names = [*first.names, *second.names]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Picture, int]:
        source, place = self._at(index)
        return source[place]

    def identity(self, index: int) -> str:
        source, place = self._at(index)
        return source.identity(place)

    def stamp(self, index: int) -> str | None:
        return sources.stamp(*self._at(index))

    def check(self, index: int) -> None:
        sources.check(*self._at(index))

    def size(self, index: int) -> tuple[int, int] | None:
        return sources.image_size(*self._at(index))

    def reduced(self, index: int, at_least: int) -> Picture:
        return sources.reduced(*self._at(index), at_least)

    def pixels(self, index: int, at_least: int | None) -> np.ndarray:
        return sources.pixels(*self._at(index), at_least)

    def in_colour(self, index: int) -> Picture:
        return sources.in_colour(*self._at(index))

    def _at(self, index: int) -> tuple[Source, int]:
        first, second = self._parts
        return (first, index) if index < len(first) else (second, index - len(first))
