"""What the device can do at most, and what a step asks of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

from benchmarks.options import Options
from benchmarks.side import Side
from benchmarks.turns import ask_once


def jaxtl_side(case: dict[str, Any]) -> Side:
    """Answers with floating-point operations a second of a large matrix product, and bytes a second of a large copy.

    The product is in float32 on a CPU and in bfloat16 on a GPU, as the training steps are.
    """
    import jax
    import jax.numpy as jnp

    from benchmarks import jax_side

    gpu = jax_side.on_gpu()
    side = case["matrix"] * (4 if gpu else 1)
    count = case["megabytes"] * 2**18 * (8 if gpu else 1)

    def measure(_: Any) -> dict[str, list[float]]:
        matrix = jnp.ones((side, side), jnp.bfloat16 if gpu else jnp.float32)
        array = jnp.ones(count, jnp.float32)
        product, copy = jax.jit(lambda x: x @ x), jax.jit(lambda x: x + 1)
        return {
            "flops": [2 * side**3 / seconds for seconds in _seconds(lambda: product(matrix), case["turns"])],
            "bytes": [2 * array.nbytes / seconds for seconds in _seconds(lambda: copy(array), case["turns"])],
        }

    return Side(measure, setup="", **jax_side.about())


SIDES = {"jaxtl": jaxtl_side}


def measured(options: Options) -> dict[str, list[float]]:
    """The device's rates, several of each."""
    case = {"matrix": 4096, "megabytes": 512, "turns": max(5, options.turns)}
    if options.size == "quick":
        case = {"matrix": 256, "megabytes": 4, "turns": 2}
    return ask_once(__name__, "jaxtl", case, "measure")


def cost(lower: Callable[[], Any]) -> dict[str, float]:
    """What XLA counts in a function for a CPU: ``flops``, and ``bytes`` that its operations read and write.

    ``lower`` returns ``jax.jit(...).lower(...)`` of a function that has not been traced. Convolutions have XLA's own
    form for it, because XLA counts a loop's body once.
    """
    from jaxtl.compiled import compiled
    from jaxtl.models import convolution

    with mock.patch.object(convolution, "on_cpu", return_value=False):
        lowered = lower()
        return counted(lowered, compiled(lowered))


def counted(lowered: Any, program: Any) -> dict[str, float]:
    """What XLA counts in a compiled program; its arithmetic before compilation where that is more, since a GPU's
    libraries do part of it uncounted."""
    before, after = (_first(stage.cost_analysis()) for stage in (lowered, program))
    return {"flops": max(before.get("flops", 0.0), after.get("flops", 0.0)), "bytes": after.get("bytes accessed", 0.0)}


def _first(found: Any) -> Mapping[str, float]:
    return (found[0] if isinstance(found, list) else found) or {}


def bounds(cost: Mapping[str, float], device: Mapping[str, list[float]], images: int) -> dict[str, float]:
    """Images per second at the device's whole rate of arithmetic, and at its whole rate of memory.

    >>> bounds({"flops": 10.0, "bytes": 4.0}, {"flops": [100.0], "bytes": [20.0]}, images=2)
    {'flops': 20.0, 'bytes': 10.0}
    """
    return {
        what: images * statistics.median(device[what]) / asked if (asked := cost[what]) else float("inf")
        for what in ("flops", "bytes")
    }


def _seconds(run: Callable[[], Any], turns: int) -> list[float]:
    run().block_until_ready()
    found = []
    for _ in range(turns):
        begun = time.perf_counter()
        run().block_until_ready()
        found.append(time.perf_counter() - begun)
    return found
