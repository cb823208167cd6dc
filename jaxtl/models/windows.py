"""Windows: attention between the tokens of one window of the feature map, and where the windows lie.

Arrays of tokens are (batch, rows, columns, channels). What depends on sizes alone is computed in numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtl.errors import InputError
from jaxtl.models.convolution import Pair
from jaxtl.models.layers import LayerNorm, Linear

Attention = Callable[[jax.Array, np.ndarray | None], jax.Array]
"""From tokens (batch * windows, tokens, channels) and their regions (windows, tokens) to tokens of the same shape.
Regions come where windows were shifted: tokens of different regions must not attend to each other."""


def split_windows(x: jax.Array, window: Pair) -> jax.Array:
    """(batch, rows, columns, channels) -> (batch * windows, tokens of a window, channels); windows must divide the map.

    >>> split_windows(jnp.arange(8).reshape(1, 2, 4, 1), (2, 2))[..., 0].tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    batch, rows, columns, channels = x.shape
    x = x.reshape(batch, rows // window[0], window[0], columns // window[1], window[1], channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, window[0] * window[1], channels)


def join_windows(windows: jax.Array, window: Pair, size: Pair) -> jax.Array:
    """The inverse of ``split_windows`` for a map of ``size`` (rows, columns).

    >>> x = jnp.arange(24).reshape(1, 4, 6, 1)
    >>> bool((join_windows(split_windows(x, (2, 3)), (2, 3), (4, 6)) == x).all())
    True
    """
    x = windows.reshape(-1, size[0] // window[0], size[1] // window[1], *window, windows.shape[-1])
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, *size, windows.shape[-1])


def attend_in_windows(x: jax.Array, attention: Attention, window: Pair, shift: Pair = (0, 0)) -> jax.Array:
    """Applies ``attention`` within windows of the map ``x``, which first moves by ``shift`` and is then moved back.

    A map that windows do not divide gets zeros behind, to which the other tokens of their windows do attend.

    >>> x = jnp.arange(35.0).reshape(1, 5, 7, 1)
    >>> bool((attend_in_windows(x, lambda tokens, regions: tokens, (2, 3), (1, 1)) == x).all())
    True
    """
    rows, columns = x.shape[1:3]
    size = (-(-rows // window[0]) * window[0], -(-columns // window[1]) * window[1])
    if any(shift):
        x = jnp.roll(x, (-shift[0], -shift[1]), (1, 2))
    x = jnp.pad(x, ((0, 0), (0, size[0] - rows), (0, size[1] - columns), (0, 0)))
    x = attention(split_windows(x, window), shift_regions(size, window, shift) if any(shift) else None)
    x = join_windows(x, window, size)[:, :rows, :columns]
    return jnp.roll(x, shift, (1, 2)) if any(shift) else x


def shift_regions(size: Pair, window: Pair, shift: Pair) -> np.ndarray:
    """(windows, tokens): a number for each token of a shifted map, equal for tokens that were neighbours before.

    The windows at the end of the map hold tokens that came from its beginning.

    >>> shift_regions((4, 1), (2, 1), (1, 0)).tolist()
    [[0, 0], [3, 6]]
    """
    rows, columns = (_axis_regions(*axis) for axis in zip(size, window, shift, strict=True))
    regions = 3 * rows[:, None] + columns
    regions = regions.reshape(size[0] // window[0], window[0], size[1] // window[1], window[1])
    return regions.transpose(0, 2, 1, 3).reshape(-1, window[0] * window[1])


def _axis_regions(size: int, window: int, shift: int) -> np.ndarray:
    place = np.arange(size)
    return (place >= size - window).astype(np.int32) + (place >= size - shift) if shift else np.zeros(size, np.int32)


def mask_regions(bias: jax.Array, regions: np.ndarray | None, count: int) -> jax.Array:
    """A bias (1, heads, tokens, tokens) for all ``count`` windows of a batch, and -100 between different regions."""
    if regions is None:
        return bias
    windows, tokens = regions.shape
    apart = jnp.asarray(regions)[:, None, :, None] != jnp.asarray(regions)[:, None, None, :]
    bias = jnp.where(apart, bias - 100, bias)
    return jnp.broadcast_to(bias, (count // windows, *bias.shape)).reshape(count, -1, tokens, tokens)


def relative_position_index(window: Pair) -> np.ndarray:
    """(tokens, tokens): the row of a table of (2 * rows - 1) * (2 * columns - 1) offsets for each query and key.

    >>> relative_position_index((1, 3)).tolist()
    [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    """
    rows, columns = (axis.ravel() for axis in np.indices(window))
    down = rows[:, None] - rows + window[0] - 1
    right = columns[:, None] - columns + window[1] - 1
    return down * (2 * window[1] - 1) + right


def look_up_bias(table: jax.Array, window: Pair) -> jax.Array:
    """(1, heads, tokens, tokens) from a table (offsets, heads) of relative positions."""
    return table[relative_position_index(window)].transpose(2, 0, 1)[None]


def resize_bias_table(table: np.ndarray, window: Pair, extra: int = 0, *, old: Pair | None = None) -> np.ndarray:
    """A table (offsets, heads) of relative positions in windows for another window, as timm resizes it.

    Linear interpolation between old offsets whose distances grow geometrically, so that they reach as far as the new
    ones and stay dense near zero. The last ``extra`` rows are no offsets and are kept. ``old`` is the table's window, a
    square one when not given.

    Raises:
        InputError: when ``old`` is not given and the table's window is no square.

    >>> resize_bias_table(np.arange(9.0)[:, None], (3, 3))[:5, 0].round(3).tolist()
    [0.0, 0.0, 1.0, 2.0, 2.0]
    """
    offsets, others = (table[:-extra], table[-extra:]) if extra else (table, table[:0])
    side = math.isqrt(len(offsets))
    before = (side, side) if old is None else (2 * old[0] - 1, 2 * old[1] - 1)
    if math.prod(before) != len(offsets):
        raise InputError(
            f"a table of {len(offsets)} relative positions is not that of a square window; it can be resized from a "
            "folder whose config.json says window_size, as jaxtl.save writes it"
        )
    after = (2 * window[0] - 1, 2 * window[1] - 1)
    if before == after:
        return table
    grid = np.asarray(offsets, np.float64).reshape(*before, -1)
    rows, columns = (_offset_weights(*sides) for sides in zip(before, after, strict=True))
    grid = np.einsum("ai,bj,ijh->abh", rows, columns, grid)
    return np.concatenate([grid.reshape(math.prod(after), -1), others]).astype(table.dtype)


def _offset_weights(old: int, new: int) -> np.ndarray:
    """(new, old): how much each old offset counts at each new one."""
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        low, high = (low, ratio) if (ratio ** (old // 2) - 1) / (ratio - 1) > new // 2 else (ratio, high)
    far = np.cumsum(ratio ** np.arange(old // 2))
    known = np.concatenate([-far[::-1], [0], far])
    wanted = np.arange(new) - new // 2
    return np.stack([np.interp(wanted, known, one) for one in np.eye(old)], axis=1)


class PatchMerging(nnx.Module):
    """Tokens of half the rows and columns: each of four neighbours side by side, reduced to ``out`` channels.

    ``norm_first`` normalises before the reduction, otherwise after it. An odd map gets a row or column of zeros.
    """

    def __init__(self, channels: int, out: int, *, norm_first: bool):
        self.norm = LayerNorm(4 * channels if norm_first else out)
        self.reduction = Linear(4 * channels, out, bias=False)
        self.norm_first = norm_first

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        batch, rows, columns, channels = x.shape
        x = x.reshape(batch, rows // 2, 2, columns // 2, 2, channels).transpose(0, 1, 3, 4, 2, 5)
        x = x.reshape(batch, rows // 2, columns // 2, 4 * channels)
        return self.reduction(self.norm(x)) if self.norm_first else self.norm(self.reduction(x))
