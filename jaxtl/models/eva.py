"""Vision transformers with rotary positions, gated MLPs and norms inside the branches, by timm's names.

EVA (https://arxiv.org/abs/2211.07636), EVA-02 (https://arxiv.org/abs/2303.11331), EVA-CLIP (https://arxiv.org/abs/2303.15389),
Perception Encoder (https://arxiv.org/abs/2504.13181), RoPE-ViT (https://arxiv.org/abs/2403.13298), DINOv3
(https://arxiv.org/abs/2508.10104), LingBot-Vision (https://arxiv.org/abs/2607.05247) and Sapiens2
(https://arxiv.org/abs/2604.21681).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.models import init, registry
from jaxtl.models.convolution import Pair, pair
from jaxtl.models.eva_architectures import ARCHITECTURES
from jaxtl.models.head import make_head
from jaxtl.models.layers import Dropout, DropPath, LayerNorm, Linear, RmsNorm, Stack, param
from jaxtl.models.network import Network, stages_until
from jaxtl.models.rope import AxialRope, MixedRope, Rope, rotate
from jaxtl.models.softmax_attention import attend
from jaxtl.models.transformer import (
    AttentionPoolLatent,
    GatedMlp,
    Mlp,
    Norm,
    PatchEmbed,
    SwiGLU,
    heads,
    resize_positions,
    side_by_side,
)

_TOKEN = init.Normal(0.02)
_NORMS: dict[str, Callable[..., nnx.Module]] = {"layernorm": LayerNorm, "rmsnorm": RmsNorm}


@dataclass(frozen=True)
class _BlockOptions:
    """What all blocks of a network have in common; named as the keywords of ``Eva``."""

    width: int
    num_heads: int
    norm: Norm
    qkv_bias: bool
    key_bias: bool
    qkv_fused: bool
    qk_norm: bool
    scale_attn_inner: bool
    half: bool
    mlp_ratio: float
    swiglu_mlp: bool
    swiglu_align_to: int
    scale_mlp: bool
    init_values: float | None
    attn_only_layer_scale: bool
    act_layer: str


class Attention(nnx.Module):
    """Self-attention whose queries and keys are turned by ``sin`` and ``cos``, where they are given.

    With fewer ``kv_heads`` than heads, neighbouring heads share a key and a value.
    """

    def __init__(self, options: _BlockOptions, kv_heads: int):
        width, bias = options.width, options.qkv_bias
        linear = partial(Linear, width, kernel_init=init.Normal(0.02))
        fused, both = options.qkv_fused, bias and options.key_bias
        self.qkv = linear(3 * width, bias=both) if fused else None
        self.q_bias = param((width,), init.zeros) if fused and bias and not both else None
        self.v_bias = param((width,), init.zeros) if fused and bias and not both else None
        kv_width = width // options.num_heads * kv_heads
        self.q_proj = None if fused else linear(width, bias=bias)
        self.k_proj = None if fused else linear(kv_width, bias=both)
        self.v_proj = None if fused else linear(kv_width, bias=bias)
        self.q_norm = options.norm(width // options.num_heads) if options.qk_norm else None
        self.k_norm = options.norm(width // options.num_heads) if options.qk_norm else None
        self.norm = options.norm(width) if options.scale_attn_inner else None
        self.proj = linear(width)
        self.num_heads, self.kv_heads, self.half = options.num_heads, kv_heads, options.half

    def __call__(
        self,
        x: jax.Array,
        rngs: nnx.Rngs | None = None,
        sin: jax.Array | None = None,
        cos: jax.Array | None = None,
    ) -> jax.Array:
        query, key, value = self._projected(x)
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        if sin is not None and cos is not None:
            query, key = rotate(query, sin, cos, half=self.half), rotate(key, sin, cos, half=self.half)
        if self.kv_heads < self.num_heads:
            key, value = (jnp.repeat(part, self.num_heads // self.kv_heads, axis=2) for part in (key, value))
        y = attend(query, key, value).reshape(x.shape)
        return self.proj(y if self.norm is None else self.norm(y))

    def _projected(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        if self.q_proj is not None and self.k_proj is not None and self.v_proj is not None:
            query = heads(self.q_proj(x), self.num_heads)
            return query, heads(self.k_proj(x), self.kv_heads), heads(self.v_proj(x), self.kv_heads)
        assert self.qkv is not None
        qkv = self.qkv(x)
        if self.q_bias is not None and self.v_bias is not None:
            query_bias, value_bias = self.q_bias[...], self.v_bias[...]
            qkv = qkv + jnp.concatenate([query_bias, jnp.zeros_like(query_bias), value_bias]).astype(x.dtype)
        query, key, value = (heads(part, self.num_heads) for part in jnp.split(qkv, 3, axis=-1))
        return query, key, value


def _mlp(options: _BlockOptions, aligned: bool) -> nnx.Module:
    width, norm = options.width, options.norm if options.scale_mlp else None
    hidden = int(width * options.mlp_ratio)
    if not options.swiglu_mlp:
        return Mlp(width, hidden, act=options.act_layer, norm=norm)
    if norm is None and not aligned:
        return GatedMlp(width, 2 * hidden, gate_last=False)
    return SwiGLU(width, hidden + -hidden % (options.swiglu_align_to or 1), norm=norm)


class EvaBlock(nnx.Module):
    """Attention and an MLP, each a branch behind a norm, perhaps with a learnt factor for each channel."""

    def __init__(self, options: _BlockOptions, kv_heads: int, drop_path: float):
        start = options.init_values
        scale = None if start is None else init.Constant(start)
        self.norm1 = options.norm(options.width)
        self.attn = Attention(options, kv_heads)
        self.gamma_1 = param((options.width,), scale) if scale else None
        self.drop_path1 = DropPath(drop_path)
        self.norm2 = options.norm(options.width)
        self.mlp = _mlp(options, bool(options.swiglu_align_to))
        self.gamma_2 = param((options.width,), scale) if scale and not options.attn_only_layer_scale else None
        self.drop_path2 = DropPath(drop_path)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None, *rope: jax.Array) -> jax.Array:
        x = x + self.drop_path1(_scaled(self.attn(self.norm1(x), rngs, *rope), self.gamma_1), rngs)
        return x + self.drop_path2(_scaled(self.mlp(self.norm2(x), rngs), self.gamma_2), rngs)


class EvaBlockPostNorm(nnx.Module):
    """The block with each branch's norm at its end."""

    def __init__(self, options: _BlockOptions, kv_heads: int, drop_path: float):
        self.attn = Attention(options, kv_heads)
        self.norm1 = options.norm(options.width)
        self.drop_path1 = DropPath(drop_path)
        self.mlp = _mlp(options, False)
        self.norm2 = options.norm(options.width)
        self.drop_path2 = DropPath(drop_path)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None, *rope: jax.Array) -> jax.Array:
        x = x + self.drop_path1(self.norm1(self.attn(x, rngs, *rope)), rngs)
        return x + self.drop_path2(self.norm2(self.mlp(x, rngs)), rngs)


def _scaled(x: jax.Array, gamma: nnx.Param | None) -> jax.Array:
    return x if gamma is None else x * gamma[...].astype(x.dtype)


class Eva(Network):
    """The family. Stages: ``stem``, ``blocks.0`` to the last block, ``norm`` where there is one, ``head``.

    Each stage but the head returns tokens (batch, tokens, width): the class token, the registers, then the patches, row
    by row. The stage ``norm`` has all that stands between the last block and the head: the norm of the tokens, and that
    of the pooled features or the attention that pools. A network cut at a block has none and pools by average if
    ``global_pool`` is ``"map"``. Rotary positions stay as they are in training, where timm scales Sapiens2's at random.

    Args:
        img_size: height and width of the images, or one number for both.
        patch_size: of the patches that become tokens.
        embed_dim: width of the tokens.
        depth: number of blocks.
        num_heads: attention heads of a block.
        num_kv_heads: heads of keys and values, for all blocks or for each; ``None``: as many as of queries.
        num_classes, in_chans, until, drop_rate, drop_path_rate, head: see ``jaxtl.models.registry.build``.
        global_pool: ``"avg"`` of the patches, ``"token"``: the class token, or ``"map"``: attention pooling.
        attn_type: ``"eva"``: keys have no bias; ``"rope"``: they have.
        qkv_bias: whether queries, keys and values have biases.
        qkv_fused: queries, keys and values in one layer (``qkv``) and not in three.
        qk_norm: norms of queries and keys.
        scale_attn_inner: a norm in front of the attention's last layer.
        mlp_ratio: hidden width of the MLP in parts of the block's.
        swiglu_mlp: a gated MLP.
        swiglu_align_to: rounds its hidden width up to a multiple of this, and splits its first layer in two.
        scale_mlp: a norm in front of the MLP's last layer.
        act_layer: activation of an MLP without gate.
        norm_layer: ``"layernorm"`` or ``"rmsnorm"``.
        norm_eps: of the norms.
        init_values: start of the factors at the end of each branch; ``None``: none.
        attn_only_layer_scale: such factors behind the attention alone.
        class_token: whether there is one.
        num_reg_tokens: number of registers.
        no_embed_class: class token and registers get no position embedding.
        use_abs_pos_emb: learnt position embeddings.
        use_rot_pos_emb: rotary position embeddings.
        rope_type: ``"cat"``: places are counted, ``"dinov3"``: they go from -1 to 1, ``"mixed"``: learnt frequencies.
        rope_grid_offset, rope_grid_indexing, rope_temperature, ref_feat_shape: the ``offset``, order, ``temperature``
            and ``reference`` of ``jaxtl.models.rope.AxialRope``.
        rope_rotate_half: a pair of channels is one of each half and not two neighbours.
        use_post_norm: the norms stand at the branches' ends.
        use_pre_transformer_norm: a norm in front of the blocks, and no bias in the patch embedding.
        use_post_transformer_norm: a norm of the tokens behind the blocks; by default where ``use_fc_norm`` is not.
        use_fc_norm: a norm of the pooled features; by default with average pooling.
        attn_pool_num_heads: heads of the attention that pools; ``None``: as in the blocks.
        attn_pool_mlp_ratio: hidden width of its MLP; ``None``: as in the blocks.
    """

    def __init__(
        self,
        *,
        img_size: int | Pair = 224,
        patch_size: int | Pair = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        num_kv_heads: int | tuple[int, ...] | None = None,
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
        attn_type: str = "eva",
        qkv_bias: bool = True,
        qkv_fused: bool = True,
        qk_norm: bool = False,
        scale_attn_inner: bool = False,
        mlp_ratio: float = 4.0,
        swiglu_mlp: bool = False,
        swiglu_align_to: int = 0,
        scale_mlp: bool = False,
        act_layer: str = "gelu",
        norm_layer: str = "layernorm",
        norm_eps: float = 1e-6,
        init_values: float | None = None,
        attn_only_layer_scale: bool = False,
        class_token: bool = True,
        num_reg_tokens: int = 0,
        no_embed_class: bool = False,
        use_abs_pos_emb: bool = True,
        use_rot_pos_emb: bool = False,
        rope_type: str = "cat",
        rope_grid_offset: float = 0.0,
        rope_grid_indexing: str = "ij",
        rope_temperature: float = 10000.0,
        rope_rotate_half: bool = False,
        ref_feat_shape: int | Pair | None = None,
        use_post_norm: bool = False,
        use_pre_transformer_norm: bool = False,
        use_post_transformer_norm: bool | None = None,
        use_fc_norm: bool | None = None,
        attn_pool_num_heads: int | None = None,
        attn_pool_mlp_ratio: float | None = None,
        head: tuple[int, ...] = (),
    ):
        _one_of("global_pool", global_pool, ("avg", "token", "map"))
        if global_pool == "token" and not class_token:
            raise InputError("global_pool is 'token' and the network has no class token; use 'avg' or 'map'")
        if embed_dim % num_heads:
            raise InputError(f"embed_dim {embed_dim} does not divide by num_heads {num_heads}")
        kv_heads = num_kv_heads if isinstance(num_kv_heads, tuple) else (num_kv_heads or num_heads,) * depth
        if len(kv_heads) != depth:
            raise InputError(
                f"num_kv_heads has {len(kv_heads)} numbers for {depth} blocks; give one each, or one for all"
            )
        if any(num_heads % count for count in kv_heads) or (qkv_fused and set(kv_heads) - {num_heads}):
            raise InputError("num_kv_heads must divide num_heads, and be as many with qkv_fused")
        norm = partial(_NORMS[_one_of("norm_layer", norm_layer, _NORMS)], eps=norm_eps)
        fc_norm = global_pool == "avg" if use_fc_norm is None else use_fc_norm
        post_norm = not fc_norm if use_post_transformer_norm is None else use_post_transformer_norm

        names = ("stem", *(f"blocks.{i}" for i in range(depth)))
        if fc_norm or post_norm or global_pool == "map":
            names = (*names, "norm")
        self.stages = stages_until((*names, "head"), until)
        self.num_features, self.num_classes, self.global_pool = embed_dim, num_classes, global_pool
        self.no_embed_class = no_embed_class

        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim, bias=not use_pre_transformer_norm)
        grid, self.num_prefix_tokens = self.patch_embed.grid, int(class_token) + num_reg_tokens
        self.cls_token = param((1, 1, embed_dim), _TOKEN) if class_token else None
        self.reg_token = param((1, num_reg_tokens, embed_dim), _TOKEN) if num_reg_tokens else None
        places = grid[0] * grid[1] + (0 if no_embed_class else self.num_prefix_tokens)
        self.pos_embed = param((1, places, embed_dim), _TOKEN) if use_abs_pos_emb else None
        self.norm_pre = norm(embed_dim) if use_pre_transformer_norm else None
        kind = _one_of("rope_type", rope_type, ("cat", "dinov3", "mixed"))
        turning: dict[str, Any] = {
            "temperature": rope_temperature,
            "columns_first": _one_of("rope_grid_indexing", rope_grid_indexing, ("ij", "xy")) == "xy",
            "prefix": self.num_prefix_tokens,
        }
        if kind == "mixed":
            rope: Rope = MixedRope(grid, embed_dim // num_heads, num_heads=num_heads, depth=depth, **turning)
        else:
            reference = pair(ref_feat_shape) if ref_feat_shape is not None and kind == "cat" else None
            turning |= {"offset": rope_grid_offset, "reference": reference, "centred": kind == "dinov3"}
            rope = AxialRope(grid, embed_dim // num_heads, **turning)
        self.rope = rope if use_rot_pos_emb else None

        options = _BlockOptions(
            width=embed_dim,
            num_heads=num_heads,
            norm=norm,
            qkv_bias=qkv_bias,
            key_bias=_one_of("attn_type", attn_type, ("eva", "rope")) == "rope",
            qkv_fused=qkv_fused,
            qk_norm=qk_norm,
            scale_attn_inner=scale_attn_inner,
            half=rope_rotate_half,
            mlp_ratio=mlp_ratio,
            swiglu_mlp=swiglu_mlp,
            swiglu_align_to=swiglu_align_to,
            scale_mlp=scale_mlp,
            init_values=init_values,
            attn_only_layer_scale=attn_only_layer_scale,
            act_layer=act_layer,
        )
        block = EvaBlockPostNorm if use_post_norm else EvaBlock
        count = sum(stage.startswith("blocks.") for stage in self.stages)
        rates = [drop_path_rate * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = Stack(*(block(options, kv_heads[i], rates[i]) for i in range(count)))

        whole = "norm" in self.stages
        self.norm = norm(embed_dim) if whole and post_norm else None
        pool_heads, pool_ratio = attn_pool_num_heads or num_heads, attn_pool_mlp_ratio or mlp_ratio
        attends = whole and global_pool == "map"
        self.attn_pool = (
            AttentionPoolLatent(embed_dim, pool_heads, mlp_ratio=pool_ratio, norm=norm) if attends else None
        )
        self.fc_norm = norm(embed_dim) if whole and fc_norm else None
        self.head_drop = Dropout(drop_rate)
        self.head = make_head(embed_dim, num_classes, head, drop_rate)

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        special = {
            "stem": ("patch_embed", "cls_token", "reg_token", "pos_embed", "norm_pre", "rope"),
            "norm": ("norm", "attn_pool", "fc_norm"),
        }
        return super().stage_modules | {stage: paths for stage, paths in special.items() if stage in self.stages}

    @property
    def adapters(self) -> Mapping[str, Callable[..., np.ndarray]]:
        prefix = 0 if self.no_embed_class else self.num_prefix_tokens
        return {path: partial(resize_positions, new=grid, prefix=prefix) for path, grid in self.grids.items()}

    @property
    def grids(self) -> Mapping[str, Pair]:
        return {} if self.pos_embed is None else {"pos_embed": self.patch_embed.grid}

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "stem":
            return self._tokens(x)
        if name == "norm":
            return x if self.norm is None else self.norm(x)
        if name == "head":
            return self.classify(self.pool(x), rngs)
        block = int(name.removeprefix("blocks."))
        return self.blocks.run_child(block, x, rngs, *(self.rope(block, x.dtype) if self.rope is not None else ()))

    def _tokens(self, images: jax.Array) -> jax.Array:
        x = self.patch_embed(images)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        prefix = [
            jnp.broadcast_to(token[...].astype(x.dtype), (x.shape[0], *token.shape[1:]))
            for token in (self.cls_token, self.reg_token)
            if token is not None
        ]
        places = 0 if self.pos_embed is None else self.pos_embed[...].astype(x.dtype)
        if self.no_embed_class:
            x = jnp.concatenate([*prefix, x + places], axis=1)
        else:
            x = jnp.concatenate([*prefix, x], axis=1) + places
        x = side_by_side(x)
        return x if self.norm_pre is None else self.norm_pre(x)

    def pool(self, x: jax.Array) -> jax.Array:
        if self.attn_pool is not None:
            x = self.attn_pool(x)
        elif self.global_pool == "token":
            x = x[:, 0]
        else:
            x = x[:, self.num_prefix_tokens :].mean(1)
        return x if self.fc_norm is None else self.fc_norm(x)

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        pooled = self.head_drop(pooled, rngs)
        return pooled if self.head is None else self.head(pooled, rngs)


def _one_of(option: str, value: str, known) -> str:
    if value not in known:
        raise InputError(f"{option} is {value!r}{nearest(value, known)}; it can be {', '.join(map(repr, known))}")
    return value


registry.register(Eva, ARCHITECTURES)
