"""What a run shows while it goes on: a bar with loss, accuracy, speed and time left, and a line an epoch."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any

import jax

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
        self._late: deque[dict[str, Any]] = deque()
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

    def step(self, metrics: dict[str, Any]) -> None:
        """One step is under way; ``metrics`` may still be in the making."""
        self._late.append(metrics)
        self._bar.advance(self._task)
        if self._bar.disable or len(self._late) <= LATE:
            return
        ready = jax.device_get(self._late.popleft())
        task = self._bar.tasks[0]
        speed = f"{task.speed * self._batch_size:.0f} images/s" if task.speed else ""
        self._bar.update(
            self._task, numbers=f"loss {ready['loss']:.3f}  accuracy {100 * ready['accuracy']:.1f} %  {speed}"
        )

    def record(self, record: dict[str, Any], epochs: int) -> None:
        """Prints an epoch's line."""
        if self._shown:
            self._bar.console.print(
                f"epoch {record['epoch']}/{epochs}  "
                f"train: loss {record['train_loss']:.3f}, accuracy {100 * record['train_accuracy']:.2f} %  "
                f"val: loss {record['val_loss']:.3f}, accuracy {100 * record['val_accuracy']:.2f} %  "
                f"{record['images_per_second']:.0f} images/s, {record['seconds']:.0f} s",
                highlight=False,
                soft_wrap=True,
            )
