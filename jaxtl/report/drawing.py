"""What all plots share: the figure and its style, colours, titles, and how values are read from records."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtl.files import check_writable, expanded, make_folder
from jaxtl.report.fonts import fit_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe and Ito's palette: told apart by nearly everybody, on screen and on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#6B6B6B"
_MOST_MARKERS = 30


def figure(width: float, height: float, panels: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches with panels side by side, in the house's style."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(drawn)
    drawn.get_layout_engine().set(w_pad=0.12, h_pad=0.1, wspace=0.04)  # type: ignore[union-attr,call-arg]
    row = list(drawn.subplots(1, panels, squeeze=False)[0])
    for axes in row:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#B0B0B0")
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors="#444444", labelsize=9)
    return drawn, row


def title(axes: Axes, text: str) -> None:
    """A panel's title, at its left."""
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold")


def value(record: Mapping[str, Any], key: str) -> float:
    """A number of a record, NaN where it is missing or None.

    >>> value({"epoch": 3}, "epoch"), value({}, "epoch")
    (3.0, nan)
    """
    found = record.get(key)
    return math.nan if found is None else float(found)


def colours(count: int) -> list[str]:
    """So many colours, from the palette over and over."""
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def curve(
    axes: Axes,
    epochs: Sequence[float],
    values: Sequence[float],
    colour: Any,
    name: str,
    style: str = "-",
) -> Line2D:
    """A curve, with a marker at each epoch where these are few."""
    marker = "o" if len(epochs) <= _MOST_MARKERS else ""
    (line,) = axes.plot(
        epochs, values, color=colour, label=name, linestyle=style, linewidth=2, marker=marker, markersize=4
    )
    return line


def legend(axes: Axes, lines: Sequence[Line2D]) -> None:
    """Names a panel's lines. Matplotlib by itself leaves out names that begin with an underscore."""
    drawn = axes.legend(lines, ["."] * len(lines), frameon=False, fontsize=9)
    for text, line in zip(drawn.get_texts(), lines, strict=True):
        text.set_text(str(line.get_label()))
        text.set_parse_math(False)


def line_style(number: int) -> str:
    """Of the curve with a number, from 0: solid for the first of each colour, then dashed, dotted and both.

    >>> line_style(0), line_style(len(COLOURS))
    ('-', '--')
    """
    return ("-", "--", ":", "-.")[number // len(COLOURS) % 4]


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a PNG, in fonts that have the characters of its text; its folder is made where it is missing.

    Raises:
        InputError: it cannot be written.
    """
    target = expanded(path)
    check_writable(target)
    make_folder(target.parent)
    fit_fonts(figure)
    figure.savefig(target, format="png")
    return target
