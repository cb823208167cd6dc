"""ConvNeXt: convolutional networks with the proportions of a transformer, by timm's names.

Liu et al., "A ConvNet for the 2020s", https://arxiv.org/abs/2201.03545; version 2 with global response normalisation in
the place of layer scale: Woo et al., https://arxiv.org/abs/2301.00808.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.models import init, registry
from jaxtl.models.head import make_head
from jaxtl.models.layers import Activation, Conv, Dropout, DropPath, LayerNorm, Linear, RmsNorm, Stack, param
from jaxtl.models.network import Network, find, stages_until
from jaxtl.models.pooling import global_average
from jaxtl.models.transformer import PatchConv

_MATRIX = init.Normal(0.02)
_conv = partial(Conv, kernel_init=_MATRIX)


class SimpleNorm(nnx.Module):
    """Divides the last axis by its standard deviation, as torch computes it (n - 1), without centring.

    >>> norm = SimpleNorm(2)
    >>> norm.scale.set_value(jnp.ones(2))
    >>> norm(jnp.array([[0.0, 2.0**0.5]])).round(3).tolist()
    [[0.0, 1.4140000343322754]]
    """

    def __init__(self, channels: int, *, eps: float = 1e-6):
        self.scale = param((channels,), init.ones)
        self.eps = eps

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return (wide * jax.lax.rsqrt(wide.var(-1, keepdims=True, ddof=1) + self.eps) * self.scale[...]).astype(x.dtype)


class GlobalResponseNorm(nnx.Module):
    """Scales each channel by its norm over the image, in parts of the channels' mean norm, and adds that to the input.

    Woo et al., https://arxiv.org/abs/2301.00808.
    """

    def __init__(self, channels: int, *, eps: float = 1e-6):
        self.scale = param((channels,), init.zeros)
        self.bias = param((channels,), init.zeros)
        self.eps = eps

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        squares = jnp.square(wide).sum((1, 2), keepdims=True)
        norm = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)  # a gradient at zero too
        relative = norm / (norm.mean(-1, keepdims=True) + self.eps)
        return (wide + wide * relative * self.scale[...] + self.bias[...]).astype(x.dtype)


_NORMS: dict[str, Callable[..., nnx.Module]] = {
    "layernorm": LayerNorm,
    "layernorm2d": LayerNorm,
    "rmsnorm": RmsNorm,
    "rmsnorm2d": RmsNorm,
    "simplenorm": SimpleNorm,
    "simplenorm2d": SimpleNorm,
}
_STEMS = ("patch", "overlap", "overlap_tiered", "overlap_act")


@dataclass(frozen=True)
class _BlockOptions:
    """What all blocks of a network have in common."""

    conv_mlp: bool
    use_grn: bool
    ls_init_value: float | None
    act_layer: str
    norm: Callable[[int], nnx.Module]


class _Mlp(nnx.Module):
    """Two layers on each place alone, stored as matrices or as 1x1 convolutions, four times as wide in the middle."""

    def __init__(self, channels: int, options: _BlockOptions):
        layer = partial(_conv, kernel_size=1) if options.conv_mlp else partial(Linear, kernel_init=_MATRIX)
        self.fc1 = layer(channels, 4 * channels)
        self.act = Activation(options.act_layer)
        self.grn = GlobalResponseNorm(4 * channels) if options.use_grn else None
        self.fc2 = layer(4 * channels, channels)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = self.act(self.fc1(x))
        return self.fc2(x if self.grn is None else self.grn(x))


class Block(nnx.Module):
    """A depthwise convolution, a norm, an MLP, and perhaps a learnt factor for each channel; its input is added."""

    def __init__(self, channels: int, kernel_size: int, dilation: int, drop_path: float, options: _BlockOptions):
        self.conv_dw = _conv(channels, channels, kernel_size, padding=None, dilation=dilation, groups=channels)
        self.norm = options.norm(channels)
        self.mlp = _Mlp(channels, options)
        start = options.ls_init_value
        self.gamma = None if start is None else param((channels,), init.Constant(start))
        self.drop_path = DropPath(drop_path)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        y = self.mlp(self.norm(self.conv_dw(x)))
        if self.gamma is not None:
            y = y * self.gamma[...].astype(y.dtype)
        return self.drop_path(y, rngs) + x


class _Stage(nnx.Module):
    def __init__(self, downsample: Stack | None, blocks: Stack):
        self.downsample = downsample
        self.blocks = blocks

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.blocks(x if self.downsample is None else self.downsample(x), rngs)


class _PreLogits(nnx.Module):
    """The hidden layer between pooling and head."""

    def __init__(self, channels: int, hidden: int):
        self.fc = Linear(channels, hidden, kernel_init=_MATRIX)
        self.act = Activation("gelu")

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.act(self.fc(x))


class _Head(nnx.Module):
    """What timm keeps under ``head``: the last norm and hidden layer, part of the body, and the head itself, ``fc``."""

    def __init__(self, norm: nnx.Module | None, pre_logits: _PreLogits | None, fc: nnx.Module | None):
        self.norm, self.pre_logits, self.fc = norm, pre_logits, fc


class ConvNeXt(Network):
    """The family. Stages: ``stem``, ``stages.0`` to ``stages.3``, ``head.fc``.

    The norm between pooling and head (``head.norm``), the hidden layer behind it that some have (``head.pre_logits``)
    and a norm before the pooling (``norm_pre``) belong to ``stages.3``.

    Args:
        depths: number of blocks in each stage.
        dims: width of each stage.
        num_classes, in_chans, until, drop_rate, drop_path_rate, head: see ``jaxtl.models.registry.build``.
        output_stride: 32, 16 or 8: how much smaller the last feature map is than the image; the strides that fall away
            become dilations, so weights fit all three.
        kernel_sizes: size of the depthwise convolutions, one for all stages or one for each.
        ls_init_value: what the layer scale ``gamma`` starts from; ``None``: there is none.
        stem_type: ``"patch"``: one convolution of patches that do not overlap; ``"overlap"``: two 3x3 ones of stride 2;
            ``"overlap_tiered"``: the first of them half as wide; ``"overlap_act"``: an activation between them.
        patch_size: size of those patches, 4 or 2.
        head_norm_first: a norm before the pooling in the place of the one behind it.
        head_hidden_size: width of a hidden layer between that norm and the head; ``None``: there is none.
        conv_mlp: the MLPs of the blocks are stored as 1x1 convolutions.
        use_grn: global response normalisation in the MLPs.
        act_layer: a name in ``jaxtl.models.layers.ACTIVATIONS``.
        norm_layer: ``"layernorm"``, ``"rmsnorm"`` or ``"simplenorm"``, each also with a ``2d`` behind it.
        norm_eps: the small number in all norms.
    """

    def __init__(
        self,
        *,
        depths: tuple[int, ...] = (3, 3, 9, 3),
        dims: tuple[int, ...] = (96, 192, 384, 768),
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        output_stride: int = 32,
        kernel_sizes: int | tuple[int, ...] = 7,
        ls_init_value: float | None = 1e-6,
        stem_type: str = "patch",
        patch_size: int = 4,
        head_norm_first: bool = False,
        head_hidden_size: int | None = None,
        conv_mlp: bool = False,
        use_grn: bool = False,
        act_layer: str = "gelu",
        norm_layer: str = "layernorm",
        norm_eps: float = 1e-6,
        head: tuple[int, ...] = (),
    ):
        _check("output_stride", output_stride, (8, 16, 32))
        _check("stem_type", stem_type, _STEMS)
        _check("norm_layer", norm_layer, tuple(_NORMS))
        _check("patch_size", patch_size, (2, 4))
        if head_norm_first and head_hidden_size:
            raise InputError("head_norm_first leaves no place for a head_hidden_size; choose one of them")
        norm = partial(_NORMS[norm_layer], eps=norm_eps)
        options = _BlockOptions(conv_mlp, use_grn, ls_init_value, act_layer, norm)
        self.num_classes = num_classes
        all_stages = ("stem", *(f"stages.{i}" for i in range(len(depths))), "head.fc")
        self._stage_names = stages_until(all_stages, until)
        kernels = (kernel_sizes,) * len(depths) if isinstance(kernel_sizes, int) else kernel_sizes

        self.stem = _stem(in_chans, dims[0], stem_type, patch_size, norm, act_layer)
        net_stride = patch_size if stem_type == "patch" else 4
        width, dilation, position = dims[0], 1, 0
        stages = []
        for i, depth in enumerate(depths[: len(self._stage_names) - 2]):
            stride = 2 if i > 0 or net_stride == 2 else 1
            if net_stride >= output_stride and stride > 1:
                dilation *= stride
                stride = 1
            net_stride *= stride
            downsample = None
            if width != dims[i] or stride > 1 or dilation > 1:
                downsample = _downsample(width, dims[i], stride, dilation, norm)
            width = dims[i]
            blocks = []
            for _ in range(depth):
                drop_path = drop_path_rate * position / max(1, sum(depths) - 1)
                blocks.append(Block(width, kernels[i], dilation, drop_path, options))
                position += 1
            stages.append(_Stage(downsample, Stack(*blocks)))
        self.stages: Stack = Stack(*stages)  # type: ignore[assignment]

        whole = len(stages) == len(depths)
        self.norm_pre = norm(width) if whole and head_norm_first else None
        self.num_features = (head_hidden_size if whole else None) or width
        self.head_drop = Dropout(drop_rate)
        self.head = _Head(
            norm(width) if whole and not head_norm_first else None,
            _PreLogits(width, head_hidden_size) if whole and head_hidden_size else None,
            make_head(self.num_features, num_classes, head, drop_rate),
        )

    @property
    def stage_names(self) -> tuple[str, ...]:
        return self._stage_names

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        modules: dict[str, tuple[str, ...]] = {"stem": ("stem",), "head.fc": ("head.fc",)}
        modules |= {stage: (f"{stage}.downsample", f"{stage}.blocks") for stage in self.stage_names[1:-1]}
        modules[self.stage_names[-2]] += ("norm_pre", "head.norm", "head.pre_logits")
        return {
            stage: tuple(path for path in modules[stage] if find(self, path) is not None) for stage in self.stage_names
        }

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "head.fc":
            return self.classify(self.pool(x), rngs)
        stage = self.stem if name == "stem" else getattr(self.stages, name.removeprefix("stages."))
        x = stage(x, rngs)
        return self.norm_pre(x) if self.norm_pre is not None and name == self.stage_names[-2] else x

    def pool(self, x: jax.Array) -> jax.Array:
        x = global_average(x)
        for layer in (self.head.norm, self.head.pre_logits):
            x = x if layer is None else layer(x)
        return x

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        pooled = self.head_drop(pooled, rngs)
        return pooled if self.head.fc is None else self.head.fc(pooled, rngs)


def _check(option: str, value: object, known: tuple) -> None:
    if value not in known:
        hint = nearest(value, known) if isinstance(value, str) else ""
        raise InputError(f"{option} is {value!r}{hint}; it can be {', '.join(map(repr, known))}")


def _stem(in_chans: int, width: int, kind: str, patch_size: int, norm: Callable[[int], nnx.Module], act: str) -> Stack:
    if kind == "patch":
        return Stack(PatchConv(in_chans, width, (patch_size, patch_size)), norm(width))
    first = _in_eights(width // 2) if kind == "overlap_tiered" else width
    return Stack(
        _conv(in_chans, first, 3, stride=2, padding=1),
        *([Activation(act)] if kind == "overlap_act" else []),
        _conv(first, width, 3, stride=2, padding=1),
        norm(width),
    )


def _in_eights(width: int) -> int:
    """The nearest multiple of 8 that is not more than a tenth below."""
    rounded = max(8, (width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8


def _downsample(width: int, out: int, stride: int, dilation: int, norm: Callable[[int], nnx.Module]) -> Stack:
    if stride == 2 and dilation == 1:
        return Stack(norm(width), PatchConv(width, out, (2, 2)))
    if dilation == 1:
        return Stack(norm(width), _conv(width, out, 1))
    return Stack(norm(width), _conv(width, out, 2, dilation=max(1, dilation // 2), padding="same"))


_SMALL = {"conv_mlp": True}
_V2 = {"use_grn": True, "ls_init_value": None}
_TEST = {"norm_eps": 1e-5}


def _net(width: int, *depths: int, **options) -> dict:
    return {"depths": depths, "dims": (width, 2 * width, 4 * width, 8 * width), **options}


ARCHITECTURES: dict[str, dict] = {
    "convnext_zepto_rms": _net(32, 2, 2, 4, 2, **_SMALL, norm_layer="simplenorm"),
    "convnext_zepto_rms_ols": _net(32, 2, 2, 4, 2, **_SMALL, norm_layer="simplenorm", stem_type="overlap_act"),
    "convnext_atto": _net(40, 2, 2, 6, 2, **_SMALL),
    "convnext_atto_ols": _net(40, 2, 2, 6, 2, **_SMALL, stem_type="overlap_tiered"),
    "convnext_atto_rms": _net(40, 2, 2, 6, 2, **_SMALL, norm_layer="rmsnorm2d"),
    "convnext_femto": _net(48, 2, 2, 6, 2, **_SMALL),
    "convnext_femto_ols": _net(48, 2, 2, 6, 2, **_SMALL, stem_type="overlap_tiered"),
    "convnext_pico": _net(64, 2, 2, 6, 2, **_SMALL),
    "convnext_pico_ols": _net(64, 2, 2, 6, 2, **_SMALL, stem_type="overlap_tiered"),
    "convnext_nano": _net(80, 2, 2, 8, 2, **_SMALL),
    "convnext_nano_ols": _net(80, 2, 2, 8, 2, **_SMALL, stem_type="overlap"),
    "convnext_tiny_hnf": _net(96, 3, 3, 9, 3, **_SMALL, head_norm_first=True),
    "convnext_tiny": _net(96, 3, 3, 9, 3),
    "convnext_small": _net(96, 3, 3, 27, 3),
    "convnext_base": _net(128, 3, 3, 27, 3),
    "convnext_large": _net(192, 3, 3, 27, 3),
    "convnext_large_mlp": _net(192, 3, 3, 27, 3, head_hidden_size=1536),
    "convnext_xlarge": _net(256, 3, 3, 27, 3),
    "convnext_xxlarge": _net(384, 3, 4, 30, 3, norm_eps=1e-5),
    "convnextv2_atto": _net(40, 2, 2, 6, 2, **_SMALL, **_V2),
    "convnextv2_femto": _net(48, 2, 2, 6, 2, **_SMALL, **_V2),
    "convnextv2_pico": _net(64, 2, 2, 6, 2, **_SMALL, **_V2),
    "convnextv2_nano": _net(80, 2, 2, 8, 2, **_SMALL, **_V2),
    "convnextv2_tiny": _net(96, 3, 3, 9, 3, **_V2),
    "convnextv2_small": _net(96, 3, 3, 27, 3, **_V2),
    "convnextv2_base": _net(128, 3, 3, 27, 3, **_V2),
    "convnextv2_large": _net(192, 3, 3, 27, 3, **_V2),
    "convnextv2_huge": _net(352, 3, 3, 27, 3, **_V2),
    "test_convnext": {"depths": (1, 2, 4, 2), "dims": (24, 32, 48, 64), "act_layer": "gelu_tanh", **_TEST},
    "test_convnext2": {"depths": (1, 1, 1, 1), "dims": (32, 64, 96, 128), "act_layer": "gelu_tanh", **_TEST},
    "test_convnext3": {
        "depths": (1, 1, 1, 1),
        "dims": (32, 64, 96, 128),
        "kernel_sizes": (7, 5, 5, 3),
        "act_layer": "silu",
        **_TEST,
    },
}

registry.register(ConvNeXt, ARCHITECTURES)
