"""What vision transformers, and networks that learnt from them, have in common."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint

from jaxtl.backend import on_gpu
from jaxtl.errors import InputError
from jaxtl.models import init
from jaxtl.models.convolution import Pair, pair
from jaxtl.models.layers import Activation, Conv, Dropout, Linear, param
from jaxtl.models.product import product
from jaxtl.models.softmax_attention import attend

Norm = Callable[[int], nnx.Module]

_MATRIX = init.Normal(0.02)


def side_by_side(tokens: jax.Array) -> jax.Array:
    """The tokens (batch, tokens, channels), on a GPU, where gradients flow through them, with the channels of each side
    by side in memory. For the sake of the position embedding's gradient XLA would put the batch there, and transpose
    between all matrix products behind.
    """
    return _side_by_side(tokens) if on_gpu() else tokens


@jax.custom_jvp
def _side_by_side(tokens: jax.Array) -> jax.Array:
    """A layout cannot be asked for in an exported program."""
    return tokens


@_side_by_side.defjvp
def _derive(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    tokens, tangent = (with_layout_constraint(array, Layout((0, 1, 2))) for (array,) in (primals, tangents))
    return tokens, tangent


class LayerScale(nnx.Module):
    """A learnt factor for each channel of a residual branch, small at the start.

    Touvron et al., https://arxiv.org/abs/2103.17239.
    """

    def __init__(self, channels: int, start: float = 1e-5):
        self.gamma = param((channels,), init.Constant(start))

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return x * self.gamma[...].astype(x.dtype)


class Mlp(nnx.Module):
    """Two linear layers on the last axis with an activation, and perhaps a norm, between them."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        out: int | None = None,
        act: str = "gelu",
        norm: Norm | None = None,
        bias: bool = True,
        drop: float = 0.0,
    ):
        self.fc1 = Linear(channels, hidden, bias=bias, kernel_init=_MATRIX)
        self.act = Activation(act)
        self.drop1 = Dropout(drop)
        self.norm = norm(hidden) if norm else None
        self.fc2 = Linear(hidden, out or channels, bias=bias, kernel_init=_MATRIX)
        self.drop2 = Dropout(drop)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = self.drop1(self.act(self.fc1(x)), rngs)
        if self.norm is not None:
            x = self.norm(x)
        return self.drop2(self.fc2(x), rngs)


class GatedMlp(nnx.Module):
    """Timm's ``GluMlp``: one layer to ``hidden`` channels, one half of which, activated, gates the other.

    Shazeer, https://arxiv.org/abs/2002.05202.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        act: str = "silu",
        norm: Norm | None = None,
        bias: bool = True,
        gate_last: bool = True,
        drop: float = 0.0,
    ):
        self.fc1 = Linear(channels, hidden, bias=bias, kernel_init=_MATRIX)
        self.act = Activation(act)
        self.drop1 = Dropout(drop)
        self.norm = norm(hidden // 2) if norm else None
        self.fc2 = Linear(hidden // 2, channels, bias=bias, kernel_init=_MATRIX)
        self.drop2 = Dropout(drop)
        self.gate_last = gate_last

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        first, second = jnp.split(self.fc1(x), 2, axis=-1)
        x = first * self.act(second) if self.gate_last else self.act(first) * second
        x = self.drop1(x, rngs)
        if self.norm is not None:
            x = self.norm(x)
        return self.drop2(self.fc2(x), rngs)


class SwiGLU(nnx.Module):
    """The gated MLP with the gate's weights and the values' in layers of their own."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        act: str = "silu",
        norm: Norm | None = None,
        bias: bool = True,
        drop: float = 0.0,
    ):
        self.fc1_g = Linear(channels, hidden, bias=bias, kernel_init=_MATRIX)
        self.fc1_x = Linear(channels, hidden, bias=bias, kernel_init=_MATRIX)
        self.act = Activation(act)
        self.drop1 = Dropout(drop)
        self.norm = norm(hidden) if norm else None
        self.fc2 = Linear(hidden, channels, bias=bias, kernel_init=_MATRIX)
        self.drop2 = Dropout(drop)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = self.drop1(self.act(self.fc1_g(x)) * self.fc1_x(x), rngs)
        if self.norm is not None:
            x = self.norm(x)
        return self.drop2(self.fc2(x), rngs)


class PatchEmbed(nnx.Module):
    """Images (batch, height, width, channels) to tokens (batch, rows, columns, width): one convolution of patches.

    Raises:
        InputError: images of another size than ``img_size``, unless that is ``None``.
    """

    def __init__(
        self,
        img_size: int | Pair | None,
        patch_size: int | Pair,
        in_chans: int,
        width: int,
        *,
        bias: bool = True,
        norm: Norm | None = None,
    ):
        self.patch_size = pair(patch_size)
        self.img_size = None if img_size is None else pair(img_size)
        self.proj = PatchConv(in_chans, width, self.patch_size, bias=bias)
        self.norm = norm(width) if norm else None

    @property
    def grid(self) -> Pair:
        """Rows and columns of tokens at ``img_size``."""
        assert self.img_size is not None
        return self.img_size[0] // self.patch_size[0], self.img_size[1] // self.patch_size[1]

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if self.img_size is not None and x.shape[1:3] != self.img_size:
            raise InputError(
                f"this network takes images of {self.img_size[0]} x {self.img_size[1]} pixels and got "
                f"{x.shape[1]} x {x.shape[2]}; load it with img_size={x.shape[1]} for others"
            )
        x = self.proj(x)
        return x if self.norm is None else self.norm(x)


class PatchConv(Conv):
    """A convolution whose windows do not overlap, as one matrix product; a remainder at the edges is left out."""

    def __init__(self, in_channels: int, out_channels: int, patch_size: Pair, *, bias: bool = True):
        super().__init__(in_channels, out_channels, patch_size, bias=bias, kernel_init=_MATRIX)

    def convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        height, width, channels, out = kernel.shape
        rows, columns = x.shape[1] // height, x.shape[2] // width
        x = x[:, : rows * height, : columns * width].reshape(-1, rows, height, columns, width, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, height * width * channels)
        y = product(x, kernel.astype(x.dtype).reshape(-1, out))
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class AttentionPoolLatent(nnx.Module):
    """Tokens (batch, tokens, width) to (batch, width): a learnt query attends to all, then an MLP's branch.

    Zhai et al., "Scaling Vision Transformers", https://arxiv.org/abs/2106.04560.
    """

    def __init__(
        self, width: int, num_heads: int, *, mlp_ratio: float = 4.0, norm: Norm | None = None, act: str = "gelu"
    ):
        self.latent = param((1, 1, width), init.Normal(width**-0.5))
        self.q = Linear(width, width, kernel_init=_MATRIX)
        self.kv = Linear(width, 2 * width, kernel_init=_MATRIX)
        self.proj = Linear(width, width, kernel_init=_MATRIX)
        self.norm = norm(width) if norm else None
        self.mlp = Mlp(width, int(width * mlp_ratio), act=act)
        self.num_heads = num_heads

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        latent = jnp.broadcast_to(self.latent[...].astype(x.dtype), (x.shape[0], 1, x.shape[-1]))
        query = heads(self.q(latent), self.num_heads)
        key, value = (heads(part, self.num_heads) for part in jnp.split(self.kv(x), 2, axis=-1))
        x = self.proj(attend(query, key, value).reshape(latent.shape))
        x = x + self.mlp(x if self.norm is None else self.norm(x), rngs)
        return x[:, 0]


def heads(x: jax.Array, count: int) -> jax.Array:
    """(batch, tokens, width) -> (batch, tokens, count, width / count)."""
    return x.reshape(*x.shape[:-1], count, x.shape[-1] // count)


def resize_grid(array: np.ndarray, old: Pair, new: Pair, method: str = "bicubic") -> np.ndarray:
    """Values on a grid of tokens (1, rows * columns, width) for another grid, as timm resizes them.

    Args:
        array: the values.
        old, new: (rows, columns).
        method: ``"bicubic"``: antialiased; ``"bilinear"``: not; ``"bilinear_corners"``: with the corners of both grids
            on each other.

    >>> resize_grid(np.ones((1, 4, 3), np.float32), (2, 2), (3, 3)).shape
    (1, 9, 3)
    """
    if old == new:
        return array
    width = array.shape[-1]
    rows, columns = (_resize_matrix(before, after, method) for before, after in zip(old, new, strict=True))
    grid = np.asarray(array, np.float32).reshape(*old, width)
    return np.einsum("ij,kl,jlc->ikc", rows, columns, grid).reshape(1, -1, width).astype(np.float32)


def resize_positions(
    stored: np.ndarray, new: Pair, *, prefix: int = 0, old: Pair | None = None, method: str = "bicubic"
) -> np.ndarray:
    """Position embeddings (1, prefix + rows * columns, width) for another grid of tokens.

    Args:
        stored: the embeddings.
        new: (rows, columns).
        prefix: tokens in front of the grid's, whose embeddings stay.
        old: the grid of ``stored``; a square one when not given.
        method: see ``resize_grid``.

    Raises:
        InputError: when ``old`` is not given and the stored grid is no square.

    >>> resize_positions(np.ones((1, 5, 3), np.float32), (3, 3), prefix=1).shape
    (1, 10, 3)
    """
    places = stored.shape[1] - prefix
    if old is None:
        side = math.isqrt(max(0, places))
        old = side, side
    if math.prod(old) != places:
        raise InputError(
            f"the stored pos_embed has {stored.shape[1]} places, which are no square of patches behind {prefix} other "
            "tokens; it can be resized from a folder whose config.json says img_size, as jaxtl.save writes it"
        )
    patches = resize_grid(stored[:, prefix:], old, new, method)
    return np.concatenate((stored[:, :prefix], patches), 1)


def resize_patches(kernel: np.ndarray, new: Pair, method: str = "bicubic") -> np.ndarray:
    """A kernel of patches (height, width, in, out) for patches of another size.

    It gives on larger patches, when these were resized from small ones, what the stored one gives on the small ones.
    Beyer et al., "FlexiViT", https://arxiv.org/abs/2212.08013.

    >>> resize_patches(np.ones((4, 4, 3, 8), np.float32), (6, 6)).shape
    (6, 6, 3, 8)
    """
    method = method.removesuffix("_corners")
    rows, columns = (
        np.linalg.pinv(_resize_matrix(before, after, method).T)
        for before, after in zip(kernel.shape[:2], new, strict=True)
    )
    return np.einsum("ij,kl,jlco->ikco", rows, columns, kernel, optimize=True).astype(np.float32)


def _resize_matrix(old: int, new: int, method: str) -> np.ndarray:
    """(new, old): the weights with which each new place sees the old ones."""
    ratio = old / new
    centres = (np.arange(new) + 0.5) * ratio - 0.5
    if method == "bicubic":  # Keys' cubic (a = -0.5)
        distance = np.abs(np.arange(old)[None, :] - centres[:, None]) / max(ratio, 1.0)
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
        return weights / weights.sum(1, keepdims=True)
    if method == "bilinear_corners":
        centres = np.linspace(0, old - 1, new)
    return np.maximum(0.0, 1 - np.abs(np.arange(old)[None, :] - np.clip(centres, 0, old - 1)[:, None]))
