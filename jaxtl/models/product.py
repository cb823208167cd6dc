"""Products of what a layer sees with its matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxtl.backend import on_cpu
from jaxtl.jitted import for_this_machine
from jaxtl.models.onednn import convolve, for_onednn, multiply

WORK = 2**26  # multiplications from which on oneDNN is worth calling


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``x`` (images, ..., in) times ``kernel`` (in, out); bfloat16 by oneDNN on a CPU that multiplies it fast.

    >>> product(jnp.ones((2, 9, 4)), jnp.ones((4, 8))).shape
    (2, 9, 8)
    """
    if on_cpu() and for_this_machine() and x.dtype == jnp.bfloat16 and x.ndim > 2:
        pays = x.size * kernel.shape[1] >= WORK
        if pays and for_onednn(x, kernel):
            return by_onednn(x, kernel)
    rows = x.reshape(-1, x.shape[-1])  # of two dimensions, or XLA transposes all of x and of its gradient on a CPU
    return (rows @ kernel).reshape(*x.shape[:-1], kernel.shape[1])


@jax.custom_vjp
def by_onednn(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution of 1x1 pixel."""
    places = x.reshape(x.shape[0], -1, 1, x.shape[-1])
    return convolve(places, kernel[None, None], [(0, 0)] * 2).reshape(*x.shape[:-1], kernel.shape[1])


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return by_onednn(x, kernel), (x, kernel)


def _gradients(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    rows, of_rows = (array.reshape(-1, array.shape[-1]) for array in (x, gradient))
    return by_onednn(gradient, kernel.T), multiply(of_rows, rows, transpose_x=True).T.astype(kernel.dtype)


by_onednn.defvjp(_forward, _gradients)
