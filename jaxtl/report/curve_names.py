"""Where the names of several curves stand: at their ends, or below the axes where they are many or long."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from jaxtl.report import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_MOST_AT_ENDS = len(drawing.COLOURS)
_LONGEST_AT_END = 30  # characters
_MOST_NUMBERS = 30  # that stand one above the other beside the axes
_LINE = 120  # characters below the axes
_BESIDE_NAME = 16  # characters that the line, the number and the value take
_ROW = 0.19  # inches


class End(NamedTuple):
    """The last value of a curve, its name, and its line."""

    value: float
    name: str
    line: Line2D


def go_below(names: Collection[str]) -> bool:
    """Whether there are too many names, or too long ones, for the space beside the axes.

    >>> go_below(["full", "features"]), go_below(["optimizer.fast.lr=0.01,label_smoothing=0.1"])
    (False, True)
    """
    return len(names) > _MOST_AT_ENDS or max(map(len, names)) > _LONGEST_AT_END


def height_below(names: Collection[str]) -> float:
    """Inches that the names take below the axes."""
    return _ROW * math.ceil(len(names) / _columns(names)) + 0.2


def write_at_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Names each curve where it ends, pushed apart so that no two names overlap."""
    texts = {end.name: f"{end.name}  {end.value:.1f} %" for end in ends}
    _write_beside(axes, ends, texts, 9.5, 0.055)


def write_below(figure: Figure, axes: Axes, ends: Sequence[End]) -> None:
    """Numbers each curve where it ends, the highest first, and names them below."""
    if not ends:
        return
    ends = sorted(ends, key=lambda end: -end.value)
    numbers = {end.name: str(number) for number, end in enumerate(ends, 1)}
    legend = figure.legend(
        handles=[end.line for end in ends],
        labels=[f"{numbers[end.name]}  {_shortened(end.name)}  {end.value:.1f} %" for end in ends],
        loc="outside lower left",
        ncols=_columns(numbers),
        frameon=False,
        fontsize=8,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    if len(ends) <= _MOST_NUMBERS:
        _write_beside(axes, ends, numbers, 8, 0.036)


def _write_beside(axes: Axes, ends: Sequence[End], texts: dict[str, str], size: float, gap: float) -> None:
    for height, end in zip(_apart([end.value for end in ends], *axes.get_ylim(), gap), ends, strict=True):
        axes.annotate(
            texts[end.name],
            xy=(1.0, height),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=end.line.get_color(),
            annotation_clip=False,
            parse_math=False,
        )


def _apart(values: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """Heights near the values that keep a distance and, where there is room for that, stay between the limits."""
    gap = (high - low) * min(gap, 1 / max(len(values), 1))
    order = sorted(range(len(values)), key=values.__getitem__)
    heights = list(values)
    for before, index in pairwise(order):
        heights[index] = max(heights[index], heights[before] + gap)
    top = high
    for index in reversed(order):
        heights[index] = min(heights[index], top)
        top = heights[index] - gap
    return heights


def _columns(names: Collection[str]) -> int:
    return max(1, _LINE // (_BESIDE_NAME + max(len(_shortened(name)) for name in names)))


def _shortened(name: str) -> str:
    most = _LINE - _BESIDE_NAME
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"
