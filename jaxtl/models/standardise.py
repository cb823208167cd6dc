"""Mean zero and variance one along the last axis, and the gradient of that."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxtl.backend import on_cpu, on_gpu


def standardise(x: jax.Array, eps: float) -> jax.Array:
    """``(x - mean) / sqrt(var + eps)`` along the last axis, in two passes.

    On CPUs and GPUs its gradient keeps ``x`` and two numbers of each row, where what JAX derives keeps ``x - mean``
    besides; there `jax.grad` works through it and `jax.jvp` does not.

    >>> standardise(jnp.array([[1.0, 3.0], [5.0, 9.0]]), 0.0).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    return _lean(x, eps) if on_cpu() or on_gpu() else _standardise(x, eps)[0]


def _standardise(x: jax.Array, eps: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    inverse = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + eps)
    return centred * inverse, mean, inverse


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _lean(x: jax.Array, eps: float) -> jax.Array:
    return _standardise(x, eps)[0]


def _forward(x: jax.Array, eps: float):
    y, mean, inverse = _standardise(x, eps)
    return y, (x, mean, inverse)


def _backward(eps: float, kept: tuple[jax.Array, jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    x, mean, inverse = kept
    # No term is made of x alone: XLA would find x - mean in the forward pass and keep all of it until here.
    average = gradient.mean(-1, keepdims=True)
    slope = ((gradient * x).mean(-1, keepdims=True) - mean * average) * inverse**3
    return (inverse * gradient - slope * x + (slope * mean - inverse * average),)


_lean.defvjp(_forward, _backward)
