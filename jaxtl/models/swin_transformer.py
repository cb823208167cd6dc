"""Swin transformers: attention within windows of the feature map that shift from block to block, by timm's names.

Liu et al., https://arxiv.org/abs/2103.14030. The S3 members come from a search over their shapes
(https://arxiv.org/abs/2111.14725).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxtl.errors import InputError
from jaxtl.models import init, registry
from jaxtl.models.convolution import Pair, pair
from jaxtl.models.head import make_head
from jaxtl.models.layers import Dropout, DropPath, LayerNorm, Linear, Stack, param
from jaxtl.models.network import Network, stages_until
from jaxtl.models.softmax_attention import attend
from jaxtl.models.transformer import Mlp, PatchEmbed, heads, resize_patches
from jaxtl.models.windows import (
    PatchMerging,
    attend_in_windows,
    look_up_bias,
    mask_regions,
    resize_bias_table,
)

MakeAttention = Callable[[int, int, Pair], nnx.Module]
"""From channels, heads and window to an attention as ``attend_in_windows`` calls it."""

_MATRIX = init.Normal(0.02)


class WindowAttention(nnx.Module):
    """Self-attention with a learnt bias for each relative position in the window."""

    def __init__(self, channels: int, heads: int, window: Pair, *, head_dim: int | None = None, qkv_bias: bool = True):
        width = heads * (head_dim or channels // heads)
        self.relative_position_bias_table = param(((2 * window[0] - 1) * (2 * window[1] - 1), heads), _MATRIX)
        self.qkv = Linear(channels, 3 * width, bias=qkv_bias, kernel_init=_MATRIX)
        self.proj = Linear(width, channels, kernel_init=_MATRIX)
        self.heads, self.window = heads, window

    def __call__(self, x: jax.Array, regions: np.ndarray | None = None) -> jax.Array:
        query, key, value = (heads(part, self.heads) for part in jax.numpy.split(self.qkv(x), 3, axis=-1))
        bias = mask_regions(look_up_bias(self.relative_position_bias_table[...], self.window), regions, x.shape[0])
        return self.proj(attend(query, key, value, bias).reshape(*x.shape[:-1], -1))


class SwinBlock(nnx.Module):
    """Attention in windows and an MLP, each with a norm before it or, in the second version, behind it."""

    def __init__(
        self,
        channels: int,
        attention: nnx.Module,
        window: Pair,
        shift: Pair,
        mlp: Mlp,
        drop_path: float,
        post_norm: bool,
    ):
        self.norm1 = LayerNorm(channels)
        self.attn = attention
        self.norm2 = LayerNorm(channels)
        self.mlp = mlp
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)
        self.window, self.shift, self.post_norm = window, shift, post_norm
        if post_norm:  # each branch starts as nothing
            self.norm1.scale, self.norm2.scale = param((channels,), init.zeros), param((channels,), init.zeros)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if self.post_norm:
            x = x + self.drop_path1(self.norm1(self._attend(x)), rngs)
            return x + self.drop_path2(self.norm2(self.mlp(x, rngs)), rngs)
        x = x + self.drop_path1(self._attend(self.norm1(x)), rngs)
        return x + self.drop_path2(self.mlp(self.norm2(x), rngs), rngs)

    def _attend(self, x: jax.Array) -> jax.Array:
        return attend_in_windows(x, self.attn, self.window, self.shift)


class _Stage(nnx.Module):
    """Half as many rows and columns where a stage is not the first, then the blocks."""

    def __init__(self, downsample: PatchMerging | None, blocks: Stack):
        self.downsample, self.blocks = downsample, blocks

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.blocks(x if self.downsample is None else self.downsample(x), rngs)


class _Head(nnx.Module):
    def __init__(self, fc: nnx.Module | None):
        self.fc = fc


class SwinTransformer(Network):
    """The family. Stages: ``stem``, ``layers.0`` to ``layers.3`` (the last with the final norm), ``head.fc``.

    Args:
        embed_dim: width of the first stage; each further one has twice that of the one before it.
        depths: number of blocks in each stage; every second shifts its windows by half.
        num_heads: attention heads in each stage.
        img_size: side of the images, or (height, width). Where a feature map is no larger than the window, the window
            is the map and does not shift. Weights for another size fit: tables of relative positions are resized, and
            so are the patches of another ``patch_size``.
        patch_size: side of the patches that are the first tokens.
        window_size: side of the windows in tokens or (rows, columns), or one of these for each stage.
        num_classes, in_chans, until, drop_rate, drop_path_rate, head: see ``jaxtl.models.registry.build``. timm's
            ``drop_path_rate`` is 0.1 when none is given, here it is 0.
        head_dim: width of an attention head; the stage's width over its heads when not given.
        mlp_ratio: hidden width of the MLPs in parts of the stage's.
        qkv_bias: whether queries, keys and values have a bias.
        always_partition: keep window and shift on feature maps that are smaller.
        dynamic_img_size: take images of any size, with the windows of ``img_size``.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: tuple[int, ...],
        num_heads: tuple[int, ...],
        img_size: int | Pair = 224,
        patch_size: int | Pair = 4,
        window_size: Any = 7,
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        head_dim: int | None = None,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        always_partition: bool = False,
        dynamic_img_size: bool = False,
        head: tuple[int, ...] = (),
    ):
        attention = partial(WindowAttention, head_dim=head_dim, qkv_bias=qkv_bias)
        self._assemble(
            [attention] * len(depths),
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
        )
        self._set_head(num_classes, drop_rate, head)

    def _assemble(
        self,
        attentions: list[MakeAttention],
        embed_dim: int,
        depths: tuple[int, ...],
        num_heads: tuple[int, ...],
        *,
        img_size: int | Pair,
        patch_size: int | Pair,
        window_size: Any,
        in_chans: int,
        until: str | None,
        drop_path_rate: float,
        mlp_ratio: float,
        always_partition: bool,
        dynamic_img_size: bool,
        act_layer: str = "gelu",
        post_norm: bool = False,
    ) -> None:
        """Sets everything but the head."""
        if len(depths) != len(num_heads):
            raise InputError(f"depths names {len(depths)} stages and num_heads {len(num_heads)}")
        windows = stage_windows(window_size, len(depths))
        image_height, image_width = pair(img_size)
        patch_height, patch_width = pair(patch_size)
        grid = (image_height // patch_height, image_width // patch_width)
        if min(grid) < 1:
            raise InputError(f"img_size is {img_size}, which is less than one patch of {patch_size}")
        all_stages = ("stem", *(f"layers.{i}" for i in range(len(depths))), "head.fc")
        self.stages = stages_until(all_stages, until)

        size = None if dynamic_img_size else (image_height, image_width)
        self.patch_embed = PatchEmbed(size, (patch_height, patch_width), in_chans, embed_dim, norm=LayerNorm)
        width, position, stages = embed_dim, 0, []
        for i in range(len(self.stages) - 2):
            downsample = PatchMerging(width, 2 * width, norm_first=not post_norm) if i else None
            if i:
                width, grid = 2 * width, ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
            blocks = []
            for j in range(depths[i]):
                window, shift = _fit(windows[i], grid, shifted=j % 2 == 1, always=always_partition)
                blocks.append(
                    SwinBlock(
                        width,
                        attentions[i](width, num_heads[i], window),
                        window,
                        shift,
                        Mlp(width, int(width * mlp_ratio), act=act_layer),
                        drop_path=drop_path_rate * position / max(1, sum(depths) - 1),
                        post_norm=post_norm,
                    )
                )
                position += 1
            stages.append(_Stage(downsample, Stack(*blocks)))
        self.layers = Stack(*stages)
        self.norm = LayerNorm(width) if len(stages) == len(depths) else None
        self.num_features = width

    def _set_head(self, num_classes: int, drop_rate: float, hidden: tuple[int, ...]) -> None:
        self.num_classes = num_classes
        self.head_drop = Dropout(drop_rate)
        self.head = _Head(make_head(self.num_features, num_classes, hidden, drop_rate))

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        modules = super().stage_modules | {"stem": ("patch_embed",)}
        for i in range(self.layers.length):
            modules[f"layers.{i}"] = (*([f"layers.{i}.downsample"] if i else []), f"layers.{i}.blocks")
        if self.norm is not None:
            modules[self.stages[-2]] += ("norm",)
        return modules

    @property
    def adapters(self) -> Mapping[str, Callable[..., np.ndarray]]:
        tables = {path: partial(resize_bias_table, window=window) for path, window in self.grids.items()}
        return tables | {"patch_embed.proj.kernel": partial(resize_patches, new=self.patch_embed.patch_size)}

    @property
    def grids(self) -> Mapping[str, Pair]:
        return {
            f"layers.{i}.blocks.{j}.attn.relative_position_bias_table": block.window
            for i, stage in enumerate(_children(self.layers))
            for j, block in enumerate(_children(stage.blocks))
            if hasattr(block.attn, "relative_position_bias_table")
        }

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "stem":
            return self.patch_embed(x)
        if name == "head.fc":
            return self.classify(self.pool(x), rngs)
        x = getattr(self.layers, name.removeprefix("layers."))(x, rngs)
        return self.norm(x) if self.norm is not None and name == self.stages[-2] else x

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        pooled = self.head_drop(pooled, rngs)
        return pooled if self.head.fc is None else self.head.fc(pooled, rngs)


def _children(stack: Stack) -> list[Any]:
    return [getattr(stack, str(i)) for i in range(stack.length)]


def stage_windows(given: Any, stages: int) -> list[Pair]:
    """(rows, columns) of the windows of each stage from one number, one pair, or one of these for each stage.

    Raises:
        InputError: for anything else.

    >>> stage_windows(7, 2), stage_windows((7, 14, (3, 5)), 3)
    ([(7, 7), (7, 7)], [(7, 7), (14, 14), (3, 5)])
    """
    try:
        if isinstance(given, int) or (len(given) == 2 and isinstance(given[0], int)):
            given = [given] * stages
        windows = [(int(rows), int(columns)) for rows, columns in (pair(window) for window in given)]
    except (TypeError, ValueError):
        windows = []
    if len(windows) != stages or any(side < 1 for window in windows for side in window):
        raise InputError(
            f"window_size is {given!r}; it is one number, (rows, columns), or one of these for each of {stages} stages"
        )
    return windows


def _fit(window: Pair, grid: Pair, *, shifted: bool, always: bool) -> tuple[Pair, Pair]:
    """Window and shift of a block on a map of ``grid`` tokens, which a window does not exceed unless ``always``."""
    shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
    if always:
        return window, shift
    fitting = (min(window[0], grid[0]), min(window[1], grid[1]))
    return fitting, (shift[0] * (grid[0] > fitting[0]), shift[1] * (grid[1] > fitting[1]))


SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
    "small": {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
    "base": {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
    "large": {"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)},
}
"""Widths and depths that both versions share."""

_LARGE_IMAGES = {"img_size": 384, "window_size": 12}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    **{f"swin_{size}_patch4_window7_224": SIZES[size] for size in SIZES},
    **{f"swin_{size}_patch4_window12_384": {**SIZES[size], **_LARGE_IMAGES} for size in ("base", "large")},
    "swin_s3_tiny_224": {**SIZES["tiny"], "window_size": (7, 7, 14, 7)},
    "swin_s3_small_224": {**SIZES["small"], "window_size": (14, 14, 14, 7)},
    "swin_s3_base_224": {**SIZES["small"], "window_size": (7, 7, 14, 7), "depths": (2, 2, 30, 2)},
}

registry.register(SwinTransformer, ARCHITECTURES)
