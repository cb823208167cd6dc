"""A kernel whose gradient comes in the order in which kernels are stored."""

from __future__ import annotations

import jax
from jax.experimental.layout import Layout, with_layout_constraint


@jax.custom_vjp
def in_stored_order(kernel: jax.Array) -> jax.Array:
    """``kernel``, whose gradient is laid out as it is itself before anything is done with it.

    A GPU's convolutions leave a kernel's gradient in another order. Reordered along with the optimizer's update, it
    would keep that from writing where it reads: each of its results would be copied.

    >>> import jax.numpy as jnp
    >>> jax.grad(lambda kernel: (in_stored_order(kernel) ** 2).sum())(jnp.array([[1.0, 2.0]])).tolist()
    [[2.0, 4.0]]
    """
    return kernel


def _forward(kernel: jax.Array) -> tuple[jax.Array, None]:
    return kernel, None


def _backward(_: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (jax.lax.optimization_barrier(with_layout_constraint(gradient, Layout(tuple(range(gradient.ndim))))),)


in_stored_order.defvjp(_forward, _backward)
