"""What a step asks of its gradients before they move anything."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxtl.backend import on_gpu


def all_finite(tree: Any) -> jax.Array:
    """Whether no number in it is infinite or undefined.

    >>> all_finite({"a": jnp.ones((2, 3)), "b": jnp.inf}).item(), all_finite([jnp.zeros((4, 4)), jnp.ones(3)]).item()
    (False, True)
    """
    leaves = [jnp.isfinite(leaf) for leaf in jax.tree.leaves(tree)]
    if on_gpu():
        kernels = [leaf.all(-1).ravel() for leaf in leaves if leaf.ndim > 1]
        if kernels:
            # One reduction for each kernel and two for all that these leave. Without the barrier XLA reduces every
            # kernel to one number by itself, which takes two each.
            rows = jax.lax.optimization_barrier(jnp.concatenate(kernels))
            leaves = [rows, *(leaf for leaf in leaves if leaf.ndim < 2)]
    return jnp.all(jnp.array([leaf.all() for leaf in leaves]))
