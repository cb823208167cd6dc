"""timm and torch, the guests that parity tests compare with."""

from __future__ import annotations

from types import ModuleType

import pytest

from jaxtl.errors import InputError
from jaxtl.pretrained import guests


def import_timm() -> ModuleType:
    """timm, ready to use; skips the test, saying why, where torch or timm is not installed."""
    try:
        return guests.import_timm()
    except InputError as missing:
        pytest.skip(str(missing))
