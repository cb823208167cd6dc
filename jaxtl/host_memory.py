"""How much of the machine's memory a process may take: less than there is in a container, and in a job of a cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def total_memory() -> int:
    """Bytes of the machine's memory, or that the process's control groups allow, if that is less.

    >>> total_memory() > 2**20
    True
    """
    return min((os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits()))


def free_memory() -> int:
    """Bytes of it that nothing takes, where the system tells: Linux does.

    >>> 0 < free_memory() <= total_memory()
    True
    """
    with contextlib.suppress(OSError):
        for line in (_PROC / "meminfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return min(total_memory(), 1024 * int(value.split()[0]))
    return total_memory()


def _limits() -> Iterator[int]:
    """Of both versions of control groups, from the process's own up to the root, which is the container's in one."""
    try:
        own = (_PROC / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in own:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, name = (_GROUPS / "memory", "memory.limit_in_bytes") if controllers else (_GROUPS, "memory.max")
        group = root / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(root))):
            with contextlib.suppress(OSError, ValueError):  # no such folder in a container, or "max"
                yield int((folder / name).read_text(encoding="utf-8"))
