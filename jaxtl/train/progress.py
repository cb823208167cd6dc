"""What a run shows while it goes on: a bar with loss, accuracy, speed and time left, and a line an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from jaxtl.judged import SHARES, judged_by, said

LATE = 2
"""Metrics are read this many steps late, so that reading them never waits for the device."""


class Progress:
    """A context manager around a whole run. Not shown: does nothing."""

    def __init__(self, steps: int, done: int, batch_size: int, shown: bool):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        self._shown = shown
        self._batch_size = batch_size
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not shown or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=done, numbers="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def epoch(self, number: int, epochs: int) -> None:
        self._bar.update(self._task, description=f"epoch {number}/{epochs}")

    def step(self, metrics: dict[str, Any] | None, rates: Mapping[str, Any]) -> None:
        """One step is under way; ``metrics`` are of an earlier one, fetched, where there is one."""
        self._bar.advance(self._task)
        if self._bar.disable or metrics is None:
            return
        task = self._bar.tasks[0]
        numbers = [f"loss {metrics['loss']:.3f}"]
        if "accuracy" in metrics:
            numbers.append(f"accuracy {100 * metrics['accuracy']:.1f} %")
        if task.speed:
            numbers.append(f"{task.speed * self._batch_size:.0f} images/s")
        numbers.append(_rates_text(rates))
        self._bar.update(self._task, numbers="  ".join(numbers))

    def record(self, record: dict[str, Any], epochs: int) -> None:
        """Prints an epoch's line."""
        if self._shown:
            parts = [f"epoch {record['epoch']}/{epochs}"]
            if "train_loss" in record:
                right = f", accuracy {100 * record['train_accuracy']:.2f} %" if "train_accuracy" in record else ""
                parts.append(f"train: loss {record['train_loss']:.3f}{right}")
            judged = f", {said(record)}" if judged_by(record) in SHARES else ""
            judged += f", r2 {record['val_r2']:.3f}" if "val_r2" in record else ""
            parts.append(f"val: loss {record['val_loss']:.3f}{judged}")
            parts.append(f"{record['images_per_second']:.0f} images/s, {record['seconds']:.0f} s")
            self._bar.console.print("  ".join(parts), highlight=False, soft_wrap=True)


def _rates_text(rates: Mapping[str, Any]) -> str:
    """The rates of a few groups, or of many the smallest and the largest."""
    if len(rates) <= 3:
        return "rate " + ", ".join(f"{group} {float(rate):.1e}" for group, rate in rates.items())
    return f"rates {float(min(rates.values())):.1e} to {float(max(rates.values())):.1e}"
