"""Convolutions of 3x3 pixels in 16 products of matrices that take 4/9 of a convolution's multiplications.

The method is Winograd's minimal filtering F(2x2, 3x3), in two dimensions by Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks" (2016): tiles of 4x4 pixels, which overlap by two, and the kernel are transformed, and
what their products come to is transformed back into 2x2 outputs. The gradients are the same steps backwards.
Transforms only add, and halve: outputs and the input's gradient are rounded less than by oneDNN's convolutions (of 256
channels on 14x14 pixels 0.6 of the error), the kernel's gradient more than in XLA's form (2 of it, 6e-7 in all).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxtl.models.general_convolution import Pads
from jaxtl.models.onednn import multiply

CHANNELS = 256  # in and out, from which on products save more time than transforms cost

Matrix = Sequence[Sequence[float]]
Grid = list[list[jax.Array]]

_INPUT: Matrix = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_KERNEL: Matrix = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_OUTPUT: Matrix = ((1, 1, 1, 0), (0, 1, -1, -1))


def pays(x: jax.Array, kernel: jax.Array, stride: int, dilation: int, groups: int) -> bool:
    """Whether it is faster, forward and backward, than oneDNN's convolutions with XLA's kernel gradient: most sizes
    take 0.75 to 0.9 of the time."""
    plain = kernel.shape[:2] == (3, 3) and stride == dilation == groups == 1
    return plain and x.dtype == jnp.float32 and min(kernel.shape[2:]) >= CHANNELS


def forward(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """``x`` (images, height, width, in) convolved with ``kernel`` (3, 3, in, out)."""
    height, width = (size + sum(pad) - 2 for size, pad in zip(x.shape[1:3], pads, strict=True))
    seen = _tiles(x, pads)
    shape = seen[0][0].shape
    found = _products(_rows(_both_ways(_INPUT, seen)), _transformed(kernel))
    outputs = _both_ways(_OUTPUT, _grid(found, (*shape[:3], kernel.shape[3])))
    return lax.optimization_barrier(_woven(outputs)[:, :height, :width])


def gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array, pads: Pads) -> tuple[jax.Array, jax.Array]:
    """Those of ``x`` and of ``kernel``, of one for the output."""
    seen = _tiles(x, pads)
    even = [(0, size % 2, 0) for size in gradient.shape[1:3]]
    whole = lax.pad(gradient, jnp.zeros((), gradient.dtype), [(0, 0, 0), *even, (0, 0, 0)])
    phases = [[whole[:, row::2, column::2] for column in range(2)] for row in range(2)]
    of_products = _rows(_both_ways(_transpose(_OUTPUT), phases))
    of_tiles = _products(of_products, _transformed(kernel), transpose_y=True)
    of_kernel = _products(_rows(_both_ways(_INPUT, seen)), of_products, transpose_x=True)
    for_x = _laid_down(_both_ways(_transpose(_INPUT), _grid(of_tiles, seen[0][0].shape)))
    for_kernel = _both_ways(_transpose(_KERNEL), _grid(of_kernel, kernel.shape[2:]))
    (top, _), (left, _) = pads
    return (
        lax.optimization_barrier(for_x[:, top : top + x.shape[1], left : left + x.shape[2]]),
        jnp.stack([jnp.stack(row) for row in for_kernel]),
    )


def _tiles(x: jax.Array, pads: Pads) -> Grid:
    """The pixels of all tiles, by their place in the tile: 4x4 arrays (images, tiles down, tiles across, channels)."""
    counts = [-(-(size + sum(pad) - 2) // 2) for size, pad in zip(x.shape[1:3], pads, strict=True)]
    edges = [
        (low, 2 * count + 2 - low - size, 0) for (low, _), count, size in zip(pads, counts, x.shape[1:3], strict=True)
    ]
    framed = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    framed = lax.optimization_barrier(framed)  # or each of the 16 would ask of every pixel whether it is on the frame
    down, across = counts
    return [[framed[:, i : i + 2 * down : 2, j : j + 2 * across : 2] for j in range(4)] for i in range(4)]


def _transformed(kernel: jax.Array) -> list[jax.Array]:
    return _rows(_both_ways(_KERNEL, [[kernel[i, j] for j in range(3)] for i in range(3)]))


def _both_ways(matrix: Matrix, grid: Grid) -> Grid:
    """``matrix @ grid @ matrix.T``. The arrays are not stacked: XLA fills each faster than all in one."""
    beside = [[_weighted(weights, row) for weights in matrix] for row in grid]
    return [[_weighted(weights, column) for column in zip(*beside, strict=True)] for weights in matrix]


def _weighted(weights: Sequence[float], arrays: Sequence[jax.Array]) -> jax.Array:
    first, *others = (array * weight for weight, array in zip(weights, arrays, strict=True) if weight)
    return sum(others, first)


def _transpose(matrix: Matrix) -> Matrix:
    return list(zip(*matrix, strict=True))


def _rows(grid: Grid) -> list[jax.Array]:
    """Matrices whose columns are channels."""
    return [array.reshape(-1, array.shape[-1]) for row in grid for array in row]


def _products(
    left: list[jax.Array], right: list[jax.Array], *, transpose_x: bool = False, transpose_y: bool = False
) -> list[jax.Array]:
    return [multiply(x, y, transpose_x=transpose_x, transpose_y=transpose_y) for x, y in zip(left, right, strict=True)]


def _grid(matrices: list[jax.Array], shape: tuple[int, ...]) -> Grid:
    """4x4 arrays of ``shape``."""
    return [[matrix.reshape(shape) for matrix in matrices[i : i + 4]] for i in range(0, 16, 4)]


def _laid_down(tiles: Grid) -> jax.Array:
    """The sum of all tiles, each in its place of the frame."""

    def moved(i: int, j: int) -> jax.Array:
        edges = [(place // 2, 1 - place // 2) for place in (i, j)]
        return jnp.pad(tiles[i][j], ((0, 0), *edges, (0, 0)))

    pairs = range(2)
    return _woven(
        [[moved(i, j) + moved(i + 2, j) + moved(i, j + 2) + moved(i + 2, j + 2) for j in pairs] for i in pairs]
    )


def _woven(phases: Grid) -> jax.Array:
    """From every second pixel of every second row, and so on, the whole map."""
    beside = jnp.stack([jnp.stack(row, 3) for row in phases], 2)
    images, down, _, across, _, channels = beside.shape
    return beside.reshape(images, 2 * down, 2 * across, channels)
