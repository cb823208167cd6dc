"""The curve of a learning-rate range test."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtl.report import drawing


def plot_range_test(
    rates: Sequence[float], losses: Sequence[float], suggestions: Mapping[str, float], path: str | os.PathLike[str]
) -> Path:
    """Draws the smoothed loss against the rate of the fastest group, with the suggested rates marked.

    Args:
        rates: of each step.
        losses: of each step.
        suggestions: rate by rule.
        path: the PNG to write.

    >>> import tempfile
    >>> plot_range_test([1e-3, 1e-2, 1e-1], [2.0, 1.0, 3.0], {"valley": 1e-2}, Path(tempfile.mkdtemp(), "lr.png")).name
    'lr.png'
    """
    figure, (axes,) = drawing.figure(7.0, 4.5, 1)
    axes.plot(rates, losses, color=drawing.GREY, linewidth=1.5)
    for colour, (rule, rate) in zip(drawing.COLOURS, suggestions.items(), strict=False):
        axes.axvline(rate, color=colour, linestyle="--", linewidth=1.2, label=f"{rule}: {rate:.1e}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate of the fastest group")
    drawing.title(axes, "Training loss, smoothed")
    if suggestions:
        axes.legend(frameon=False, fontsize=9)
    return drawing.save(figure, path)
