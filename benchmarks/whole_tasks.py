"""Tables of whole runs: time, accuracy and memory of each variant."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import megabytes, ratios, spread

HEADER = [
    "what",
    "seconds",
    "PyTorch's time / jaxtl's",
    "imports, s",
    "accuracy, %",
    "epochs run of",
    "a later epoch, s",
    "device busy after the first epoch, %",
    "host memory, MB",
    "device memory, MB",
]
Answers = Mapping[str, Sequence[Mapping[str, Any]]]


def row(label: str, answers: Answers, against: str, epochs: int) -> list[str]:
    """The cells of a variant; the ratio is its time over that of ``against`` in the same turn."""
    runs = answers[label]
    seconds = [run["seconds"] for run in runs]
    reference = [run["seconds"] for run in answers[against]]
    later = [statistics.median(run["epochs"][1:]) for run in runs if len(run["epochs"]) > 1]
    missing = runs[0]["extrapolated"]
    return [
        label,
        spread(seconds),
        spread(ratios(seconds, reference), ".2f") if label.startswith("PyTorch") else "-",
        spread([run["started"] for run in runs]),
        spread([run["accuracy"] for run in runs], ".2f", 100),
        f"{epochs - missing} of {epochs}" + (", rest extrapolated" if missing else ""),
        spread(later, ".2f"),
        spread([run.get("busy") for run in runs], ".0f"),
        *(megabytes([run["memory"] for run in runs], where) for where in ("host", "device")),
    ]


def seconds_to(run: Mapping[str, Any], accuracy: float) -> float | None:
    """When a run's validation first reached an accuracy; None: never.

    >>> seconds_to({"curve": [(1.0, 0.5), (2.0, 0.8), (3.0, 0.7)]}, 0.7)
    2.0
    """
    return next((seconds for seconds, reached in run["curve"] if reached >= accuracy), None)


def common_accuracy(answers: Answers) -> float:
    """The highest accuracy that every run of every variant reached.

    >>> common_accuracy({"a": [{"curve": [(1.0, 0.5), (2.0, 0.8)]}], "b": [{"curve": [(1.0, 0.6)]}]})
    0.6
    """
    return min(max(reached for _, reached in run["curve"]) for runs in answers.values() for run in runs)
