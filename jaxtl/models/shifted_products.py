"""A depthwise convolution as a sum of shifted products."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]


def depthwise(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int) -> jax.Array:
    """The sum in float32 at least, in the type of ``x``. XLA makes one pass of it on a GPU, and one or two of the
    kernel's gradient; cuDNN's kernels for it are slow, and trying them all takes minutes.

    >>> depthwise(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2)), 1, ((1, 1), (1, 1)), 1)[0, :2, :2, 0].tolist()
    [[4.0, 6.0], [6.0, 9.0]]
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return shifted_products(x.astype(wide), kernel.astype(wide), stride, pads, dilation).astype(x.dtype)


def shifted_products(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int) -> jax.Array:
    """``x`` (batch, height, width, channels) times each tap of ``kernel`` (rows, columns, 1, channels), shifted to its
    place and added up."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    batch, *sizes, channels = x.shape
    reach = [
        (size - (taps - 1) * dilation - 1) // stride * stride for size, taps in zip(sizes, kernel.shape, strict=False)
    ]
    total = None
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            top, left = i * dilation, j * dilation
            window = lax.slice(
                x, (0, top, left, 0), (batch, top + reach[0] + 1, left + reach[1] + 1, channels), (1, stride, stride, 1)
            )
            term = window * kernel[i, j, 0]
            total = term if total is None else total + term
    assert total is not None
    return total
