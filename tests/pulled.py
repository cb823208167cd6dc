"""Values and gradients of a function as one compiled program: its single operations take longer to compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax


def values_and_gradients(function: Callable[..., jax.Array], arguments: Sequence[Any], weights: Any) -> tuple[Any, ...]:
    """``(value, *gradients)`` of a function of arrays; ``weights``: the gradient of the value, in its shape."""

    def run(arguments: Sequence[Any], weights: Any) -> tuple[Any, ...]:
        value, pull = jax.vjp(function, *arguments)
        return value, *pull(weights.astype(value.dtype))

    return jax.jit(run)(arguments, weights)
