"""A 2-d convolution in the form that XLA gives it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]


def general(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int, groups: int = 1) -> jax.Array:
    """``x`` (batch, height, width, in), kernel (height, width, in / groups, out)."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=pads,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def of_input(
    gradient: jax.Array,
    kernel: jax.Array,
    shape: tuple[int, ...],
    stride: int,
    pads: Pads,
    dilation: int,
    groups: int = 1,
) -> jax.Array:
    """The gradient of an input of ``shape``."""
    x = jnp.zeros(shape, gradient.dtype)
    return jax.vjp(lambda x: general(x, kernel, stride, pads, dilation, groups), x)[1](gradient)[0]


def of_kernel(
    x: jax.Array,
    gradient: jax.Array,
    shape: tuple[int, ...],
    stride: int,
    pads: Pads,
    dilation: int,
    groups: int = 1,
) -> jax.Array:
    """The gradient of a kernel of ``shape``."""
    kernel = jnp.zeros(shape, gradient.dtype)
    return jax.vjp(lambda kernel: general(x, kernel, stride, pads, dilation, groups), kernel)[1](gradient)[0]
