"""Rotary position embeddings on a grid of tokens: queries and keys turn by angles that depend on their place.

Su et al., https://arxiv.org/abs/2104.09864; on images: EVA-02 (https://arxiv.org/abs/2303.11331), RoPE-ViT
(https://arxiv.org/abs/2403.13298) and DINOv3 (https://arxiv.org/abs/2508.10104).

An embedding gives ``(sin, cos)``, each (tokens, heads or 1, half a head's width), for ``rotate``. Tokens in front of
the grid's, such as a class token, have the angle 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtl.models.convolution import Pair
from jaxtl.models.init import Shape
from jaxtl.models.layers import param


@dataclass(frozen=True)
class AxialRope:
    """Fixed angles: half of the frequencies turn with the row, the other half with the column.

    Attributes:
        grid: rows and columns of tokens.
        head_width: channels of an attention head.
        temperature: the ratio between the fastest and (nearly) the slowest frequency.
        centred: places from -1 to 1 across the image, times 2 pi, as in DINOv3; otherwise rows and columns are counted.
        offset: added to the places that are counted.
        reference: the grid that the places are scaled to, if they are counted; ``None``: as they are.
        columns_first: the first half of the frequencies belongs to the column (timm's indexing ``"xy"``).
        prefix: tokens in front of the grid's.

    >>> sin, cos = AxialRope((2, 3), 8, prefix=1).tables("float32")
    >>> sin.shape, cos[:2, 0].tolist()
    ((7, 1, 4), [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    """

    grid: Pair
    head_width: int
    temperature: float = 10000.0
    centred: bool = False
    offset: float = 0.0
    reference: Pair | None = None
    columns_first: bool = False
    prefix: int = 0

    @functools.cache  # noqa: B019 (values, small and few)
    def tables(self, dtype: str) -> tuple[np.ndarray, np.ndarray]:
        """Sines and cosines, computed in float64."""
        bands = self.head_width // 4
        frequencies = float(self.temperature) ** -(np.arange(bands) / bands)
        places = grid_places(self.grid, self.prefix, self.columns_first, self._places)
        angles = (places[:, :, None] * frequencies).reshape(len(places), 1, 2 * bands)
        return np.sin(angles).astype(dtype), np.cos(angles).astype(dtype)

    def _places(self, axis: int) -> np.ndarray:
        size = self.grid[axis]
        if self.centred:
            return 2 * math.pi * (2 * (np.arange(size) + 0.5 + self.offset) / size - 1)
        scale = 1.0 if self.reference is None else self.reference[axis] / size
        return (np.arange(size) + self.offset) * scale

    def __call__(self, block: int, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
        sin, cos = self.tables(str(jnp.promote_types(dtype, jnp.float32)))
        return jnp.asarray(sin), jnp.asarray(cos)


class MixedRope(nnx.Module):
    """Learnt frequencies for each block, head and pair of channels, each of which turns with both row and column.

    Args:
        grid: rows and columns of tokens.
        head_width: channels of an attention head.
        num_heads: heads of each block.
        depth: blocks.
        temperature: of the frequencies at the start.
        columns_first: the first frequency belongs to the column (timm's indexing ``"xy"``).
        prefix: tokens in front of the grid's.
    """

    def __init__(
        self,
        grid: Pair,
        head_width: int,
        *,
        num_heads: int,
        depth: int,
        temperature: float = 10.0,
        columns_first: bool = False,
        prefix: int = 0,
    ):
        self.freqs = param((2, depth, num_heads, head_width // 2), RandomDirections(temperature))
        self.grid, self.columns_first, self.prefix = grid, columns_first, prefix

    def __call__(self, block: int, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
        wide = jnp.promote_types(dtype, jnp.float32)
        places = grid_places(self.grid, self.prefix, self.columns_first, lambda axis: np.arange(self.grid[axis]))
        freqs = self.freqs[:, block].astype(wide)
        angles = sum(jnp.asarray(places[:, axis, None, None], wide) * freqs[axis] for axis in range(2))
        return jnp.sin(angles), jnp.cos(angles)


Rope = AxialRope | MixedRope


@dataclass(frozen=True)
class RandomDirections:
    """How mixed frequencies start: two orthogonal ones of each magnitude, turned at random for each head.

    >>> RandomDirections(10.0)(np.random.default_rng(0), (2, 3, 4, 8)).shape
    (2, 3, 4, 8)
    """

    temperature: float

    def __call__(self, generator: np.random.Generator, shape: Shape) -> np.ndarray:
        _, depth, num_heads, pairs = shape
        magnitudes = self.temperature ** -(np.arange(pairs // 2) / (pairs // 2))
        turn = generator.uniform(0, 2 * np.pi, (depth, num_heads, 1))
        along = [np.concatenate([magnitudes * f(turn), magnitudes * f(turn + np.pi / 2)], -1) for f in (np.cos, np.sin)]
        return np.stack(along).astype(np.float32)


def grid_places(grid: Pair, prefix: int, columns_first: bool, along: Callable[[int], np.ndarray]) -> np.ndarray:
    """(prefix + rows * columns, 2): the two coordinates of each token, zeros for those in front.

    ``along(axis)`` gives the coordinates along the rows (0) or columns (1).

    >>> grid_places((2, 2), 1, False, lambda axis: np.arange(2)).tolist()
    [[0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    rows, columns = np.meshgrid(along(0), along(1), indexing="ij")
    places = np.zeros((prefix + grid[0] * grid[1], 2))
    places[prefix:] = np.stack([columns, rows] if columns_first else [rows, columns], -1).reshape(-1, 2)
    return places


def rotate(x: jax.Array, sin: jax.Array, cos: jax.Array, *, half: bool = False) -> jax.Array:
    """Turns pairs of channels of queries or keys (batch, tokens, heads, width of a head).

    Args:
        half: a pair is a channel of the first half and its counterpart in the second; otherwise two neighbours.

    >>> rotate(jnp.ones((1, 1, 1, 2)), jnp.ones((1, 1, 1)), jnp.zeros((1, 1, 1))).ravel().tolist()
    [-1.0, 1.0]
    """
    first, second = jnp.split(x, 2, axis=-1) if half else (x[..., ::2], x[..., 1::2])
    turned = (first * cos - second * sin, second * cos + first * sin)
    y = jnp.concatenate(turned, -1) if half else jnp.stack(turned, -1).reshape(x.shape)
    return y.astype(x.dtype)
