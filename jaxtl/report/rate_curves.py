"""The learning rate of each group against the epoch: few groups by colour, many by a scale of colours."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxtl.report import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = len(drawing.COLOURS)
_PALE = 0.9  # where the scale of colours ends: what follows is too light on white


def draw_rates(axes: Axes, epochs: Sequence[float], records: Sequence[Mapping[str, Any]]) -> None:
    """Draws and names the rates, on a logarithmic axis: the group that learns fastest first.

    Where there are more groups than colours, such as the blocks of a network, a scale of colours beside the panel names
    the first, the middle and the last.

    Args:
        axes: of the panel.
        epochs: of the records.
        records: with ``learning_rate`` by group; a rate of 0 and a missing one leave a gap.
    """
    axes.set_yscale("log")
    rates = _by_group(records)
    many = len(rates) > _MOST_NAMED
    colours = _scale_of(len(rates)) if many else drawing.colours(len(rates) + 2)[2:]
    lines = [
        drawing.curve(axes, epochs, values, colour, group)
        for colour, (group, values) in zip(colours, rates.items(), strict=True)
    ]
    if many:
        _name_beside(axes, list(rates), colours)
    elif lines:
        drawing.legend(axes, lines)


def _by_group(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The rates of the groups that have any, by record, the fastest group first.

    >>> list(_by_group([{"learning_rate": {"slow.d10": 1e-4, "slow.d9": 1e-4, "fast": 1e-3, "off": 0.0}}]))
    ['fast', 'slow.d9', 'slow.d10']
    """
    groups = {group for record in records for group in record.get("learning_rate") or {}}
    rates = {
        group: [_above_0(drawing.value(record.get("learning_rate") or {}, group)) for record in records]
        for group in groups
    }
    fastest = {group: max(filter(math.isfinite, values), default=0.0) for group, values in rates.items()}
    order = sorted(groups, key=lambda group: (-fastest[group], _with_numbers(group)))
    return {group: rates[group] for group in order if fastest[group] > 0}


def _above_0(rate: float) -> float:
    return rate if rate > 0 else math.nan


def _with_numbers(name: str) -> list[tuple[str, int]]:
    """What sorts block 9 before block 10."""
    return [(words, int(number or 0)) for words, number in re.findall(r"(\D*)(\d*)", name)]


def _scale_of(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](_PALE * place / (count - 1)) for place in range(count)]


def _name_beside(axes: Axes, groups: Sequence[str], colours: Sequence[Any]) -> None:
    """The first group at the top, as its curve is."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    last = len(groups) - 1
    scale = ScalarMappable(Normalize(-0.5, last + 0.5), ListedColormap(list(colours)))
    bar = axes.figure.colorbar(scale, ax=axes, ticks=[0, last // 2, last], aspect=40)
    bar.ax.set_yticklabels([groups[0], groups[last // 2], groups[-1]], fontsize=9, parse_math=False)
    bar.ax.invert_yaxis()
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.ax.set_title(f"{len(groups)} groups", loc="left", fontsize=9, color=drawing.GREY)
