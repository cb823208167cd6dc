"""Memory that a process may take, in a container and in a cluster's job."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxtl import host_memory
from jaxtl.host_memory import free_memory, total_memory

MB = 2**20
CASES = {
    "a container, version 2": ("0::/", {"memory.max": 16 * MB}, 16),
    "a container, version 1": ("4:memory:/docker/a\n0::/", {"memory/memory.limit_in_bytes": 16 * MB}, 16),
    "a job": ("0::/job/step", {"memory.max": "max", "job/memory.max": 8 * MB, "job/step/memory.max": 32 * MB}, 8),
    "no limit": ("0::/", {"memory.max": "max"}, None),
    "another controller's": ("3:cpuset:/", {"memory.max": 16 * MB}, None),
}


FILES = f"active_file {MB}\ninactive_file {MB}\n"
FILES_OF_ALL = f"{FILES}total_active_file {2 * MB}\ntotal_inactive_file {MB}\n"
IN_USE = {
    "version 2": ("0::/", {"memory.max": 16 * MB, "memory.current": 15 * MB, "memory.stat": FILES}, 3),
    "version 1": (
        "4:memory:/docker/a",
        {
            "memory/memory.limit_in_bytes": 16 * MB,
            "memory/memory.usage_in_bytes": 16 * MB,
            "memory/memory.stat": FILES_OF_ALL,
        },
        3,
    ),
    "a job with a step": (
        "0::/job/step",
        {
            "job/memory.max": 8 * MB,
            "job/memory.current": 6 * MB,
            "job/memory.stat": "anon 1\n",
            "job/step/memory.max": 7 * MB,
            "job/step/memory.current": MB,
            "job/step/memory.stat": "anon 1\n",
        },
        2,
    ),
    "too much": ("0::/", {"memory.max": MB, "memory.current": 2 * MB, "memory.stat": "anon 1\n"}, 0),
    "not told": ("0::/", {"memory.max": 3 * MB}, 3),
}


def _write(groups: str, files: dict, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system where 4 MB are available."""
    monkeypatch.setattr(host_memory, "_PROC", folder / "proc")
    monkeypatch.setattr(host_memory, "_GROUPS", folder / "groups")
    system = {"proc/self/cgroup": groups, "proc/meminfo": "MemTotal: 1 kB\nMemAvailable: 4096 kB\n"}
    for name, text in (system | {f"groups/{name}": text for name, text in files.items()}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")


@pytest.mark.parametrize(("groups", "limits", "expected"), CASES.values(), ids=CASES)
def test_a_limit_counts(groups: str, limits: dict, expected: int | None, tmp_path: Path, monkeypatch) -> None:
    whole = total_memory()
    _write(groups, limits, tmp_path, monkeypatch)
    assert total_memory() == (whole if expected is None else expected * MB)
    assert free_memory() == 4 * MB


@pytest.mark.parametrize(("groups", "files", "expected"), IN_USE.values(), ids=IN_USE)
def test_what_a_group_uses_is_not_free(groups: str, files: dict, expected: int, tmp_path: Path, monkeypatch) -> None:
    """Except for what only caches files."""
    _write(groups, files, tmp_path, monkeypatch)
    assert free_memory() == expected * MB


def test_a_system_without_control_groups_has_its_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(host_memory, "_PROC", tmp_path)
    assert free_memory() == total_memory() > MB
