"""Vision transformers of one width from the first block to the last, by timm's names.

Dosovitskiy et al., https://arxiv.org/abs/2010.11929. The relatives: AugReg (https://arxiv.org/abs/2106.10270), DeiT and
its distilled form (https://arxiv.org/abs/2012.12877), DeiT III (https://arxiv.org/abs/2204.07118), parallel blocks
(https://arxiv.org/abs/2203.09795, https://arxiv.org/abs/2302.05442), differential attention
(https://arxiv.org/abs/2410.05258), registers (https://arxiv.org/abs/2309.16588), CLIP (https://arxiv.org/abs/2103.00020),
SigLIP (https://arxiv.org/abs/2303.15343), DINOv2 (https://arxiv.org/abs/2304.07193), BEiT-3
(https://arxiv.org/abs/2208.10442), AIMv2 (https://arxiv.org/abs/2411.14402) and FlexiViT (https://arxiv.org/abs/2212.08013).
"""

from __future__ import annotations

import math
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
from jaxtl.models.head import make_head
from jaxtl.models.layers import Activation, Dropout, DropPath, Identity, LayerNorm, Linear, RmsNorm, Stack, param
from jaxtl.models.network import Network, find, stages_until
from jaxtl.models.softmax_attention import attend
from jaxtl.models.transformer import (
    AttentionPoolLatent,
    GatedMlp,
    LayerScale,
    Mlp,
    Norm,
    PatchEmbed,
    SwiGLU,
    heads,
    resize_patches,
    resize_positions,
    side_by_side,
)
from jaxtl.models.vit_architectures import ARCHITECTURES

_MATRIX = init.Normal(0.02)
_NORMS: dict[str, Callable[..., nnx.Module]] = {"layernorm": LayerNorm, "rmsnorm": RmsNorm}
_MLPS: dict[str, Callable[..., nnx.Module]] = {
    "mlp": Mlp,
    "swiglu": SwiGLU,
    "swiglu_packed": partial(GatedMlp, gate_last=False),
}
_POOLS = ("token", "avg", "max", "avgmax", "map")


@dataclass(frozen=True)
class BlockOptions:
    """What all blocks of a network have in common."""

    width: int
    num_heads: int
    hidden: int
    norm: Norm
    act: str
    mlp: Callable[..., nnx.Module]
    attention: Callable[..., nnx.Module]
    qkv_bias: bool
    qk_norm: bool
    scale_attn_norm: bool
    scale_mlp_norm: bool
    proj_bias: bool
    init_values: float | None
    drop: float

    def make_mlp(self) -> nnx.Module:
        norm = self.norm if self.scale_mlp_norm else None
        return self.mlp(self.width, self.hidden, act=self.act, norm=norm, bias=self.proj_bias, drop=self.drop)

    def make_scale(self) -> nnx.Module:
        return LayerScale(self.width, self.init_values) if self.init_values else Identity()

    def linear(self, in_features: int, out_features: int, bias: bool) -> Linear:
        return Linear(in_features, out_features, bias=bias, kernel_init=_MATRIX)


class Attention(nnx.Module):
    """Self-attention on tokens (batch, tokens, width), with norms of queries, keys and the result where asked for."""

    def __init__(self, options: BlockOptions, depth: int):
        width, num_heads = options.width, options.num_heads
        self.qkv = options.linear(width, 3 * width, options.qkv_bias)
        self.q_norm = options.norm(width // num_heads) if options.qk_norm else Identity()
        self.k_norm = options.norm(width // num_heads) if options.qk_norm else Identity()
        self.norm = options.norm(width) if options.scale_attn_norm else Identity()
        self.proj = options.linear(width, width, options.proj_bias)
        self.proj_drop = Dropout(options.drop)
        self.num_heads = num_heads

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        query, key, value = (heads(part, self.num_heads) for part in jnp.split(self.qkv(x), 3, axis=-1))
        y = attend(self.q_norm(query), self.k_norm(key), value).reshape(x.shape)
        return self.proj_drop(self.proj(self.norm(y)), rngs)


class _Difference(nnx.Module):
    """What differential attention adds: the factor of the second attention, and the norm of the difference.

    Its parameters lie directly in the module that derives from it.
    """

    lambda_q1: nnx.Param
    lambda_k1: nnx.Param
    lambda_q2: nnx.Param
    lambda_k2: nnx.Param

    def set_difference(self, half: int, depth: int) -> None:
        for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
            setattr(self, name, param((half,), init.Normal(0.1)))
        self.sub_norm = RmsNorm(2 * half, eps=1e-5)
        self.lambda_init = 0.8 - 0.6 * math.exp(-0.3 * depth)

    def subtract(self, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        """Two attentions for each head of ``value``, from the even and from the odd heads of ``query`` and ``key``."""
        one = jnp.exp((self.lambda_q1[...] * self.lambda_k1[...]).sum())
        two = jnp.exp((self.lambda_q2[...] * self.lambda_k2[...]).sum())
        factor = (one - two + self.lambda_init).astype(query.dtype)
        first, second = (attend(query[:, :, i::2], key[:, :, i::2], value) for i in (0, 1))
        return self.sub_norm(first - factor * second) * (1 - self.lambda_init)


class DifferentialAttention(_Difference):
    """The difference of two attentions, each with half of the queries' and keys' width."""

    def __init__(self, options: BlockOptions, depth: int):
        width, num_heads = options.width, options.num_heads
        half = width // num_heads // 2
        self.qkv = options.linear(width, 3 * width, options.qkv_bias)
        self.q_norm = options.norm(half) if options.qk_norm else Identity()
        self.k_norm = options.norm(half) if options.qk_norm else Identity()
        self.norm = options.norm(width) if options.scale_attn_norm else Identity()
        self.proj = options.linear(width, width, options.proj_bias)
        self.proj_drop = Dropout(options.drop)
        self.num_heads = num_heads
        self.set_difference(half, depth)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        query, key, value = jnp.split(self.qkv(x), 3, axis=-1)
        query, key = (heads(part, 2 * self.num_heads) for part in (query, key))
        y = self.subtract(self.q_norm(query), self.k_norm(key), heads(value, self.num_heads)).reshape(x.shape)
        return self.proj_drop(self.proj(self.norm(y)), rngs)


_ATTENTIONS: dict[str, Callable[..., nnx.Module]] = {"attn": Attention, "diff": DifferentialAttention}


class Block(nnx.Module):
    """Attention, then an MLP, each behind a norm and beside a shortcut."""

    def __init__(self, options: BlockOptions, depth: int, drop_path: float):
        self.norm1 = options.norm(options.width)
        self.attn = options.attention(options, depth)
        self.ls1 = options.make_scale()
        self.drop_path1 = DropPath(drop_path)
        self.norm2 = options.norm(options.width)
        self.mlp = options.make_mlp()
        self.ls2 = options.make_scale()
        self.drop_path2 = DropPath(drop_path)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), rngs)), rngs)
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x), rngs)), rngs)


class ResPostBlock(nnx.Module):
    """Attention, then an MLP, with the norm at the end of each branch; its scale starts at ``init_values``."""

    def __init__(self, options: BlockOptions, depth: int, drop_path: float):
        self.attn = options.attention(options, depth)
        self.norm1 = self._norm(options)
        self.drop_path1 = DropPath(drop_path)
        self.mlp = options.make_mlp()
        self.norm2 = self._norm(options)
        self.drop_path2 = DropPath(drop_path)

    def _norm(self, options: BlockOptions) -> Any:
        norm: Any = options.norm(options.width)
        if options.init_values is not None:
            norm.scale = param((options.width,), init.Constant(options.init_values))
        return norm

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = x + self.drop_path1(self.norm1(self.attn(x, rngs)), rngs)
        return x + self.drop_path2(self.norm2(self.mlp(x, rngs)), rngs)


class ParallelScalingBlock(_Difference):
    """Attention and an MLP side by side behind one norm and one projection.

    With ``differential`` the attention is a difference of two, and the projection behind is one as well.
    """

    differential = False

    def __init__(self, options: BlockOptions, depth: int, drop_path: float):
        width, hidden = options.width, options.hidden
        half = width // options.num_heads // (2 if self.differential else 1)
        self.in_norm = options.norm(width)
        self.in_proj = options.linear(width, hidden + 3 * width, options.qkv_bias)
        self.mlp_bias = None if options.qkv_bias else param((hidden,), init.zeros)
        self.q_norm = options.norm(half) if options.qk_norm else Identity()
        self.k_norm = options.norm(half) if options.qk_norm else Identity()
        self.mlp_drop = Dropout(options.drop)
        self.mlp_act = Activation(options.act)
        if self.differential:
            self.set_difference(half, depth)
            self.out_proj = options.linear(width + hidden, width, options.proj_bias)
        else:
            self.attn_out_proj = options.linear(width, width, options.proj_bias)
            self.mlp_out_proj = options.linear(hidden, width, options.proj_bias)
        self.ls = LayerScale(width, options.init_values) if options.init_values is not None else Identity()
        self.drop_path = DropPath(drop_path)
        self.num_heads, self.hidden = options.num_heads, hidden

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        y = self.in_proj(self.in_norm(x))
        inner, query, key, value = jnp.split(y, [self.hidden + i * x.shape[-1] for i in range(3)], axis=-1)
        if self.mlp_bias is not None:
            inner = inner + self.mlp_bias[...].astype(x.dtype)
        inner = self.mlp_drop(self.mlp_act(inner), rngs)
        count = self.num_heads * (2 if self.differential else 1)
        query, key = self.q_norm(heads(query, count)), self.k_norm(heads(key, count))
        combine = self.subtract if self.differential else attend
        attended = combine(query, key, heads(value, self.num_heads)).reshape(x.shape)
        if self.differential:
            y = self.out_proj(jnp.concatenate((attended, inner), -1))
        else:
            y = self.attn_out_proj(attended) + self.mlp_out_proj(inner)
        return x + self.drop_path(self.ls(y), rngs)


class DiffParallelScalingBlock(ParallelScalingBlock):
    differential = True


class _Branch(nnx.Module):
    """A norm, one module under the name it has in timm, a scale."""

    def __init__(self, name: str, module: nnx.Module, options: BlockOptions, drop_path: float):
        self.norm = options.norm(options.width)
        setattr(self, name, module)
        self.ls = options.make_scale()
        self.drop_path = DropPath(drop_path)
        self.name = name

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.drop_path(self.ls(getattr(self, self.name)(self.norm(x), rngs)), rngs)


class ParallelThingsBlock(nnx.Module):
    """The sum of two attentions, then the sum of two MLPs."""

    def __init__(self, options: BlockOptions, depth: int, drop_path: float):
        branch = partial(_Branch, options=options, drop_path=drop_path)
        self.attns = Stack(*(branch("attn", options.attention(options, depth)) for _ in range(2)))
        self.ffns = Stack(*(branch("mlp", options.make_mlp()) for _ in range(2)))

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        for stack in (self.attns, self.ffns):
            x = x + sum(getattr(stack, key)(x, rngs) for key in stack.keys)
        return x


_BLOCKS: dict[str, Callable[[BlockOptions, int, float], nnx.Module]] = {
    "block": Block,
    "res_post": ResPostBlock,
    "parallel_scaling": ParallelScalingBlock,
    "diff_parallel_scaling": DiffParallelScalingBlock,
    "parallel_things": ParallelThingsBlock,
}


class VisionTransformer(Network):
    """A vision transformer. Stages: ``stem``, ``blocks.0``, ``blocks.1``, ..., ``norm``, ``head``.

    The stem turns patches of the image into tokens, adds what says where they lie, and puts the class token and the
    registers in front of them. From there to the last block a stage's output is (batch, tokens, width). ``norm`` is
    what lies between the last block and the head: the final norm or the attention pooling. It is missing where a
    network has neither, or ends before it; pooling is the same all the same.

    Args:
        embed_dim: width of the tokens.
        depth: number of blocks.
        num_heads: heads of the attention.
        img_size: (height, width) of the images in pixels, or one number for both. Weights for another size fit: their
            position embedding is resized.
        patch_size: of the patches that become tokens; weights for another size fit too.
        num_classes, in_chans, until, drop_rate, drop_path_rate, head: see ``jaxtl.models.registry.build``.
        global_pool: ``"token"``: the class token; ``"avg"``, ``"max"`` or ``"avgmax"`` of the patches; ``"map"``:
            attention pooling.
        mlp_ratio: hidden width of the MLPs in parts of ``embed_dim``.
        qkv_bias, proj_bias: whether the layers into attention, and those out of it and of the MLPs, have biases.
        qk_norm: norms of queries and keys.
        scale_attn_norm, scale_mlp_norm: norms in front of the last layer of an attention, an MLP.
        init_values: what the learnt factors of the residual branches start at; ``None``: there are none.
        class_token: whether there is one.
        no_embed_class: the position embedding is for patches alone and not for the class token and the registers.
        reg_tokens: number of registers.
        pre_norm: a norm in front of the first block.
        final_norm: a norm behind the last.
        fc_norm: it lies behind the pooling; ``None``: with ``"avg"``, ``"max"`` and ``"avgmax"``.
        pool_include_prefix: class token and registers are pooled as well.
        pos_drop_rate, proj_drop_rate: dropout in the stem, and behind each attention and in the MLPs, in training.
        norm_layer: ``"layernorm"`` or ``"rmsnorm"``.
        norm_eps: what norms add to the variance.
        embed_norm: a norm of the patches in front of everything else.
        act_layer: a name in ``jaxtl.models.layers.ACTIVATIONS``.
        block_fn: ``"block"``, ``"res_post"``, ``"parallel_scaling"``, ``"diff_parallel_scaling"`` or
            ``"parallel_things"``.
        mlp_layer: ``"mlp"``, ``"swiglu"`` or ``"swiglu_packed"``.
        attn_layer: ``"attn"`` or ``"diff"``.
        distilled: a second special token with a head of its own; the logits are the average of both heads'.
        resize: how stored position embeddings and patches are resized; see
            ``jaxtl.models.transformer.resize_grid``.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int,
        img_size: int | Pair = 224,
        patch_size: int | Pair = 16,
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "token",
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        proj_bias: bool = True,
        qk_norm: bool = False,
        scale_attn_norm: bool = False,
        scale_mlp_norm: bool = False,
        init_values: float | None = None,
        class_token: bool = True,
        no_embed_class: bool = False,
        reg_tokens: int = 0,
        pre_norm: bool = False,
        final_norm: bool = True,
        fc_norm: bool | None = None,
        pool_include_prefix: bool = False,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        norm_layer: str = "layernorm",
        norm_eps: float = 1e-6,
        embed_norm: bool = False,
        act_layer: str = "gelu",
        block_fn: str = "block",
        mlp_layer: str = "mlp",
        attn_layer: str = "attn",
        distilled: bool = False,
        resize: str = "bicubic",
        head: tuple[int, ...] = (),
    ):
        _check(embed_dim, num_heads, img_size, patch_size, global_pool, class_token, distilled)
        norm = partial(_choose("norm_layer", norm_layer, _NORMS), eps=norm_eps)
        make_block = _choose("block_fn", block_fn, _BLOCKS)
        options = BlockOptions(
            width=embed_dim,
            num_heads=num_heads,
            hidden=int(embed_dim * mlp_ratio),
            norm=norm,
            act=act_layer,
            mlp=_choose("mlp_layer", mlp_layer, _MLPS),
            attention=_choose("attn_layer", attn_layer, _ATTENTIONS),
            qkv_bias=qkv_bias,
            qk_norm=qk_norm,
            scale_attn_norm=scale_attn_norm,
            scale_mlp_norm=scale_mlp_norm,
            proj_bias=proj_bias,
            init_values=init_values,
            drop=proj_drop_rate,
        )
        self.num_classes, self.num_features = num_classes, embed_dim
        self.global_pool, self.pool_include_prefix = global_pool, pool_include_prefix
        self.no_embed_class, self.distilled, self.resize = no_embed_class, distilled, resize
        self.prefix = class_token + distilled + reg_tokens
        steps = [f"blocks.{i}" for i in range(depth)]
        behind = ["norm"] if final_norm or global_pool == "map" else []
        self.stages = stages_until(("stem", *steps, *behind, "head"), until)

        self.patch_embed = PatchEmbed(
            img_size, patch_size, in_chans, embed_dim, bias=not pre_norm, norm=norm if embed_norm else None
        )
        self.cls_token = param((1, 1, embed_dim), init.Normal(1e-6)) if class_token else None
        self.dist_token = param((1, 1, embed_dim), _MATRIX) if distilled else None
        self.reg_token = param((1, reg_tokens, embed_dim), init.Normal(1e-6)) if reg_tokens else None
        positions = math.prod(self.patch_embed.grid) + (0 if no_embed_class else self.prefix)
        self.pos_embed = param((1, positions, embed_dim), _MATRIX)
        self.pos_drop = Dropout(pos_drop_rate)
        self.norm_pre = norm(embed_dim) if pre_norm else Identity()
        rates = [drop_path_rate * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = Stack(*(make_block(options, i, rates[i]) for i in range(depth) if f"blocks.{i}" in self.stages))
        if "norm" in self.stages:
            behind_pool = global_pool in ("avg", "max", "avgmax") if fc_norm is None else fc_norm
            self.norm = norm(embed_dim) if final_norm and not behind_pool else Identity()
            pool = AttentionPoolLatent(embed_dim, num_heads, mlp_ratio=mlp_ratio, norm=norm, act=act_layer)
            self.attn_pool = pool if global_pool == "map" else None
            self.fc_norm = norm(embed_dim) if final_norm and behind_pool else None
        self.head_drop = Dropout(drop_rate)
        self.head = make_head(embed_dim, num_classes, head, drop_rate)
        two_heads = distilled and self.blocks.length > 0
        self.head_dist = make_head(embed_dim, num_classes, head, drop_rate) if two_heads else None

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        parts = {
            "stem": ("patch_embed", "cls_token", "dist_token", "reg_token", "pos_embed", "pos_drop", "norm_pre"),
            "norm": ("norm", "attn_pool", "fc_norm"),
            "head": ("head", "head_dist"),
        }
        return {
            stage: tuple(path for path in parts.get(stage, (stage,)) if find(self, path) is not None)
            for stage in self.stages
        }

    @property
    def adapters(self) -> Mapping[str, Callable[..., np.ndarray]]:
        prefix = 0 if self.no_embed_class else self.prefix
        positions = partial(resize_positions, new=self.patch_embed.grid, prefix=prefix, method=self.resize)
        patches = partial(resize_patches, new=self.patch_embed.patch_size, method=self.resize)
        return {"pos_embed": positions, "patch_embed.proj.kernel": patches}

    @property
    def grids(self) -> Mapping[str, Pair]:
        return {"pos_embed": self.patch_embed.grid}

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "stem":
            return self._embed(x, rngs)
        if name == "norm":
            return self._normalised(x, rngs)
        if name == "head":
            if self.head is None or self.head_dist is None:
                return self.classify(self.pool(x), rngs)
            one, two = (self.head_drop(x[:, i], rngs) for i in (0, 1))
            return (self.head(one, rngs) + self.head_dist(two, rngs)) / 2
        return self.blocks.run_child(int(name.removeprefix("blocks.")), x, rngs)

    def _embed(self, x: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        x = self.patch_embed(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        places = self.pos_embed[...].astype(x.dtype)
        tokens = [token[...] for token in (self.cls_token, self.dist_token, self.reg_token) if token is not None]
        before = [jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], *token.shape[1:])) for token in tokens]
        if self.no_embed_class:
            x = jnp.concatenate((*before, x + places), 1)
        else:
            x = jnp.concatenate((*before, x), 1) + places
        return self.norm_pre(self.pos_drop(side_by_side(x), rngs))

    def _normalised(self, x: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """The tokens; pooled, (batch, width), where the norm or the head needs them so."""
        x = self.norm(x)
        if self.attn_pool is not None:
            x = self.attn_pool(x if self.pool_include_prefix else x[:, self.prefix :], rngs)
        return x if self.fc_norm is None else self.fc_norm(self.pool(x))

    def pool(self, x: jax.Array) -> jax.Array:
        if x.ndim == 2:
            return x
        if self.global_pool == "token" and self.blocks.length:
            return (x[:, 0] + x[:, 1]) / 2 if self.distilled else x[:, 0]
        patches = x if self.pool_include_prefix else x[:, self.prefix :]
        if self.global_pool == "max":
            return patches.max(1)
        return (patches.max(1) + patches.mean(1)) / 2 if self.global_pool == "avgmax" else patches.mean(1)

    @property
    def classifies_pooled(self) -> bool:
        return self.head is None or self.head_dist is None

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        pooled = self.head_drop(pooled, rngs)
        return pooled if self.head is None else self.head(pooled, rngs)


def _choose(option: str, value: str, known: Mapping[str, Any]) -> Any:
    if value not in known:
        raise InputError(f"{option} is {value!r}{nearest(value, known)}; it can be {', '.join(map(repr, known))}")
    return known[value]


def _check(
    width: int,
    num_heads: int,
    img_size: int | Pair,
    patch_size: int | Pair,
    global_pool: str,
    class_token: bool,
    distilled: bool,
) -> None:
    _choose("global_pool", global_pool, dict.fromkeys(_POOLS))
    for option, value in (("img_size", img_size), ("patch_size", patch_size)):
        sides = value if isinstance(value, tuple) else (value, value)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise InputError(f"{option} has to be a number of pixels, or height and width as a tuple, not {value!r}")
    if width % num_heads:
        raise InputError(f"embed_dim is {width}; with {num_heads} heads it has to be a multiple of that")
    if any(side < patch for side, patch in zip(pair(img_size), pair(patch_size), strict=True)):
        raise InputError(f"img_size is {img_size}; it holds no patch of patch_size {patch_size}")
    if global_pool == "token" and not class_token:
        raise InputError("global_pool='token' needs the class token; 'avg' pools the patches")
    if distilled and global_pool != "token":
        raise InputError(f"global_pool is {global_pool!r}; the two heads of a distilled network need 'token'")


registry.register(VisionTransformer, ARCHITECTURES)
