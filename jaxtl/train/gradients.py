"""What a step does with its gradients before they move anything."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from jaxtl.backend import on_gpu
from jaxtl.trees import Tree


def all_finite(tree: Any) -> jax.Array:
    """Whether no number in it is infinite or undefined.

    >>> all_finite({"a": jnp.ones((2, 3)), "b": jnp.inf}).item(), all_finite([jnp.zeros((4, 4)), jnp.ones(3)]).item()
    (False, True)
    """
    leaves = [jnp.isfinite(leaf) for leaf in jax.tree.leaves(tree)]
    if not on_gpu():
        return jnp.all(jnp.array([leaf.all() for leaf in leaves]))
    # One sum for each kernel and one for all of what these leave; a sum down to one number takes two.
    return jnp.concatenate([leaf.all(-1).ravel() if leaf.ndim > 1 else leaf.all()[None] for leaf in leaves]).all()


def as_stored(gradients: Tree) -> Tree:
    """The gradients of kernels in the order in which kernels are stored, on a GPU.

    Convolutions leave them in another. Reordered along with the optimizer's update, they would keep that from writing
    where it reads: each of its results would be copied.
    """

    def ordered(leaf: jax.Array) -> jax.Array:
        if leaf.ndim < 2:
            return leaf
        return jax.lax.optimization_barrier(with_layout_constraint(leaf, Layout(tuple(range(leaf.ndim)))))

    return jax.tree.map(ordered, gradients)
