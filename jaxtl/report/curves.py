"""Curves of one run, and of several strategies side by side, from the records of ``history.jsonl``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtl.errors import InputError
from jaxtl.report import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]


def plot_history(records: Sequence[Record], path: str | os.PathLike[str]) -> Path:
    """Draws loss, accuracy and learning rates of one run against the epoch.

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
    loss.set_ylabel("cross-entropy")
    loss.set_ylim(0, 1.05 * loss.dataLim.ymax if math.isfinite(loss.dataLim.ymax) else 1)
    drawing.title(accuracy, "Accuracy")
    accuracy.set_ylabel("%")
    _mark_best(accuracy, epochs, [100 * drawing.value(record, "val_accuracy") for record in records])

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

    Args:
        strategies: for each name, the histories of its runs (one list of records for each seed). Runs may differ in
            length; the mean at an epoch is over the runs that reached it.
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
    figure, (axes,) = drawing.figure(8.0, 5.0, 1)
    every_epoch: list[float] = []
    ends: list[tuple[float, str, str]] = []
    for colour, (name, runs) in zip(drawing.colours(len(strategies)), strategies.items(), strict=True):
        epochs, values = _by_epoch(runs)
        every_epoch += epochs
        means = [_of(sum, seeds) / max(len(seeds), 1) for seeds in values]
        axes.fill_between(
            epochs, [_of(min, s) for s in values], [_of(max, s) for s in values], color=colour, alpha=0.16, linewidth=0
        )
        _line(axes, epochs, means, colour, name)
        finite = [mean for mean in means if math.isfinite(mean)]
        if finite:
            ends.append((finite[-1], f"{name}  {finite[-1]:.1f} %", colour))
    seeds = max(len(runs) for runs in strategies.values())
    drawing.title(axes, "Validation accuracy")
    axes.set_ylabel("%")
    if seeds > 1:
        axes.set_title(f"mean and range of {seeds} seeds", loc="right", fontsize=9, color=drawing.GREY)
    _epoch_axis(axes, every_epoch)
    _label_ends(axes, ends)
    return drawing.save(figure, path)


def _line(axes: Axes, epochs: Sequence[float], values: Sequence[float], colour: str, label: str) -> None:
    if any(map(math.isfinite, values)):
        marker = "o" if len(epochs) <= 30 else ""
        axes.plot(epochs, values, color=colour, label=label, linewidth=2, marker=marker, markersize=4)


def _mark_best(axes: Axes, epochs: Sequence[float], values: Sequence[float]) -> None:
    measured = [(value, epoch) for value, epoch in zip(values, epochs, strict=True) if math.isfinite(value)]
    if not measured:
        return
    value, epoch = max(measured, key=lambda pair: pair[0])
    axes.plot([epoch], [value], "o", markersize=10, markerfacecolor="none", markeredgecolor=drawing.COLOURS[1])
    axes.set_title(f"best {value:.1f} %, epoch {epoch:g}", loc="right", fontsize=9, color=drawing.COLOURS[1])


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names each curve where it ends, pushed apart so that no two names overlap."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.055
    height = -math.inf
    for value, text, colour in sorted(ends):
        height = max(value, height + gap)
        axes.annotate(
            text,
            xy=(1.0, height),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=colour,
            annotation_clip=False,
        )


def _epoch_axis(axes: Axes, epochs: Iterable[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    known = [epoch for epoch in epochs if math.isfinite(epoch)]
    axes.set_xlabel("epoch", color="#444444")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    if known:
        margin = 0.03 * (max(known) - min(known)) or 0.5
        axes.set_xlim(min(known) - margin, max(known) + margin)


def _by_epoch(runs: Iterable[Sequence[Record]]) -> tuple[list[float], list[list[float]]]:
    """The epochs, and at each of them the validation accuracy in percent of every run that has one."""
    found: dict[float, list[float]] = {}
    for run in runs:
        for record in run:
            seeds = found.setdefault(drawing.value(record, "epoch"), [])
            accuracy = 100 * drawing.value(record, "val_accuracy")
            if math.isfinite(accuracy):
                seeds.append(accuracy)
    epochs = sorted(epoch for epoch in found if math.isfinite(epoch))
    return epochs, [found[epoch] for epoch in epochs]


def _of(what: Callable[[list[float]], float], values: list[float]) -> float:
    return what(values) if values else math.nan
