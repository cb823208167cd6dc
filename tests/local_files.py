"""Real images and weights that some tests use where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_default = Path(__file__).resolve().parents[2] / "shared"
FOLDER = Path(os.environ.get("JAXTL_TEST_FILES", _default))


def shared(relative: str) -> Path:
    """The path of a real data set or weight file; skips the test, saying why, where it is missing."""
    path = FOLDER / relative
    if not path.exists():
        pytest.skip(f"needs {relative} in {FOLDER} (another folder: JAXTL_TEST_FILES)")
    return path
