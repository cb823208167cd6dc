"""A side's memory is its own and that of its workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.host_memory import held

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="Linux alone counts shares")

WORKER = "import sys; held = bytearray(b'1') * (100 * 2**20); print('ready', flush=True); sys.stdin.read()"

MOST = """
from benchmarks.host_memory import HostMemory
memory = HostMemory()
large = bytearray(b"1") * (memory.most() + 50 * 2**20)
during = memory.most()
assert during >= len(large)
del large
assert memory.most() >= during
"""


def test_workers_count_while_they_live():
    before = held(os.getpid())
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        during = held(os.getpid())
    assert 100 * 2**20 < during - before < 150 * 2**20
    assert held(worker.pid) == 0


def test_the_most_stays():
    """In a process of its own, whose memory is little and not given to others meanwhile. A shell starts it, because
    to Linux the most that a process held is at least what the one held that started it."""
    program = ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, MOST]
    subprocess.run(program, cwd=Path(__file__).parents[2], check=True)
