"""The gradient of a ResNet's max-pooling as one kernel for NVIDIA's GPUs, in Pallas."""

from __future__ import annotations

import importlib
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxtl.backend import from_ampere_on, several_devices

_COLUMNS = 8  # windows of a row that one program takes


def fits(
    shape: tuple[int, ...], side: int, stride: int, pads: tuple[tuple[int, int], ...], size: tuple[int, ...]
) -> bool:
    """Whether the kernel is for this pooling: of 3x3 pixels, every other place, on a device that runs it. With several
    devices it is not used, because XLA would gather all maps on each of them.

    Args:
        shape: of the maxima, (batch, height, width, channels).
        side, stride, pads: of the pooling.
        size: height and width of what is pooled.
    """
    _, height, width, channels = shape
    whole = size == (2 * height, 2 * width) and [first for first, _ in pads] == [1, 1]
    even = width % _COLUMNS == 0 and channels >= 16 and channels & (channels - 1) == 0
    runs = from_ampere_on() and not several_devices() and _triton_is_there()
    return (side, stride) == (3, 2) and whole and even and runs


@cache
def _triton_is_there() -> bool:
    """JAX means to remove this part of Pallas; the loop that was there before does without."""
    try:
        importlib.import_module("jax.experimental.pallas.triton")
    except ImportError:
        return False
    return True


def spread(place: jax.Array, gradient: jax.Array, *, interpret: bool = False) -> jax.Array:
    """Each maximum's gradient at the pixel where it was found, (batch, 2 * height, 2 * width, channels).

    A program reads what eight windows of a row, and their neighbours below and to the right, have to give, and writes
    the two by sixteen pixels that no other one writes. XLA's loop asks every pixel for its windows one by one: of 256
    maps of 112x112 pixels with 64 channels in bfloat16 it takes 1.02 ms on an H200, and this 0.18 ms.

    Args:
        place: uint8 (batch, height, width, channels), where in its window a maximum lies, row by row from 0 to 8.
        gradient: of the maxima, in the same shape.
        interpret: runs on any device, slowly.

    >>> ones = jnp.ones((1, 2, 8, 16))
    >>> spread(jnp.full(ones.shape, 4, jnp.uint8), ones, interpret=True)[0, :, :4, 0].tolist()
    [[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    batch, height, width, channels = gradient.shape
    made = pl.pallas_call(
        partial(_program, load=triton.load, store=triton.store, pl=pl),
        grid=(batch, height, width // _COLUMNS),
        out_shape=jax.ShapeDtypeStruct((batch, height, 2, width, 2, channels), gradient.dtype),
        interpret=interpret,
        compiler_params=None if interpret else triton.CompilerParams(num_warps=2, num_stages=1),
        name="max_pool_gradient",
    )(place, gradient)
    return made.reshape(batch, 2 * height, 2 * width, channels)


def _program(places: Any, gradients: Any, pixels: Any, *, load: Any, store: Any, pl: Any) -> None:
    image, row, column = pl.program_id(0), pl.program_id(1), pl.program_id(2) * _COLUMNS
    _, height, width, channels = places.shape
    columns = column + jax.lax.broadcasted_iota(jnp.int32, (_COLUMNS, channels), 0)

    def window(down: int, right: int) -> tuple[jax.Array, jax.Array]:
        at = image, jnp.minimum(row + down, height - 1), pl.ds(column + right, _COLUMNS), slice(None)
        there = (row + down < height) & (columns + right < width)
        found = load(places.at[at], mask=there, other=jnp.zeros((), places.dtype)).astype(jnp.int32)
        given = load(gradients.at[at], mask=there, other=jnp.zeros((), gradients.dtype))
        return found, given.astype(jnp.promote_types(given.dtype, jnp.float32))

    own, right, below, across = (window(i, j) for i in (0, 1) for j in (0, 1))

    def given(*by: tuple[tuple[jax.Array, jax.Array], int]) -> jax.Array:
        """The sum of what these windows give to the pixel that has those places in them."""
        return sum(jnp.where(found == place, gradient, 0.0) for (found, gradient), place in by)  # type: ignore[return-value]

    def put(down: int, beside: int, value: jax.Array) -> None:
        at = image, row, jnp.int32(down), pl.ds(column, _COLUMNS), jnp.int32(beside), slice(None)
        store(pixels.at[at], value.astype(pixels.dtype))

    put(0, 0, given((own, 4)))
    put(0, 1, given((own, 5), (right, 3)))
    put(1, 0, given((own, 7), (below, 1)))
    put(1, 1, given((own, 8), (right, 6), (below, 2), (across, 0)))
