"""What the device can do at most, and what a step asks of it."""

from __future__ import annotations

import math
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
    """What XLA counts in a function: ``flops``, and ``bytes`` that its operations read and write.

    ``lower`` returns ``jax.jit(...).lower(...)`` of a function that has not been traced. Convolutions have XLA's own
    form for it, because XLA counts a loop's body once.
    """
    from jaxtl.compiled import compiled
    from jaxtl.models import convolution

    with mock.patch.object(convolution, "on_cpu", return_value=False):
        return counted(compiled(lower()))


def counted(program: Any) -> dict[str, float]:
    """What XLA counts in a compiled program. Of a GPU's it leaves out the arithmetic of the libraries: `products`."""
    found = program.cost_analysis()
    found = (found[0] if isinstance(found, list) else found) or {}
    return {"flops": found.get("flops", 0.0), "bytes": found.get("bytes accessed", 0.0)}


def products(jaxpr: Any) -> float:
    """Floating-point operations of the matrix products and convolutions in a traced function (``.jaxpr`` of what
    ``jax.make_jaxpr(f)(...)`` returns), those of a loop as often as it runs.

    >>> import jax, jax.numpy as jnp
    >>> products(jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y @ x, x))(jnp.ones((4, 4))).jaxpr)
    384.0
    """
    from jax.extend.core import jaxprs_in_params

    total = 0.0
    for equation in jaxpr.eqns:
        name, options = equation.primitive.name, equation.params
        if name == "dot_general":
            left = equation.invars[0].aval.shape
            depth = math.prod(left[axis] for axis in options["dimension_numbers"][0][0])
            total += 2 * math.prod(equation.outvars[0].aval.shape) * depth
        elif name == "conv_general_dilated":
            kernel, outputs = equation.invars[1].aval.shape, options["dimension_numbers"].rhs_spec[0]
            depth = math.prod(kernel) / kernel[outputs] / math.prod(options["lhs_dilation"])  # products by no zeros
            total += 2 * math.prod(equation.outvars[0].aval.shape) * depth
        times = options.get("length", 1) if name == "scan" else 1
        for inner in jaxprs_in_params(options):
            total += times * products(inner)
    return total


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
