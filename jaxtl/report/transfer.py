"""How transferable the stages of a network are, drawn from the records of the study of that name."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtl.errors import InputError
from jaxtl.judged import in_words
from jaxtl.report import drawing

Record = Mapping[str, Any]


def plot_transferability(rows: Sequence[Record], stages: Sequence[Record], path: str | os.PathLike[str]) -> Path:
    """Draws how good runs are against the number of frozen stages, and beside it how far full fine-tuning moved each
    stage.

    Args:
        rows: for each number of frozen stages ``frozen``, ``stage`` (the last frozen one, None for none), ``mean``,
            ``lowest`` and ``highest`` (0 to 1) of what ``measure`` names, ``"val_accuracy"`` where it is missing or
            None.
        stages: for each stage ``stage``, ``distance`` (relative change of its weights; None leaves a gap) and
            ``similarity`` (of its outputs before and after, 0 to 1).
        path: the PNG to write; its folder is made where it is missing.

    Raises:
        InputError: there are no rows.

    >>> import tempfile
    >>> rows = [{"frozen": 0, "stage": None, "mean": 0.9, "lowest": 0.9, "highest": 0.9}]
    >>> stages = [{"stage": "stem", "distance": 0.1, "similarity": 0.99}]
    >>> plot_transferability(rows, stages, Path(tempfile.mkdtemp(), "transferability.png")).name
    'transferability.png'
    """
    if not rows:
        raise InputError("there is no result to draw: no run has finished")
    measure = next((row["measure"] for row in rows if row.get("measure")), "val_accuracy")
    figure, (judged, moved) = drawing.figure(11.0, 4.2, 2)

    frozen = [row["frozen"] for row in rows]
    low, middle, high = ([100 * drawing.value(row, key) for row in rows] for key in ("lowest", "mean", "highest"))
    judged.fill_between(frozen, low, high, color=drawing.COLOURS[0], alpha=0.16, linewidth=0)
    judged.plot(frozen, middle, color=drawing.COLOURS[0], linewidth=2, marker="o", markersize=4)
    judged.set_xticks(frozen, [str(row["stage"] or "none") for row in rows], rotation=30, ha="right")
    judged.set_xlabel("frozen up to", color="#444444")
    judged.set_ylabel("%")
    drawing.title(judged, f"Validation {in_words(measure)}")

    places = range(len(stages))
    distances = [drawing.value(stage, "distance") for stage in stages]
    heights = [distance if math.isfinite(distance) else 0.0 for distance in distances]
    bars = moved.bar(places, heights, color=drawing.COLOURS[1], width=0.6, label="weights: relative change")
    moved.set_xticks(list(places), [str(stage["stage"]) for stage in stages], rotation=30, ha="right")
    moved.set_ylabel("relative change of weights", color=drawing.COLOURS[1])
    drawing.title(moved, "Moved by full fine-tuning")
    other = moved.twinx()
    other.spines[["top", "left"]].set_visible(False)
    (line,) = other.plot(
        places,
        [drawing.value(stage, "similarity") for stage in stages],
        color=drawing.COLOURS[2],
        linewidth=2,
        marker="o",
        markersize=4,
        label="features: similarity (CKA)",
    )
    other.set_ylim(0, 1.05)
    other.set_ylabel("similarity of features", color=drawing.COLOURS[2])
    other.tick_params(colors="#444444", labelsize=9)
    if stages:
        moved.legend(handles=[bars, line], frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    return drawing.save(figure, path)
