"""What is measured, and on what."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtl.errors import InputError
from jaxtl.huge_pages import ASKED, TUNABLES

ROOT = Path(__file__).parents[1]
_DEVICE_OF = {
    "JAX": "import jax; print('' if jax.default_backend() == 'cpu' else jax.devices()[0].device_kind)",
    "PyTorch": "from jaxtl.pretrained.guests import import_timm; import_timm(); from torch import cuda; "
    "print(cuda.get_device_name() if cuda.is_available() else '')",
}
_WRITTEN = (":!benchmarks/results.json", ":!benchmarks/RESULTS.md")


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory in GB and whether programs asked for huge pages, Python's version."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": next(_lines("/proc/cpuinfo", "model name"), "") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages / 2**30),
        "huge_pages": ASKED in os.environ.get(TUNABLES, ""),
        "python": platform.python_version(),
    }


def commit(root: Path = ROOT) -> str:
    """The commit of the code that is measured, and whether it was changed since; empty outside a clone."""
    if not (root / ".git").exists():
        return ""
    try:
        name = _git(root, "rev-parse", "--short=10", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{name}, changed" if changed else name


def accelerator() -> str:
    """What both frameworks compute on, such as "NVIDIA H200"; empty: the CPU.

    Each is asked in a process of its own, because the one that asks holds the device.

    Raises:
        InputError: one of them does not start, or only one has a device besides the CPU.
    """
    ours, theirs = (_answer(framework, code) for framework, code in _DEVICE_OF.items())
    if bool(ours) != bool(theirs):
        raise InputError(
            f"JAX computes on {ours or 'the CPU'} and PyTorch on {theirs or 'the CPU'}: install both for the same "
            "device, or compare on the CPU with JAX_PLATFORMS=cpu CUDA_VISIBLE_DEVICES= in front of the command"
        )
    return ours


def _answer(framework: str, code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise InputError(f"{framework} does not start: {(done.stderr.strip().splitlines() or ['it says nothing'])[-1]}")
    return done.stdout.strip()


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True, cwd=root).stdout.strip()


def _lines(path: str, key: str) -> Iterator[str]:
    with contextlib.suppress(OSError), open(path) as file:
        yield from (line.partition(":")[2].strip() for line in file if line.startswith(key))
