"""Curves of one run, and of several strategies side by side, from the records of ``history.jsonl``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtl.errors import InputError
from jaxtl.report import curve_names, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]


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

    for axes, measure, unit in ((loss, "loss", 1.0), (accuracy, "accuracy", 100.0)):
        for split, colour, words in (
            ("train", drawing.COLOURS[0], "training"),
            ("val", drawing.COLOURS[1], "validation"),
        ):
            values = [unit * drawing.value(record, f"{split}_{measure}") for record in records]
            _line(axes, epochs, values, colour, words)
    drawing.title(loss, "Loss")
    loss.set_ylabel("loss")
    loss.set_ylim(0, 1.05 * loss.dataLim.ymax if math.isfinite(loss.dataLim.ymax) else 1)
    drawing.title(accuracy, "Accuracy")
    accuracy.set_ylabel("%")
    judged, colour = [100 * drawing.value(record, "val_accuracy") for record in records], drawing.COLOURS[1]
    if any("val_mean_average_precision" in record for record in records):
        judged = [100 * drawing.value(record, "val_mean_average_precision") for record in records]
        colour = drawing.COLOURS[2]
        _line(accuracy, epochs, judged, colour, "validation, mean average precision")
    _mark_best(accuracy, epochs, judged, colour)

    groups = list(dict.fromkeys(group for record in records for group in record.get("learning_rate") or {}))
    for colour, group in zip(drawing.colours(len(groups) + 2)[2:], groups, strict=True):
        rates = [drawing.value(record.get("learning_rate") or {}, group) for record in records]
        _line(rate, epochs, [value if value > 0 else math.nan for value in rates], colour, group)
    drawing.title(rate, "Learning rate")
    rate.set_yscale("log")

    for axes in (loss, accuracy, rate):
        _epoch_axis(axes, epochs)
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
        else:
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=drawing.GREY)
            axes.yaxis.set_visible(False)
    return drawing.save(figure, path)


def plot_comparison(strategies: Mapping[str, Sequence[Sequence[Record]]], path: str | os.PathLike[str]) -> Path:
    """Draws the validation accuracy of several strategies: the mean over their seeds in a band from worst to best.

    Few curves with short names are named where they end; others are numbered there, the best first, and named below.

    Args:
        strategies: for each name, the histories of its runs (one list of records for each seed). Runs may differ in
            length; one that stopped early counts with its last accuracy from there on.
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
    every_epoch: list[float] = []
    ends: list[curve_names.End] = []
    for number, (name, runs) in enumerate(strategies.items()):
        colour = drawing.colours(number + 1)[-1]
        epochs, values = _by_epoch(runs)
        every_epoch += epochs
        means = [_of(sum, seeds) / max(len(seeds), 1) for seeds in values]
        axes.fill_between(
            epochs, [_of(min, s) for s in values], [_of(max, s) for s in values], color=colour, alpha=0.16, linewidth=0
        )
        _line(axes, epochs, means, colour, name, drawing.line_style(number))
        finite = [mean for mean in means if math.isfinite(mean)]
        if finite:
            ends.append(curve_names.End(finite[-1], name, axes.lines[-1]))
    seeds = max(len(runs) for runs in strategies.values())
    drawing.title(axes, "Validation accuracy")
    axes.set_ylabel("%")
    if seeds > 1:
        axes.set_title(f"mean and range of {seeds} seeds", loc="right", fontsize=9, color=drawing.GREY)
    _epoch_axis(axes, every_epoch)
    if below:
        curve_names.write_below(figure, axes, ends)
    else:
        curve_names.write_at_ends(axes, ends)
    return drawing.save(figure, path)


def _line(
    axes: Axes, epochs: Sequence[float], values: Sequence[float], colour: str, label: str, style: str = "-"
) -> None:
    if any(map(math.isfinite, values)):
        marker = "o" if len(epochs) <= 30 else ""
        axes.plot(epochs, values, color=colour, label=label, linestyle=style, linewidth=2, marker=marker, markersize=4)


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


def _by_epoch(runs: Iterable[Sequence[Record]]) -> tuple[list[float], list[list[float]]]:
    """The epochs, and at each of them the validation accuracy in percent of every run that has one by then."""
    accuracies = [
        {drawing.value(record, "epoch"): 100 * drawing.value(record, "val_accuracy") for record in run} for run in runs
    ]
    epochs = sorted({epoch for run in accuracies for epoch in run if math.isfinite(epoch)})
    at_each = [[_at(epoch, run) for run in accuracies] for epoch in epochs]
    return epochs, [[accuracy for accuracy in seeds if math.isfinite(accuracy)] for seeds in at_each]


def _at(epoch: float, run: Mapping[float, float]) -> float:
    """A run's accuracy at an epoch; behind its end the last one."""
    last = max(run, default=math.inf)
    return run[last] if epoch > last else run.get(epoch, math.nan)


def _of(what: Callable[[list[float]], float], values: list[float]) -> float:
    return what(values) if values else math.nan
