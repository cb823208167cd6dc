"""How often jax compiles a function."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

_compiled: list[str] = []


def _record(event: str, _seconds: float, **labels: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(str(labels["fun_name"]))


jax.monitoring.register_event_duration_secs_listener(_record)


@contextmanager
def compilations(function: str) -> Iterator[list[str]]:
    """Collects an entry for each program compiled within for the jitted function of that name."""
    start, found = len(_compiled), []
    yield found
    found += [name for name in _compiled[start:] if name == f"jit({function})"]
