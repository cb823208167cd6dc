"""The maximum over windows in a form for GPUs, which notes in the forward pass where each maximum lies."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxtl.models import max_pool_gradient

Pads = tuple[tuple[int, int], ...]


def max_pool(x: jax.Array, side: int, stride: int, pads: Pads) -> jax.Array:
    """The maximum over windows of ``side`` pixels; its gradient goes to the first of equal maxima.

    What the gradient needs is a byte for each maximum, its place in its window, so that it reads neither the pixels
    nor the maxima again.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), 2, 2, ((0, 0), (0, 0)))[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    return _max_pool(x, side, stride, pads, x.shape[1:3])


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _max_pool(x: jax.Array, side: int, stride: int, pads: Pads, size: tuple[int, ...]) -> jax.Array:
    window, strides = (1, side, side, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, np.asarray(-np.inf, x.dtype), lax.max, window, strides, ((0, 0), *pads, (0, 0)))


def _forward(x: jax.Array, side: int, stride: int, pads: Pads, size: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-np.inf)
    batch, height, width, channels = padded.shape
    reach = [(length - side) // stride * stride + 1 for length in (height, width)]

    def taken(tap: int) -> jax.Array:
        i, j = divmod(tap, side)
        limit = batch, i + reach[0], j + reach[1], channels
        return lax.slice(padded, (0, i, j, 0), limit, (1, stride, stride, 1))

    most = taken(0)
    place = jnp.zeros(most.shape, np.uint8 if side * side < 256 else np.int32)
    for tap in range(1, side * side):
        pixels = taken(tap)
        better = (pixels > most) | jnp.isnan(pixels)
        most, place = jnp.where(better, pixels, most), jnp.where(better, jnp.asarray(tap, place.dtype), place)
    return most, place


def _backward(
    side: int, stride: int, pads: Pads, size: tuple[int, ...], place: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    if place.dtype == np.uint8 and max_pool_gradient.fits(gradient.shape, side, stride, pads, size):
        return (max_pool_gradient.spread(place, gradient),)
    # Each pixel asks the windows that it lies in; in blocks of stride x stride pixels these are the same ones.
    shifts = range(-(-side // stride))
    blocks = [-(-(pads[i][0] + size[i]) // stride) for i in range(2)]
    rows, columns = (lax.broadcasted_iota(jnp.int32, (1, 1, stride, 1, stride, 1), axis) for axis in (2, 4))

    def seen(values: jax.Array, down: int, right: int) -> jax.Array:
        """What each block sees in the windows that many places before its own."""
        edges = [(by, blocks[i] - values.shape[i + 1] - by, 0) for i, by in enumerate((down, right))]
        moved = lax.pad(values, jnp.zeros((), values.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
        return moved[:, :, None, :, None, :]

    total = jnp.zeros((), gradient.dtype)
    for down in shifts:
        for right in shifts:
            row, column = rows + down * stride, columns + right * stride
            there = (seen(place, down, right).astype(jnp.int32) == row * side + column) & (row < side) & (column < side)
            total = total + jnp.where(there, seen(gradient, down, right), 0)
    for_padded = total.reshape(gradient.shape[0], blocks[0] * stride, blocks[1] * stride, gradient.shape[-1])
    return (for_padded[:, pads[0][0] : pads[0][0] + size[0], pads[1][0] : pads[1][0] + size[1]],)


_max_pool.defvjp(_forward, _backward)
