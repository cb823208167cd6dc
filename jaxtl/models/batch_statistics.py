"""Normalisation with the statistics of the batch, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxtl.backend import on_cpu


def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of each channel (the last axis), at least in float32, whatever the mean.

    On GPUs and TPUs ``x`` is read once: ``mean = c + E[x - c]`` and ``var = E[(x - c)^2] - E[x - c]^2``, where ``c`` is
    the middle pixel of the first image (Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983:
    shifted data). The difference loses the digits of ``1 + (mean - c)^2 / var``: few, since ``c`` is one of the values.
    A CPU makes two passes, each one sum that the compiler vectorises, which takes half the time there of two at once.

    >>> [value.tolist() for value in moments(jnp.array([[1.0, 5.0], [3.0, 5.0]]))]
    [[2.0, 5.0], [1.0, 0.0]]
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (_in_two_passes if on_cpu() else _in_one_pass)(wide, tuple(range(x.ndim - 1)))


def _in_two_passes(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    mean = x.mean(axes)
    # The mean that is returned is another value to XLA, or it would keep all of x - mean for what is done with both.
    return jax.lax.optimization_barrier(mean), jnp.square(x - mean).mean(axes)


def _in_one_pass(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    middle = tuple(length // 2 for length in x.shape[1:-1])
    near = jax.lax.stop_gradient(x[0, *middle])
    beside, count = x - near, x.size // x.shape[-1]
    first, second = two_sums(beside, jnp.square(beside))
    mean = first / count
    return near + mean, jnp.maximum(second / count - jnp.square(mean), 0)


def two_sums(one: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sums over all axes but the last of two arrays of one shape.

    >>> [total.tolist() for total in two_sums(jnp.ones((2, 3)), jnp.zeros((2, 3)))]
    [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]
    """
    axes = tuple(range(one.ndim - 1))
    if on_cpu():
        return one.sum(axes), other.sum(axes)
    zero = jnp.zeros((), one.dtype)
    return jax.lax.reduce((one, other), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), axes)


def normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """``(x - mean) / sqrt(var + eps) * scale + bias`` of each channel, and that mean and biased variance.

    The gradient (Ioffe and Szegedy, https://arxiv.org/abs/1502.03167) keeps ``x`` and reads it twice, where what JAX
    derives keeps ``x - mean`` besides and makes more passes. The mean and the variance that are returned have no
    gradient of their own.

    >>> y, (mean, var) = normalise(jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1), 0.0)
    >>> y.tolist(), mean.tolist(), var.tolist()
    ([[-1.0], [1.0]], [2.0], [1.0])
    """
    y, mean, var = _normalise(x, scale, bias, eps)
    return y, (jax.lax.stop_gradient(mean), jax.lax.stop_gradient(var))


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalise(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean, var = moments(x)
    return ((x - mean) * (scale * jax.lax.rsqrt(var + eps)) + bias).astype(x.dtype), mean, var


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float):
    y, mean, var = _normalise(x, scale, bias, eps)
    return (y, mean, var), (x, scale, bias, mean, jax.lax.rsqrt(var + eps))


def _backward(eps: float, kept, gradients):
    gradient = gradients[0].astype(kept[3].dtype)
    return backward(kept, lambda _: gradient)


def backward(kept, gradient: Callable[[jax.Array | None], jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients of ``x``, ``scale`` and ``bias``, which are in ``kept`` with the mean of ``x`` and the inverse of
    its standard deviation. ``gradient(after)`` is that of what was normalised, as wide as these; it is called for each
    use, with what must be there before or None.
    """
    x, scale, bias, mean, inverse = kept
    # No term is made of x alone: XLA would compute x - mean in the forward pass and keep all of it until here.
    first = gradient(None)
    for_bias, with_x = two_sums(first, first * x)
    for_scale = (with_x - mean * for_bias) * inverse
    factor, slope = scale * inverse, scale * inverse * inverse * for_scale / (x.size // x.shape[-1])
    constant = slope * mean - factor * for_bias / (x.size // x.shape[-1])
    for_x = factor * gradient(for_bias) - slope * x + constant
    return for_x.astype(x.dtype), for_scale.astype(scale.dtype), for_bias.astype(bias.dtype)


_normalise.defvjp(_forward, _backward)
