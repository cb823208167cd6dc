"""The most memory of the host that a process and those it started held at once."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

_EVERY = 0.5  # seconds


class HostMemory:
    """Watches this process and all that descend from it, from now to the end of the process.

    What several processes share counts once (Linux's proportional set size), so that the workers that a loader forks
    cost what they add. A moment of less than half a second counts in this process alone.

    >>> memory = HostMemory()
    >>> memory.most() > 2**20
    True
    """

    def __init__(self) -> None:
        self._most = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def most(self) -> int:
        """Bytes."""
        self._most = max(self._most, held(os.getpid()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return self._most

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(_EVERY):
            self._most = max(self._most, held(os.getpid()))


def held(process: int) -> int:
    """Bytes that a process and all that descend from it hold now; 0 where the system does not say."""
    return sum(_share(one) for one in _descent(process))


def _descent(process: int) -> Iterator[int]:
    yield process
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _descent(int(child))


def _share(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
