"""The part of the time in which a GPU computes, as its driver counts it."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence

SETTLED = 1.0
"""Seconds after which nothing of what was before is left in a sample: nvidia-smi's are averages over up to so many."""
_EVERY = 100  # milliseconds


class Utilisation:
    """Asks ``nvidia-smi`` again and again while it is open, a context manager; without one it knows nothing.

    Attributes:
        samples: (``time.perf_counter()``, percent of the last moments in which a kernel ran).
    """

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Utilisation:
        if shutil.which("nvidia-smi"):
            command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            command.append(f"--id={_first_visible()}")
            self._process = subprocess.Popen(
                [*command, f"--loop-ms={_EVERY}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            self._thread = threading.Thread(target=self._read, args=(self._process,), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._thread is not None:
            self._process.terminate()
            self._process.wait()
            self._thread.join()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # "[N/A]": a part of a GPU, of which the driver counts nothing
                    self.samples.append((time.perf_counter(), float(line)))


def _first_visible() -> str:
    """The GPU that a program computes on by default, by number or UUID."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"


def mean_between(samples: Sequence[tuple[float, float]], begun: float, ended: float) -> float | None:
    """The mean of the samples in a span of time; None where there is none.

    >>> mean_between([(1.0, 50.0), (2.0, 90.0), (3.0, 100.0)], 1.5, 3.5)
    95.0
    """
    found = [percent for moment, percent in samples if begun <= moment <= ended]
    return statistics.mean(found) if found else None
