"""ReLU of what the batch's statistics normalise, and of a sum, as operations with gradients of their own."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxtl.models.batch_statistics import backward, moments


def normalise_and_rectify(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, shortcut: jax.Array | None = None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """``relu(normalise(x, ...) + shortcut)``, and the mean and the biased variance, which have no gradient.

    Where ReLU let values through is computed again from ``x``, or read off the output where there is a shortcut; so
    what it makes of the gradient is used where it is made. What JAX derives writes it to memory and reads it twice.

    >>> y, (mean, var) = normalise_and_rectify(jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1), 0.0)
    >>> y.tolist(), mean.tolist(), var.tolist()
    ([[0.0], [1.0]], [2.0], [1.0])
    """
    y, mean, var = _rectify(x, scale, bias, eps) if shortcut is None else _add(x, scale, bias, shortcut, eps)
    return y, (jax.lax.stop_gradient(mean), jax.lax.stop_gradient(var))


def _normal(x: jax.Array, scale: jax.Array, bias: jax.Array, mean: jax.Array, inverse: jax.Array) -> jax.Array:
    return (x - mean) * (scale * inverse) + bias


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _rectify(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _rectify_forward(x, scale, bias, eps)[0]


def _rectify_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float):
    mean, var = moments(x)
    inverse = jax.lax.rsqrt(var + eps)
    y = jax.nn.relu(_normal(x, scale, bias, mean, inverse).astype(x.dtype))
    return (y, mean, var), (_threshold(scale, bias, mean, inverse), (x, scale, bias, mean, inverse))


def _rectify_backward(eps: float, kept, gradients):
    threshold, of_norm = kept
    x = of_norm[0]
    wide = gradients[0].astype(of_norm[3].dtype)

    def passed(after: jax.Array | None) -> jax.Array:
        # Behind a barrier of its own it is another value to XLA at each use, which else would keep an array of where
        # y > 0; two barriers of the same values would be one.
        (bound, falls), _ = jax.lax.optimization_barrier((threshold, after))
        return jnp.where((x.astype(bound.dtype) > bound) != falls, wide, 0)

    return backward(of_norm, passed)


def _threshold(scale: jax.Array, bias: jax.Array, mean: jax.Array, inverse: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each channel a bound and whether the scale is negative: ``x`` becomes positive where ``(x > bound) != falls``.

    That takes so little that XLA computes it again at each use. Computing again what ``x`` becomes, it takes for dearer
    than an array of bytes, written in the forward pass and read twice.
    """
    factor = scale * inverse
    falls = factor < 0
    crossing = mean - bias / factor
    bound = jnp.where(falls, jnp.nextafter(crossing, -jnp.inf), crossing)
    return jnp.where(factor == 0, jnp.where(bias > 0, -jnp.inf, jnp.inf), bound), falls


_rectify.defvjp(_rectify_forward, _rectify_backward)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _add(
    x: jax.Array, scale: jax.Array, bias: jax.Array, shortcut: jax.Array, eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _add_forward(x, scale, bias, shortcut, eps)[0]


def _add_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, shortcut: jax.Array, eps: float):
    mean, var = moments(x)
    inverse = jax.lax.rsqrt(var + eps)
    y = jax.nn.relu(_normal(x, scale, bias, mean, inverse).astype(x.dtype) + shortcut)
    y = jax.lax.optimization_barrier(y)  # or XLA keeps the sum besides, since y > 0 where the sum is
    return (y, mean, var), (y, (x, scale, bias, mean, inverse))


def _add_backward(eps: float, kept, gradients):
    y, of_norm = kept
    gradient = jnp.where(y > 0, gradients[0], 0)
    wide = gradient.astype(of_norm[3].dtype)
    for_x, for_scale, for_bias = backward(of_norm, lambda _: wide)
    return for_x, for_scale, for_bias, gradient


_add.defvjp(_add_forward, _add_backward)


@jax.custom_vjp
def add_and_rectify(x: jax.Array, shortcut: jax.Array) -> jax.Array:
    """``relu(x + shortcut)``, of whose gradient nothing but the output is kept, which is there anyway.

    >>> add_and_rectify(jnp.array([1.0, 2.0]), jnp.array([-2.0, 2.0])).tolist()
    [0.0, 4.0]
    """
    return jax.nn.relu(x + shortcut)


def _sum_forward(x: jax.Array, shortcut: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = jax.lax.optimization_barrier(add_and_rectify(x, shortcut))  # or XLA keeps the sum besides
    return y, y


def _sum_backward(y: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    passed = jnp.where(y > 0, gradient, 0)
    return passed, passed


add_and_rectify.defvjp(_sum_forward, _sum_backward)
