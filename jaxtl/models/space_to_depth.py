"""A strided convolution of few channels as one without a stride of more."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]


def strided_conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """The convolution of ``x`` (batch, height, width, in) with ``kernel`` (rows, columns, in, out) at a stride s, on
    blocks of s x s pixels laid out as channels: the same products, summed in another order, besides some by zero.

    A tensor core takes channels in eights, so that of a stem's three it would spend more than half on padding; and it
    gets a whole block's at once. These are filled up to eights here, where it costs least: cuDNN would copy the maps.

    >>> strided_conv(jnp.ones((1, 9, 8, 3)), jnp.ones((7, 7, 3, 5)), 2, ((3, 3), (3, 3))).shape
    (1, 5, 4, 5)
    """
    taps = kernel.shape[:2]
    places = [(x.shape[i + 1] + sum(pads[i]) - taps[i]) // stride + 1 for i in range(2)]
    blocks = [-(-taps[i] // stride) for i in range(2)]
    reach = [(places[i] - 1 + blocks[i]) * stride for i in range(2)]
    edges = [(pads[i][0], reach[i] - pads[i][0] - x.shape[i + 1], 0) for i in range(2)]
    zero = jnp.zeros((), x.dtype)
    image = lax.pad(x, zero, ((0, 0, 0), *edges, (0, 0, 0)))  # a negative number cuts off rows that no window reaches
    rest = [(0, blocks[i] * stride - taps[i]) for i in range(2)]
    weights = jnp.pad(kernel, (*rest, (0, 0), (0, 0)))
    return lax.conv_general_dilated(
        _filled_up(_deep(image, stride), 3),
        _filled_up(_deep(weights[None], stride)[0], 2),
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _deep(maps: jax.Array, side: int) -> jax.Array:
    """(n, rows, columns, channels, ...) as (n, rows / side, columns / side, side * side * channels, ...)."""
    n, rows, columns, channels, *more = maps.shape
    blocks = maps.reshape(n, rows // side, side, columns // side, side, channels, *more)
    order = (0, 1, 3, 2, 4, 5, *range(6, 6 + len(more)))
    return blocks.transpose(order).reshape(n, rows // side, columns // side, side * side * channels, *more)


def _filled_up(blocks: jax.Array, axis: int) -> jax.Array:
    """With zeros behind an axis, up to a multiple of eight."""
    behind = [(0, -size % 8 if number == axis else 0) for number, size in enumerate(blocks.shape)]
    return jnp.pad(blocks, behind)
