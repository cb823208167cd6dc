"""A side's memory is its own and that of its workers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.host_memory import HostMemory, held

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="Linux alone counts shares")

WORKER = "import sys; held = bytearray(b'1') * (100 * 2**20); print('ready', flush=True); sys.stdin.read()"


def test_workers_count_while_they_live():
    before = held(os.getpid())
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        during = held(os.getpid())
    assert 100 * 2**20 < during - before < 150 * 2**20
    assert held(worker.pid) == 0


def test_the_most_stays():
    memory = HostMemory()
    before = memory.most()
    large = bytearray(b"1") * (before + 50 * 2**20)
    during = memory.most()
    assert during >= len(large)
    del large
    assert memory.most() >= during
