"""Rows as the works make them, with figures to tell apart."""

from __future__ import annotations

from typing import Any

SIDE = {"device": "cpu", "setup": "float32", "same": {}, "more": {}}
ABOUT = {
    "jaxtl": {**SIDE, "versions": {"jaxtl": "1"}, "more": {"cost": {"flops": 4e9, "bytes": 1e9}}},
    "PyTorch": {**SIDE, "versions": {"torch": "2"}},
}
MEMORY = {"host": 2**30, "device": None}


def rates_of(trains: Any, ours: list[float], theirs: list[float], *, cached: bool = False) -> dict[str, Any]:
    """A row of `train_step` or `frozen_stages`."""
    about = {side: {**said, "same": {"stages": ["stem", "layer1", "fc"]}} for side, said in ABOUT.items()}
    return {
        "case": {"model": "resnet18", "size": 96, "batch_size": 8, "trains": trains, "cached": cached},
        "rates": {"jaxtl": ours, "PyTorch": theirs},
        "memory": {"jaxtl": MEMORY, "PyTorch": MEMORY},
        "about": about,
    }


def run_of(
    seconds: float, epochs: list[float], curve: list[tuple[float, float]], extrapolated: int = 0
) -> dict[str, Any]:
    """An answer of a whole run."""
    accuracy = None if extrapolated else curve[-1][1]
    return {
        "seconds": seconds,
        "epochs": epochs,
        "curve": curve,
        "accuracy": accuracy,
        "extrapolated": extrapolated,
        "started": 1.0,
        "memory": MEMORY,
    }


def entry_of(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What one call writes."""
    return {
        "date": "2001-02-03",
        "commit": "",
        "machine": {"cpu": "a processor", "cores": 2, "memory_gb": 8, "python": "3.11"},
        "load_before": 0.0,
        "load_after": 1.0,
        "found": {"rows": list(rows)},
        **more,
    }
