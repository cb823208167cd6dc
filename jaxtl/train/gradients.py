"""What a step asks of its gradients before they move anything."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def all_finite(tree: Any) -> jax.Array:
    """Whether no number in it is infinite or undefined.

    >>> all_finite({"a": jnp.ones((2, 3)), "b": jnp.inf}).item(), all_finite([jnp.zeros((4, 4)), jnp.ones(3)]).item()
    (False, True)
    """
    leaves = [jnp.isfinite(leaf) for leaf in jax.tree.leaves(tree)]
    # One reduction for each kernel, and one for all that these and the vectors leave. Without barriers XLA reduces each
    # leaf to one number by itself. On a GPU that takes two reductions for a kernel, and for a vector a single block of
    # threads that also computes the vector, while the gradient of what comes before it waits.
    rows = jax.lax.optimization_barrier([leaf.all(-1).ravel() if leaf.ndim > 1 else leaf.ravel() for leaf in leaves])
    return jax.lax.optimization_barrier(jnp.concatenate(rows)).all()
