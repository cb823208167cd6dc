"""Splits that keep what belongs together on one side: all images of a patient, a scene, a day."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxtl.data.problems import shown
from jaxtl.data.sources import Source, Subset, check_fold, has_classes, hash_order
from jaxtl.errors import InputError


def split_groups(
    source: Source, classes: Sequence[str], groups: Sequence[str], val_fraction: float, seed: int
) -> tuple[Subset, Subset]:
    """Training and validation part with no group in both, each class's fraction as near to the wanted as groups allow.

    Groups that hold all images of a class are for training. Who goes where depends on the names of all groups, on
    their images' labels and on the seed alone. One group more may move many others: `Data.write_split` and
    ``split_file`` keep a split.

    Args:
        source: the images.
        classes: their names.
        groups: of each image.
        val_fraction: the part of the images that is held out.
        seed: of who goes where.

    Raises:
        InputError: a fraction outside (0, 1), or too few groups.

    >>> from jaxtl.data.digits import CLASSES, load_digits
    >>> groups = [f"writer {index // 60}" for index in range(1797)]
    >>> train, val = split_groups(load_digits(), CLASSES, groups, 0.2, seed=0)
    >>> len(train), len(val)
    (1437, 360)
    """
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction must be between 0 and 1, or 1 for a test set, not {val_fraction:g}")
    names, of_image, counts = _counted(source, classes, groups)
    bound = (counts == counts.sum(0)).any(1) if has_classes(source) else np.zeros(len(names), bool)
    free = np.flatnonzero(~bound)
    if not len(free) or len(names) < 2:
        raise InputError(
            f"cannot split into train and val by group: of the {len(names)} groups none can be held out without "
            "a class losing all its images; add groups, or give no group_column (a column called 'group' counts as one)"
        )
    targets = np.outer([1 - val_fraction, val_fraction], counts.sum(0))
    part = _assigned(names, counts, targets, seed, np.where(bound, 0, -1))
    if not (part == 1).any():
        part[free[np.argmin(counts[free].sum(1))]] = 1
    if not (part == 0).any():
        part[free[np.argmin(counts[free].sum(1))]] = 0
    _restore_classes(part, counts)
    return _sides(source, part[of_image] == 1)


def fold_groups(
    source: Source, classes: Sequence[str], groups: Sequence[str], folds: int, number: int, seed: int
) -> tuple[Subset, Subset]:
    """Training and validation part of k-fold cross-validation, each group whole in one fold, classes spread evenly.

    One group more may move many others, as in `split_groups`.

    Args:
        source: the images.
        classes: their names.
        groups: of each image.
        folds: how many, at least 2.
        number: which, from 0.
        seed: of who goes where.

    Raises:
        InputError: numbers out of range, fewer groups than folds, or a class that the training part would lack.
    """
    check_fold(folds, number, len(source))
    names, of_image, counts = _counted(source, classes, groups)
    if len(names) < folds:
        raise InputError(f"folds={folds} is more than the {len(names)} groups: {shown(names)}")
    targets = np.tile(counts.sum(0) / folds, (folds, 1))
    part = _assigned(names, counts, targets, seed, np.full(len(names), -1))
    train, val = _sides(source, part[of_image] == number)
    if has_classes(source):
        lacking = [f"'{classes[k]}'" for k in sorted(set(val.labels.tolist()) - set(train.labels.tolist()))]
        if lacking:
            raise InputError(
                f"fold {number} of {folds} by group takes all images of class {shown(lacking)} out of training: use "
                "another seed or fewer folds, or spread the class over more groups"
            )
    return train, val


def shared_groups(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Groups that occur in both.

    >>> shared_groups(["a", "b"], ["b", "c", "b"])
    ['b']
    """
    return sorted(set(one) & set(other))


def _counted(source: Source, classes: Sequence[str], groups: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of groups, the group of each image, and images by group and class (or by group alone)."""
    names, of_image = np.unique(np.array(groups, dtype=str), return_inverse=True)
    classed = has_classes(source)
    counts = np.zeros((len(names), len(classes) if classed else 1), np.int64)
    np.add.at(counts, (of_image, source.labels if classed else np.zeros_like(of_image)), 1)
    return names.tolist(), of_image, counts[:, counts.any(0)]


def _assigned(names: list[str], counts: np.ndarray, targets: np.ndarray, seed: int, given: np.ndarray) -> np.ndarray:
    """A part for each group: large groups first, each where it brings the counts nearest to the targets."""
    part = given.copy()
    total = counts.sum(0)
    found = np.stack([counts[given == number].sum(0) for number in range(len(targets))]).astype(float)
    # by powers of two of their size: among similar ones the seed decides
    order = sorted(hash_order(names, seed), key=lambda group: -int(counts[group].sum()).bit_length())
    for group in order:
        if part[group] >= 0:
            continue
        now = counts[group]
        cost = (now * (now + 2 * (found - targets)) / total).sum(1)
        best = int(np.lexsort((found.sum(1), cost.round(9)))[0])
        part[group] = best
        found[best] += now
    return part


def _restore_classes(part: np.ndarray, counts: np.ndarray) -> None:
    """Gives training the smallest held-out group of each class that it has no image of."""
    while len(lost := np.flatnonzero(counts[part == 0].sum(0) == 0)):
        holding = np.flatnonzero((part == 1) & (counts[:, lost[0]] > 0))
        part[holding[np.argmin(counts[holding].sum(1))]] = 0
    if not (part == 1).any():
        raise InputError(
            f"cannot split into train and val by group: no part of the {len(part)} groups can be held out that leaves "
            "training an image of every class; add groups, or give no group_column"
        )


def _sides(source: Source, held_out: np.ndarray) -> tuple[Subset, Subset]:
    return Subset(source, np.flatnonzero(~held_out)), Subset(source, np.flatnonzero(held_out))
