"""Mutated image files give an image or an InputError: no crash, no hang, no warning, no leak."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
MEGABYTES = 64


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts handles and memory in /proc")
@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files(count):
    seed = datetime.date.today().toordinal()
    ended = subprocess.run(
        [sys.executable, str(TESTS / "fuzz_images.py"), str(count), str(seed)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        check=False,
    )
    assert ended.returncode == 0, f"seed {seed}: {ended.stderr}"
    assert "Warning" not in ended.stderr, f"seed {seed}: {ended.stderr}"
    assert "Traceback" not in ended.stderr, f"seed {seed}: {ended.stderr}"
    found = json.loads(ended.stdout)
    assert found["wrong"] == []
    assert found["outcomes"].keys() >= {"image", "refused"}
    assert "strange" not in found["outcomes"]
    assert found["handles_more"] <= 0
    assert found["megabytes_more"] < MEGABYTES
