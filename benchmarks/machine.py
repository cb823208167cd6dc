"""What is measured on."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from jaxtl.huge_pages import ASKED, TUNABLES


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory in GB and whether programs asked for huge pages, Python's version."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": next(_lines("/proc/cpuinfo", "model name"), platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages / 2**30),
        "huge_pages": ASKED in os.environ.get(TUNABLES, ""),
        "python": platform.python_version(),
    }


def accelerator() -> str:
    """What JAX computes on by default, such as "NVIDIA H200"; empty: the CPU. Asked in a process of its own, because
    the one that asks holds the device."""
    code = "import jax; print('' if jax.default_backend() == 'cpu' else jax.devices()[0].device_kind)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _lines(path: str, key: str) -> Iterator[str]:
    with contextlib.suppress(OSError), open(path) as file:
        yield from (line.partition(":")[2].strip() for line in file if line.startswith(key))
