"""Where an image has several labels: parts of which training has an image of each label that occurs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxtl.data.problems import shown
from jaxtl.data.sources import Source, Subset, hash_order
from jaxtl.errors import InputError

Parts = tuple[Subset, Subset]
"""Training and validation."""


def with_each_label(source: Source, parts: Parts, groups: Sequence[str] | None, seed: int) -> Parts:
    """The same parts; where training has no image of a label, an image or group of validation that has it is moved.

    Which one depends on names and the seed alone: the smallest group, and of equal ones the last that was drawn. Were
    nothing left to validate with, the first image or group takes its place whose labels training has without it.

    Args:
        source: all images; its labels are 0 and 1, (N, K).
        parts: of them.
        groups: of each image, which are moved whole; None: images are moved one by one.
        seed: that the parts were drawn with.

    Raises:
        InputError: no image or group could be held out so that training keeps an image of each label.

    >>> from jaxtl.data.arrays import PixelSource
    >>> source = PixelSource(np.zeros((3, 1, 1), np.uint8), np.array([[1, 0], [1, 1], [1, 0]]), ["a", "b", "c"])
    >>> parts = Subset(source, [0]), Subset(source, [1, 2])
    >>> [part.names for part in with_each_label(source, parts, None, seed=0)]
    [['a', 'b'], ['c']]
    """
    if not len(lost := lost_labels(parts)):
        return parts
    has, whole = source.labels > 0, list(source.names if groups is None else groups)
    members: dict[str, list[int]] = {}
    for index, name in enumerate(whole):
        members.setdefault(name, []).append(index)
    names = list(members)
    place = {names[at]: number for number, at in enumerate(hash_order(names, seed))}
    validating = set(parts[1].names)
    held = np.array([name in validating for name in source.names])
    for label in lost:
        if not has[~held, label].any():
            holding = {whole[index] for index in np.flatnonzero(has[:, label])}
            held[members[min(holding, key=lambda name: (len(members[name]), -place[name]))]] = False
    if not held.any():
        held[_first_free(has, [members[name] for name in sorted(names, key=place.__getitem__)])] = True
    return Subset(source, np.flatnonzero(~held)), Subset(source, np.flatnonzero(held))


def check_each_label(parts: Parts, classes: Sequence[str], fold: str) -> None:
    """Raises `InputError` where training has no image of a label that validation has.

    Args:
        parts: of a fold.
        classes: names of labels.
        fold: which it is, for people.
    """
    if len(lost := lost_labels(parts)):
        raise InputError(
            f"{fold} takes all images of label {shown(repr(classes[label]) for label in lost)} out of training: use "
            "another seed or fewer folds, or give more images the label or none"
        )


def lost_labels(parts: Parts) -> np.ndarray:
    """Labels that validation has and training lacks."""
    train, val = ((part.labels > 0).any(0) for part in parts)
    return np.flatnonzero(val & ~train)


def _first_free(has: np.ndarray, members: list[list[int]]) -> list[int]:
    """The first that do not take all images of a label with them."""
    counts = has.sum(0)
    for images in members:
        within = has[images].sum(0)
        if len(images) < len(has) and not ((within == counts) & (within > 0)).any():
            return images
    raise InputError(
        "cannot split into train and val: whatever is held out, training lacks a label; give more images the labels "
        "that few have"
    )
