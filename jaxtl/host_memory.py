"""How much of the machine's memory a process may take: less than there is in a container, and in a job of a cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
_USE = {1: "memory.usage_in_bytes", 2: "memory.current"}
_OF_ALL = {1: "total_", 2: ""}  # in front of what counts the groups within too


def total_memory() -> int:
    """Bytes of the machine's memory, or that the process's control groups allow, if that is less.

    >>> total_memory() > 2**20
    True
    """
    return min((os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *(limit for limit, _ in _limits())))


def free_memory() -> int:
    """Bytes of it that nothing takes, where the system tells: Linux does. What only caches files counts as free.

    >>> 0 < free_memory() <= total_memory()
    True
    """
    free = [total_memory(), *(limit - used for limit, used in _limits())]
    with contextlib.suppress(OSError):
        available = _numbers(_PROC / "meminfo").get("MemAvailable:")
        free += [] if available is None else [1024 * available]
    return max(0, min(free))


def _limits() -> Iterator[tuple[int, int]]:
    """Limit and use of both versions of control groups, from the process's own up to the root, which is the
    container's in one."""
    try:
        own = (_PROC / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in own:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        version = 1 if controllers else 2
        root = _GROUPS / "memory" if version == 1 else _GROUPS
        group = root / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(root))):
            with contextlib.suppress(OSError, ValueError):  # no such folder in a container, or "max"
                yield int((folder / _LIMIT[version]).read_text(encoding="utf-8")), _used(folder, version)


def _used(group: Path, version: int) -> int:
    """Bytes that a control group and those in it hold, 0 where it does not tell."""
    with contextlib.suppress(OSError):
        held = int((group / _USE[version]).read_text(encoding="utf-8"))
        parts = _numbers(group / "memory.stat")
        return held - sum(parts.get(f"{_OF_ALL[version]}{kind}", 0) for kind in ("active_file", "inactive_file"))
    return 0


def _numbers(table: Path) -> dict[str, int]:
    """The first number of each line by the word in front of it."""
    lines = map(str.split, table.read_text(encoding="utf-8").splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
