"""Curves of one run, and of several strategies side by side, from the records of ``history.jsonl``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtl.errors import InputError
from jaxtl.judged import SHARES, in_words, judged_by
from jaxtl.report import curve_names, drawing
from jaxtl.report.rate_curves import draw_rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]
_APART, _SPREAD = 0.06, 0.6  # epochs: two points, and the first and the last of many


def plot_history(records: Sequence[Record], path: str | os.PathLike[str]) -> Path:
    """Draws loss, accuracy (of several labels an image the mean average precision as well) and learning rates of one
    run against the epoch.

    Args:
        records: one mapping for each epoch, as in ``history.jsonl``. Missing values and NaN leave gaps.
        path: the PNG to write; its folder is made where it is missing.

    Returns:
        The path.

    Raises:
        InputError: there are no records.

    >>> import tempfile
    >>> records = [{"epoch": 1, "train_loss": 0.7, "val_loss": 0.6}, {"epoch": 2, "train_loss": 0.4, "val_loss": 0.5}]
    >>> plot_history(records, Path(tempfile.mkdtemp(), "history.png")).name
    'history.png'
    """
    if not records:
        raise InputError("there is no history to draw: the run has not finished an epoch")
    figure, (loss, accuracy, rate) = drawing.figure(13.5, 4.0, 3)
    epochs = [drawing.value(record, "epoch") for record in records]

    share = _share(records)
    judged = [100 * drawing.value(record, share) for record in records]
    beside = share != "val_accuracy"
    for axes, name, unit, which in ((loss, "loss", 1.0, ""), (accuracy, "accuracy", 100.0, ", accuracy" * beside)):
        curves = {
            words + which: [unit * drawing.value(record, f"{split}_{name}") for record in records]
            for split, words in (("train", "training"), ("val", "validation"))
        }
        if axes is accuracy and beside:
            curves[f"validation, {in_words(share)}"] = judged
        lines = [
            drawing.curve(axes, epochs, values, colour, words)
            for colour, (words, values) in zip(drawing.COLOURS, curves.items(), strict=False)
            if any(map(math.isfinite, values))
        ]
        if lines:
            drawing.legend(axes, lines)
    drawing.title(loss, "Loss")
    loss.set_ylabel("loss")
    highest = loss.dataLim.ymax
    loss.set_ylim(0, 1.05 * highest if math.isfinite(highest) and highest > 0 else 1)
    drawing.title(accuracy, in_words(share).capitalize())
    accuracy.set_ylabel("%")
    _mark_best(accuracy, epochs, judged, drawing.COLOURS[2 if beside else 1])

    drawing.title(rate, "Learning rate")
    draw_rates(rate, epochs, records)

    for axes in (loss, accuracy, rate):
        _epoch_axis(axes, epochs)
        if not axes.lines:
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=drawing.GREY)
            axes.yaxis.set_visible(False)
    return drawing.save(figure, path)


def plot_comparison(strategies: Mapping[str, Sequence[Sequence[Record]]], path: str | os.PathLike[str]) -> Path:
    """Draws what several strategies are judged by on validation images, the accuracy or of several labels an image the
    mean average precision: the mean over their seeds in a band from worst to best.

    Few curves with short names are named where they end; others are numbered there, the best first, and named below.

    Args:
        strategies: for each name, the histories of its runs (one list of records for each seed). Runs may differ in
            length; one that stopped early counts with its last value from there on.
        path: the PNG to write; its folder is made where it is missing.

    Returns:
        The path.

    Raises:
        InputError: there is nothing to draw, naming the strategies without a record.

    >>> import tempfile
    >>> runs = {"frozen": [[{"epoch": 1, "val_accuracy": 0.8}]], "all": [[{"epoch": 1, "val_accuracy": 0.9}]]}
    >>> plot_comparison(runs, Path(tempfile.mkdtemp(), "comparison.png")).name
    'comparison.png'
    """
    empty = [name for name, runs in strategies.items() if not any(runs)]
    if empty or not strategies:
        raise InputError(f"there is no history to draw{' for ' + ', '.join(map(repr, empty)) if empty else ''}")
    below = curve_names.go_below(strategies)
    figure, (axes,) = drawing.figure(8.0, 5.0 + (curve_names.height_below(strategies) if below else 0.0), 1)
    share = _share(record for runs in strategies.values() for run in runs for record in run)
    curves = {name: _by_epoch(runs, share) for name, runs in strategies.items()}
    points = _side_by_side({name: epochs for name, (epochs, _) in curves.items() if len(epochs) == 1})
    ends: list[curve_names.End] = []
    for number, (name, (epochs, values)) in enumerate(curves.items()):
        colour = drawing.colours(number + 1)[-1]
        means = [_of(sum, seeds) / max(len(seeds), 1) for seeds in values]
        low, high = [_of(min, seeds) for seeds in values], [_of(max, seeds) for seeds in values]
        if name in points:
            axes.vlines(points[name], low, high, color=colour, alpha=0.4, linewidth=5)
        else:
            axes.fill_between(epochs, low, high, color=colour, alpha=0.16, linewidth=0)
        if finite := [mean for mean in means if math.isfinite(mean)]:
            line = drawing.curve(axes, points.get(name, epochs), means, colour, name, drawing.line_style(number))
            ends.append(curve_names.End(finite[-1], name, line))
    seeds = max(len(runs) for runs in strategies.values())
    drawing.title(axes, f"Validation {in_words(share)}")
    axes.set_ylabel("%")
    if seeds > 1:
        axes.set_title(f"mean and range of {seeds} seeds", loc="right", fontsize=9, color=drawing.GREY)
    _epoch_axis(axes, [epoch for name, (epochs, _) in curves.items() for epoch in points.get(name, epochs)])
    if below:
        curve_names.write_below(figure, axes, ends)
    else:
        curve_names.write_at_ends(axes, ends)
    return drawing.save(figure, path)


def _share(records: Iterable[Record]) -> str:
    """The name of the share, 0 to 1, that records are judged by."""
    return next((name for record in records if (name := judged_by(record)) in SHARES), "val_accuracy")


def _side_by_side(points: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """The epochs of strategies that have one each, moved apart a little where several have the same.

    >>> _side_by_side({"a": [1.0], "b": [1.0], "c": [3.0]})
    {'a': [0.97], 'b': [1.03], 'c': [3.0]}
    """
    moved = {}
    for name, (epoch,) in points.items():
        beside = [other for other, at in points.items() if at == [epoch]]
        apart = min(_APART, _SPREAD / len(beside))
        moved[name] = [epoch + apart * (beside.index(name) - (len(beside) - 1) / 2)]
    return moved


def _mark_best(axes: Axes, epochs: Sequence[float], values: Sequence[float], colour: str) -> None:
    measured = [(value, epoch) for value, epoch in zip(values, epochs, strict=True) if math.isfinite(value)]
    if not measured:
        return
    value, epoch = max(measured)  # of equal ones the latest, as the model in best/
    axes.plot([epoch], [value], "o", markersize=10, markerfacecolor="none", markeredgecolor=colour)
    axes.set_title(f"best {value:.1f} %, epoch {epoch:g}", loc="right", fontsize=9, color=colour)


def _epoch_axis(axes: Axes, epochs: Iterable[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    known = [epoch for epoch in epochs if math.isfinite(epoch)]
    axes.set_xlabel("epoch", color="#444444")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    if known:
        margin = 0.03 * (max(known) - min(known)) or 0.5
        axes.set_xlim(min(known) - margin, max(known) + margin)


def _by_epoch(runs: Iterable[Sequence[Record]], share: str) -> tuple[list[float], list[list[float]]]:
    """The epochs, and at each of them the share in percent of every run that has one by then."""
    values = [{drawing.value(record, "epoch"): 100 * drawing.value(record, share) for record in run} for run in runs]
    epochs = sorted({epoch for run in values for epoch in run if math.isfinite(epoch)})
    at_each = [[_at(epoch, run) for run in values] for epoch in epochs]
    return epochs, [[value for value in seeds if math.isfinite(value)] for seeds in at_each]


def _at(epoch: float, run: Mapping[float, float]) -> float:
    """A run's value at an epoch; behind its end the last one."""
    last = max(run, default=math.inf)
    return run[last] if epoch > last else run.get(epoch, math.nan)


def _of(what: Callable[[list[float]], float], values: list[float]) -> float:
    return what(values) if values else math.nan
