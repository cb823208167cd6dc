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


@pytest.mark.parametrize(("groups", "limits", "expected"), CASES.values(), ids=CASES)
def test_a_limit_counts(groups: str, limits: dict, expected: int | None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(host_memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(host_memory, "_GROUPS", tmp_path / "groups")
    whole = total_memory()
    files = {"proc/self/cgroup": groups, "proc/meminfo": "MemTotal: 1 kB\nMemAvailable: 4096 kB\n"}
    for name, text in (files | {f"groups/{name}": limit for name, limit in limits.items()}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert total_memory() == (whole if expected is None else expected * MB)
    assert free_memory() == 4 * MB


def test_a_system_without_control_groups_has_its_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(host_memory, "_PROC", tmp_path)
    assert free_memory() == total_memory() > MB
