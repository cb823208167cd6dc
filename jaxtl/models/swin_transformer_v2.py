"""The second version of Swin transformers, by timm's names: cosine attention, norms behind the branches, and a bias
that a small network computes from relative positions, so that it holds for windows of any size.

Liu et al., https://arxiv.org/abs/2111.09883.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtl.errors import InputError
from jaxtl.models import init, registry
from jaxtl.models.convolution import Pair, pair
from jaxtl.models.layers import Activation, Linear, Stack, param
from jaxtl.models.softmax_attention import attend
from jaxtl.models.swin_transformer import SIZES, SwinTransformer
from jaxtl.models.transformer import heads
from jaxtl.models.windows import look_up_bias, mask_regions

_MATRIX = init.Normal(0.02)
_LARGEST_SCALE = math.log(100)


class CosineWindowAttention(nnx.Module):
    """Self-attention by the angle between query and key, times a learnt scale of at most 100 for each head.

    The bias of a relative position is 16 times the sigmoid of what ``cpb_mlp`` makes of its logarithmic coordinates.
    """

    def __init__(
        self, channels: int, heads: int, window: Pair, *, pretrained_window: Pair = (0, 0), qkv_bias: bool = True
    ):
        self.logit_scale = param((heads, 1, 1), init.Constant(math.log(10)))
        self.cpb_mlp = Stack(
            Linear(2, 512, kernel_init=_MATRIX), Activation("relu"), Linear(512, heads, bias=False, kernel_init=_MATRIX)
        )
        self.qkv = Linear(channels, 3 * channels, bias=False, kernel_init=_MATRIX)
        self.q_bias = param((channels,), init.zeros) if qkv_bias else None
        self.v_bias = param((channels,), init.zeros) if qkv_bias else None
        self.proj = Linear(channels, channels, kernel_init=_MATRIX)
        self.heads, self.window, self.pretrained_window = heads, window, pretrained_window

    def __call__(self, x: jax.Array, regions: np.ndarray | None = None) -> jax.Array:
        query, key, value = jnp.split(self.qkv(x), 3, axis=-1)
        if self.q_bias is not None and self.v_bias is not None:
            query, value = query + self.q_bias[...].astype(x.dtype), value + self.v_bias[...].astype(x.dtype)
        query, key, value = (heads(part, self.heads) for part in (query, key, value))
        scale = jnp.exp(jnp.minimum(self.logit_scale[...], _LARGEST_SCALE))[..., 0]
        query = (_unit(query) * scale).astype(x.dtype)
        bias = mask_regions(look_up_bias(self._bias_table(x.dtype), self.window), regions, x.shape[0])
        y = attend(query, _unit(key).astype(x.dtype), value, bias, scale=1.0)
        return self.proj(y.reshape(x.shape))

    def _bias_table(self, dtype: jnp.dtype) -> jax.Array:
        coordinates = log_coordinates(self.window, self.pretrained_window)
        wide = jnp.promote_types(dtype, jnp.float32)
        return 16 * jax.nn.sigmoid(self.cpb_mlp(jnp.asarray(coordinates, wide)))


def _unit(x: jax.Array) -> jax.Array:
    """Vectors of length one along the last axis, zeros where ``x`` is zero; at least in float32."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))


def log_coordinates(window: Pair, pretrained: Pair = (0, 0)) -> np.ndarray:
    """(offsets, 2): the relative positions in a window, logarithmic, in parts of the window that weights were made for.

    ``pretrained`` is that window, (0, 0) the same one. float32.

    >>> (3 * log_coordinates((2, 1), pretrained=(9, 9))).tolist()
    [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    """
    reach = [max(side - 1, 1) for side in (pretrained if pretrained[0] > 0 else window)]
    axes = [
        8 * np.arange(1 - side, side, dtype=np.float32) / np.float32(far)
        for side, far in zip(window, reach, strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.sign(grid) * np.log2(np.abs(grid) + 1) / np.float32(3)


class SwinTransformerV2(SwinTransformer):
    """The family. Stages: ``stem``, ``layers.0`` to ``layers.3`` (the last with the final norm), ``head.fc``.

    Args:
        embed_dim, depths, num_heads, img_size, patch_size, window_size, mlp_ratio, qkv_bias, always_partition,
            dynamic_img_size: see ``SwinTransformer``. Weights fit every size of images and windows as they are.
        num_classes, in_chans, until, drop_rate, drop_path_rate, head: see ``jaxtl.models.registry.build``. timm's
            ``drop_path_rate`` is 0.1 when none is given, here it is 0.
        act_layer: a name in ``jaxtl.models.layers.ACTIVATIONS``.
        pretrained_window_sizes: for each stage the window, or its side, that the weights' bias was trained with; 0: the
            network's own.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: tuple[int, ...],
        num_heads: tuple[int, ...],
        img_size: int | Pair = 256,
        patch_size: int | Pair = 4,
        window_size: Any = 7,
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        act_layer: str = "gelu",
        pretrained_window_sizes: Sequence[int | Pair] | None = None,
        always_partition: bool = False,
        dynamic_img_size: bool = False,
        head: tuple[int, ...] = (),
    ):
        pretrained = [0] * len(depths) if pretrained_window_sizes is None else pretrained_window_sizes
        if len(pretrained) != len(depths):
            raise InputError(
                f"pretrained_window_sizes is {pretrained}; it has one window for each of {len(depths)} stages"
            )
        self._assemble(
            [
                partial(CosineWindowAttention, pretrained_window=pair(window), qkv_bias=qkv_bias)
                for window in pretrained
            ],
            embed_dim,
            depths,
            num_heads,
            img_size=img_size,
            patch_size=patch_size,
            window_size=window_size,
            in_chans=in_chans,
            until=until,
            drop_path_rate=drop_path_rate,
            mlp_ratio=mlp_ratio,
            always_partition=always_partition,
            dynamic_img_size=dynamic_img_size,
            act_layer=act_layer,
            post_norm=True,
        )
        self._set_head(num_classes, drop_rate, head)


def _finetuned(size: str, window: int) -> dict[str, Any]:
    """Weights made with windows of 12 on images of 192 pixels, for larger ones."""
    return {**SIZES[size], "img_size": 16 * window, "window_size": window, "pretrained_window_sizes": (12, 12, 12, 6)}


ARCHITECTURES: dict[str, dict[str, Any]] = {
    **{
        f"swinv2_{size}_window{window}_256": {**SIZES[size], "window_size": window}
        for size in ("tiny", "small", "base")
        for window in (8, 16)
    },
    **{
        f"swinv2_{size}_window12_192": {**SIZES[size], "img_size": 192, "window_size": 12, "num_classes": 21841}
        for size in ("base", "large")
    },
    **{
        f"swinv2_{size}_window12to{window}_192to{16 * window}": _finetuned(size, window)
        for size in ("base", "large")
        for window in (16, 24)
    },
}

registry.register(SwinTransformerV2, ARCHITECTURES)
