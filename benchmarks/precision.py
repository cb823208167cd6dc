"""What both sides compute in."""

from __future__ import annotations

import os

_VARIABLE = "JAXTL_BENCHMARK_BFLOAT16"  # the sides' processes inherit it


def ask_for_bfloat16() -> None:
    """On a CPU too, which would else compute in float32."""
    os.environ[_VARIABLE] = "1"


def bfloat16(gpu: bool) -> bool:
    """Whether it is bfloat16 between layers."""
    return gpu or os.environ.get(_VARIABLE) == "1"
