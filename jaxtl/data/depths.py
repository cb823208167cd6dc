"""By which rule images of more than eight bits become bytes, and whether it is one rule for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TypeVar

import numpy as np

from jaxtl.errors import printable

T = TypeVar("T")

NARROW = 255
"""In place of a shift: the image has eight bits."""

_noted: ContextVar[list[int] | None] = ContextVar("shifts", default=None)
_WAYS = {0: "their values themselves", 4: "bits 4 to 11", 8: "the upper eight of 16 bits"}


def note(shift: int) -> None:
    """Says by how many bits an image was shifted down, to the `with_shift` that waits for it in this thread."""
    if (noted := _noted.get()) is not None:
        noted.append(shift)


def with_shift(read: Callable[[], T]) -> tuple[T, int]:
    """What is read, and by how many bits it was shifted down; `NARROW` where it has eight.

    >>> with_shift(lambda: note(4)), with_shift(lambda: "nothing wide")
    ((None, 4), ('nothing wide', 255))
    """
    noted: list[int] = []
    before = _noted.set(noted)
    try:
        found = read()
    finally:
        _noted.reset(before)
    return found, noted[0] if noted else NARROW


def several_depths(names: Sequence[str], shifts: np.ndarray) -> str | None:
    """A sentence on images whose equal values become different bytes, where there are any.

    Args:
        names: of the images.
        shifts: what `with_shift` says of each.

    >>> several_depths(["a", "b", "c"], np.array([8, NARROW, 8]))
    >>> print(several_depths(["a", "b", "c"], np.array([8, 4, 8])))  # doctest: +ELLIPSIS
    images of more than 8 bits become bytes in 2 ways, by the largest value of each: bits 4 to 11 of 1 (such...
    """
    ways, first, counts = np.unique(shifts, return_index=True, return_counts=True)
    found = [
        f"{_WAYS[way]} of {count} (such as '{printable(names[index])}')"
        for way, index, count in zip(ways.tolist(), first.tolist(), counts.tolist(), strict=True)
        if way != NARROW
    ]
    if len(found) < 2:
        return None
    return (
        f"images of more than 8 bits become bytes in {len(found)} ways, by the largest value of each: "
        f"{', '.join(found)}; if equal values mean the same in all of them, save them as 8-bit images by one rule"
    )
