"""Figures as markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

NONE = "-"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; columns without a figure in any row are left out.

    >>> print(table(["network", "MB", "ratio"], [["a", "-", 1], ["b", "-", 2]]))
    | network | ratio |
    |---|---|
    | a | 1 |
    | b | 2 |
    """
    rows = [list(map(str, row)) for row in rows]
    kept = [column for column in range(len(header)) if not rows or any(row[column] != NONE for row in rows)]
    lines = [[header[column] for column in kept], *([row[column] for column in kept] for row in rows)]
    written = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([written[0], "|" + "---|" * len(kept), *written[1:]])


def spread(values: Sequence[float | None], form: str = ".1f", scale: float = 1.0) -> str:
    """The median, with the smallest and the largest.

    >>> spread([3.0, 1.0, 2.0])
    '2.0 (1.0 to 3.0)'
    >>> spread([None])
    '-'
    """
    known = [value * scale for value in values if value is not None]
    if not known:
        return NONE
    middle = f"{statistics.median(known):{form}}"
    return middle if len(known) == 1 else f"{middle} ({min(known):{form}} to {max(known):{form}})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Of each turn.

    >>> ratios([2.0, 3.0], [1.0, 2.0])
    [2.0, 1.5]
    """
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def megabytes(memories: Mapping[str, Any] | Sequence[Mapping[str, Any]], where: str) -> str:
    """The largest of some memories on "host" or "device"."""
    found = [memory[where] for memory in ([memories] if isinstance(memories, Mapping) else memories)]
    known = [value for value in found if value is not None]
    return f"{max(known) / 2**20:.0f}" if known else NONE


def slopes(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    """How much y grows with x, between each two neighbours.

    >>> slopes([1, 2, 4], [10, 20, 60])
    [10.0, 20.0]
    """
    return [(y1 - y0) / (x1 - x0) for (x0, x1), (y0, y1) in zip(pairwise(xs), pairwise(ys), strict=True)]


def bends(xs: Sequence[float], ys: Sequence[float], tolerance: float = 0.25) -> list[float]:
    """The inner points x at which the slope changes by more than a part of the slope before.

    >>> bends([1, 2, 3, 4], [1, 2, 3, 10])
    [3]
    """
    found = pairwise(slopes(xs, ys))
    return [x for x, (a, b) in zip(xs[1:-1], found, strict=True) if abs(b - a) > tolerance * abs(a)]
