"""What a description of images opens to, before it is split and prepared for a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxtl.data.groups import shared_groups
from jaxtl.data.problems import refuse, shown
from jaxtl.data.sources import Source, has_classes

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "dev", "test", "testing")


@dataclasses.dataclass(frozen=True)
class Opened:
    """Images, their classes, and the split that they came with.

    Attributes:
        classes: names, of classes or of columns of numbers.
        train: training images; all images where `val` is None.
        val: validation images, where the data says which.
        task: one of `jaxtl.data.answers.TASKS`.
        origin: where the split comes from, for people.
        notes: what was noticed, for people.
        groups: of each of `train` and then of each of `val`, where images belong together.
        told_by: what told the task, for people, where that is worth saying; see `jaxtl.data.answers.Answers`.
    """

    classes: tuple[str, ...]
    train: Source
    val: Source | None = None
    task: str = "class"
    origin: str = "own split"
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    told_by: str = ""


def given_split(names: Sequence[str]) -> tuple[str | None, str | None, list[str]]:
    """Which of some names of splits are for training and for validation, and which are not used.

    For validation: the first of val, valid, validation, dev, test and testing that is there.

    >>> given_split(["test", "train", "Validation", "extra"])
    ('train', 'Validation', ['test', 'extra'])
    """
    by_word = {name.lower(): name for name in names}
    train = next((by_word[word] for word in TRAIN_NAMES if word in by_word), None)
    val = next((by_word[word] for word in VAL_NAMES if word in by_word), None)
    return train, val, [name for name in names if name not in (train, val)]


def checked(place: str, opened: Opened, tested: bool = False) -> Opened:
    """The same with notes on classes without images.

    Args:
        place: where they come from, for people.
        opened: the data.
        tested: nothing is trained on it.

    Raises:
        InputError: no images, a single class, or classes that validation has and training lacks.
    """
    problems = []
    train, val = opened.train, opened.val
    if not len(train) and not (tested and val is not None):
        problems.append("there are no training images")
    if val is not None and not len(val):
        problems.append("there are no validation images")
    notes = []
    ours = _images_by_class(train, len(opened.classes))
    theirs = _images_by_class(val, len(opened.classes)) if val is not None else np.zeros_like(ours)
    by_class = list(zip(opened.classes, ours, theirs, strict=True))
    if opened.task == "class" and not tested and ((ours + theirs) > 0).sum() == 1:
        only = opened.classes[int((ours + theirs).argmax())]
        problems.append(f"only one class, '{only}': at least two are needed to tell apart")
    if opened.task != "regression":
        strange = [f"'{name}'" for name, n, m in by_class if m and not n]
        if strange and not tested:
            problems.append(
                f"classes of validation images that training lacks: {shown(strange)}; add training images of them or "
                "remove them"
            )
        if empty := [name for name, n, m in by_class if not n and not m]:
            notes.append(f"no images of: {shown(empty)}")
        if val is not None and (absent := [name for name, n, m in by_class if n and not m]):
            notes.append(f"no validation images of: {shown(absent)}")
    refuse(place, problems)
    return dataclasses.replace(opened, notes=(*opened.notes, *notes))


def check_groups(place: str, train: Sequence[str], val: Sequence[str]) -> None:
    """Raises `InputError` where a group is in both parts of a split that the data came with."""
    if both := shared_groups(train, val):
        refuse(place, [f"groups on both sides of its split: {shown(both)}; correct the split, or name no group_column"])


def _images_by_class(source: Source, classes: int) -> np.ndarray:
    if has_classes(source):
        return np.bincount(source.labels, minlength=classes)
    return source.labels.sum(0).astype(int)
