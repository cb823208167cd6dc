"""ResNets that normalise in front of their convolutions, Big Transfer's (BiT) among them, by timm's names.

He et al., "Identity Mappings in Deep Residual Networks", https://arxiv.org/abs/1603.05027; BiT: Kolesnikov et al.,
https://arxiv.org/abs/1912.11370, with weight standardisation (https://arxiv.org/abs/1903.10520). In the place of
BatchNorm some have GroupNorm, EvoNorm (https://arxiv.org/abs/2004.02967) or FRN (https://arxiv.org/abs/1911.09737).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.models import registry
from jaxtl.models.convolution import same_padding
from jaxtl.models.evonorm import BatchNormAct, EvoNormS0, FilterResponseNormTlu, GroupNormAct
from jaxtl.models.head import ClassifierHead, make_head
from jaxtl.models.layers import Activation, Conv, Dropout, DropPath, Identity, Stack
from jaxtl.models.network import Network, stages_until
from jaxtl.models.pooling import AvgPool, MaxPool, SamePool2x2


class StdConv(Conv):
    """A convolution whose kernel is standardised to mean 0 and variance 1 for each output channel.

    Qiao et al., "Weight Standardization", https://arxiv.org/abs/1903.10520.
    """

    def __init__(self, *args, eps: float = 1e-6, **options):
        super().__init__(*args, **options)
        self.eps = eps

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        kernel = self.kernel[...]
        kernel = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
        centred = kernel - kernel.mean((0, 1, 2))
        return self.convolve(x, centred * jax.lax.rsqrt(jnp.square(centred).mean((0, 1, 2)) + self.eps))


class PaddedMaxPool(nnx.Module):
    """Maximum of 3x3 windows at stride 2, behind a padding.

    ``"fixed"`` puts zeros around the image, which count as values; ``"same"`` is TensorFlow's rule, whose padding does
    not.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self.pool = MaxPool(3, 2)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if self.kind == "fixed":
            return self.pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))
        pads = ((0, 0), *(same_padding(size, 3, 2) for size in x.shape[1:3]), (0, 0))
        return self.pool(jnp.pad(x, pads, constant_values=np.asarray(-np.inf, x.dtype)))


_NORMS: dict[str, Callable[..., nnx.Module]] = {
    "batchnorm": BatchNormAct,
    "groupnorm": GroupNormAct,
    "evonorms0": EvoNormS0,
    "frntlu": FilterResponseNormTlu,
}
_CONVS: dict[str, Callable[..., Conv]] = {
    "conv": partial(Conv, padding=None, bias=False),
    "std": partial(StdConv, padding=None, bias=False),
    "std_bit": partial(StdConv, padding=None, bias=False, eps=1e-8),
    "std_same": partial(StdConv, padding="same", bias=False, eps=1e-8),
}
_STEMS = ("", "fixed", "same", "deep", "deep_fixed", "deep_same", "tiered")


@dataclass(frozen=True)
class _Options:
    """What all blocks of a network have in common."""

    conv: Callable[..., Conv]
    norm: Callable[..., nnx.Module]
    act: str
    bottle_ratio: float
    avg_down: bool
    preact: bool


@dataclass(frozen=True)
class _Place:
    """What one block has for itself."""

    in_channels: int
    out_channels: int
    stride: int
    first_dilation: int
    dilation: int
    first: bool
    drop_path: float


class _Downsample(nnx.Module):
    """The shortcut where the shape changes: a 1x1 convolution, behind an average pooling or with the stride itself."""

    def __init__(self, place: _Place, options: _Options):
        self.pool: nnx.Module = Identity()
        stride = place.stride
        if options.avg_down:
            if place.dilation > 1:
                self.pool = SamePool2x2()
            elif stride > 1:
                self.pool = AvgPool(2, stride, ceil_mode=True, count_include_pad=False)
            stride = 1
        self.conv = options.conv(place.in_channels, place.out_channels, 1, stride=stride)
        self.norm = None if options.preact else options.norm(place.out_channels, None)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = self.conv(self.pool(x))
        return x if self.norm is None else self.norm(x)


class PreActBasic(nnx.Module):
    """Two 3x3 convolutions, a norm in front of each; a shortcut that changes the shape starts behind the first norm."""

    def __init__(self, place: _Place, options: _Options):
        conv, norm = options.conv, options.norm
        width = _round8(place.out_channels * options.bottle_ratio)
        changes = place.stride != 1 or place.first_dilation != place.dilation or place.in_channels != place.out_channels
        self.downsample = _Downsample(place, options) if place.first and changes else None
        self.norm1 = norm(place.in_channels, options.act)
        self.conv1 = conv(place.in_channels, width, 3, stride=place.stride, dilation=place.first_dilation)
        self.norm2 = norm(width, options.act)
        self.conv2 = conv(width, place.out_channels, 3, dilation=place.dilation)
        self.drop_path = DropPath(place.drop_path)

    def branch(self, x: jax.Array) -> jax.Array:
        return self.conv2(self.norm2(self.conv1(x)))

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        ready = self.norm1(x)
        shortcut = x if self.downsample is None else self.downsample(ready)
        return self.drop_path(self.branch(ready), rngs) + shortcut


class PreActBottleneck(PreActBasic):
    """A 1x1, a 3x3 and a 1x1 convolution, a norm in front of each."""

    def __init__(self, place: _Place, options: _Options):
        conv, norm = options.conv, options.norm
        width = _round8(place.out_channels * options.bottle_ratio)
        self.downsample = _Downsample(place, options) if place.first else None
        self.norm1 = norm(place.in_channels, options.act)
        self.conv1 = conv(place.in_channels, width, 1)
        self.norm2 = norm(width, options.act)
        self.conv2 = conv(width, width, 3, stride=place.stride, dilation=place.first_dilation)
        self.norm3 = norm(width, options.act)
        self.conv3 = conv(width, place.out_channels, 1)
        self.drop_path = DropPath(place.drop_path)

    def branch(self, x: jax.Array) -> jax.Array:
        return self.conv3(self.norm3(self.conv2(self.norm2(self.conv1(x)))))


class Bottleneck(nnx.Module):
    """A 1x1, a 3x3 and a 1x1 convolution, a norm behind each: the block of the first ResNets."""

    def __init__(self, place: _Place, options: _Options):
        conv, norm = options.conv, options.norm
        width = _round8(place.out_channels * options.bottle_ratio)
        self.downsample = _Downsample(place, options) if place.first else None
        self.conv1 = conv(place.in_channels, width, 1)
        self.norm1 = norm(width, options.act)
        self.conv2 = conv(width, width, 3, stride=place.stride, dilation=place.first_dilation)
        self.norm2 = norm(width, options.act)
        self.conv3 = conv(width, place.out_channels, 1)
        self.norm3 = norm(place.out_channels, None)
        self.drop_path = DropPath(place.drop_path)
        self.act3 = Activation(options.act)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        return self.act3(self.drop_path(self.norm3(self.conv3(y)), rngs) + shortcut)


class _Stage(nnx.Module):
    """timm keeps the blocks of a stage one level deeper."""

    def __init__(self, blocks: Stack):
        self.blocks = blocks

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.blocks(x, rngs)


class ResNetV2(Network):
    """The family. Stages: ``stem``, ``stages.0`` to ``stages.3`` (the last with the final norm), ``head.fc``.

    The head's one layer is a 1x1 convolution in timm, and keeps such a kernel here.

    Args:
        layers: number of blocks in each stage.
        channels: width of each stage.
        num_classes, in_chans, until, drop_rate, drop_path_rate, head: see ``jaxtl.models.registry.build``.
        output_stride: 32, 16 or 8: how much smaller the last feature map is than the image; the strides that fall away
            become dilations, so weights fit all three.
        width_factor: multiplies all widths.
        stem_chs: channels behind the stem, before that factor.
        stem_type: ``""``: one 7x7 convolution; ``"deep"``: three 3x3 of half, half and all the channels; ``"tiered"``:
            of 3/8, half and all. ``"fixed"``, ``"same"``, ``"deep_fixed"`` and ``"deep_same"`` differ in how the
            max-pooling behind it pads.
        avg_down: average pooling, then a 1x1 convolution in strided shortcuts.
        preact: norms in front of the convolutions; else behind them, and no norm behind the last stage.
        basic: blocks of two 3x3 convolutions, not bottlenecks.
        bottle_ratio: width inside a block over its outer width.
        act_layer: a name in ``jaxtl.models.layers.ACTIVATIONS``.
        norm_layer: ``"groupnorm"``, ``"batchnorm"``, ``"evonorms0"`` or ``"frntlu"``.
        conv_layer: ``"conv"``, or with standardised kernels ``"std"``, ``"std_bit"`` (a smaller epsilon) or
            ``"std_same"`` (that, and TensorFlow's padding).
    """

    def __init__(
        self,
        *,
        layers: tuple[int, ...],
        channels: tuple[int, ...] = (256, 512, 1024, 2048),
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        output_stride: int = 32,
        width_factor: int = 1,
        stem_chs: int = 64,
        stem_type: str = "",
        avg_down: bool = False,
        preact: bool = True,
        basic: bool = False,
        bottle_ratio: float = 0.25,
        act_layer: str = "relu",
        norm_layer: str = "groupnorm",
        conv_layer: str = "std",
        head: tuple[int, ...] = (),
    ):
        if output_stride not in (8, 16, 32):
            raise InputError(f"output_stride is {output_stride}; a ResNetV2's can be 8, 16 or 32")
        if basic and not preact:
            raise InputError("basic blocks are made with preact=True only")
        for option, value, known in (
            ("stem_type", stem_type, _STEMS),
            ("norm_layer", norm_layer, _NORMS),
            ("conv_layer", conv_layer, _CONVS),
        ):
            if value not in known:
                raise InputError(
                    f"{option} is {value!r}{nearest(value, known)}; it can be {', '.join(map(repr, known))}"
                )
        options = _Options(_CONVS[conv_layer], _NORMS[norm_layer], act_layer, bottle_ratio, avg_down, preact)
        self.num_classes = num_classes
        all_stages = ("stem", *(f"stages.{i}" for i in range(len(layers))), "head.fc")
        self._stage_names = stages_until(all_stages, until)

        width = _round8(stem_chs * width_factor)
        self.stem = _stem(in_chans, width, stem_type, options)
        block = (PreActBasic if basic else PreActBottleneck) if preact else Bottleneck
        stages, position, net_stride, dilation = [], 0, 4, 1
        for i in range(len(self._stage_names) - 2):
            stride, first_dilation = 1 if i == 0 else 2, dilation
            if net_stride >= output_stride:
                stride, dilation = 1, dilation * stride
            net_stride *= stride
            out_width = _round8(channels[i] * width_factor)
            blocks = []
            for j in range(layers[i]):
                place = _Place(
                    width,
                    out_width,
                    stride=stride if j == 0 else 1,
                    first_dilation=first_dilation if j == 0 else dilation,
                    dilation=dilation,
                    first=j == 0,
                    drop_path=drop_path_rate * position / max(1, sum(layers) - 1),
                )
                blocks.append(block(place, options))
                width = out_width
                position += 1
            stages.append(_Stage(Stack(*blocks)))
        self.stages: Stack = Stack(*stages)  # type: ignore[assignment]

        self.num_features = width
        whole = self._stage_names == all_stages
        self.norm = options.norm(width, act_layer) if preact and whole else None
        self.head_drop = Dropout(drop_rate)
        self.head = ClassifierHead(make_head(width, num_classes, head, drop_rate, pointwise=True))

    @property
    def stage_names(self) -> tuple[str, ...]:
        return self._stage_names

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        modules: dict[str, tuple[str, ...]] = {stage: (f"{stage}.blocks",) for stage in self.stage_names[1:-1]}
        if self.norm is not None:
            modules[self.stage_names[-2]] += ("norm",)
        return super().stage_modules | modules

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "head.fc":
            return self.classify(self.pool(x), rngs)
        if name == "stem":
            return self.stem(x, rngs)
        x = getattr(self.stages, name.removeprefix("stages."))(x, rngs)
        return self.norm(x) if self.norm is not None and name == self.stage_names[-2] else x

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.head(self.head_drop(pooled, rngs), rngs)


def _round8(width: float) -> int:
    """The nearest multiple of 8, never less than nine tenths."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def _stem(in_chans: int, width: int, kind: str, options: _Options) -> Stack:
    act = options.act
    layers: dict[str, nnx.Module] = {}
    if kind.startswith(("deep", "tiered")):
        widths = (3 * width // 8 if kind == "tiered" else width // 2, width // 2)
        layers["conv1"] = options.conv(in_chans, widths[0], 3, stride=2)
        layers["norm1"] = options.norm(widths[0], act)
        layers["conv2"] = options.conv(widths[0], widths[1], 3)
        layers["norm2"] = options.norm(widths[1], act)
        layers["conv3"] = options.conv(widths[1], width, 3)
        last = "norm3"
    else:
        layers["conv"] = options.conv(in_chans, width, 7, stride=2)
        last = "norm"
    if not options.preact:
        layers[last] = options.norm(width, act)
    padding = kind.removeprefix("deep_")
    layers["pool"] = PaddedMaxPool(padding) if padding in ("fixed", "same") else MaxPool(3, 2, 1)
    return Stack(**layers)


_BATCH_NORM = {"norm_layer": "batchnorm", "conv_layer": "conv"}
_D: Mapping[str, object] = {"stem_type": "deep", "avg_down": True}
_T: Mapping[str, object] = {"stem_type": "tiered", "avg_down": True}
_18, _34, _50, _101, _152 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)


def _basic(layers: tuple[int, ...], **options) -> dict:
    return {**_plain(layers, **options), "channels": (64, 128, 256, 512), "basic": True, "bottle_ratio": 1.0}


def _plain(layers: tuple[int, ...], **options) -> dict:
    return {"layers": layers, **_BATCH_NORM, **options}


def _bit(layers: tuple[int, ...], width_factor: int) -> dict:
    return {"layers": layers, "width_factor": width_factor, "stem_type": "fixed", "conv_layer": "std_bit"}


ARCHITECTURES: dict[str, dict] = {
    "resnetv2_18": _basic(_18),
    "resnetv2_18d": _basic(_18, **_D),
    "resnetv2_34": _basic(_34),
    "resnetv2_34d": _basic(_34, **_D),
    "resnetv2_50": _plain(_50),
    "resnetv2_50d": _plain(_50, **_D),
    "resnetv2_50d_evos": _plain(_50, **_D, norm_layer="evonorms0"),
    "resnetv2_50d_frn": _plain(_50, **_D, norm_layer="frntlu"),
    "resnetv2_50d_gn": _plain(_50, **_D, norm_layer="groupnorm"),
    "resnetv2_50t": _plain(_50, **_T),
    "resnetv2_50x1_bit": _bit(_50, 1),
    "resnetv2_50x3_bit": _bit(_50, 3),
    "resnetv2_101": _plain(_101),
    "resnetv2_101d": _plain(_101, **_D),
    "resnetv2_101x1_bit": _bit(_101, 1),
    "resnetv2_101x3_bit": _bit(_101, 3),
    "resnetv2_152": _plain(_152),
    "resnetv2_152d": _plain(_152, **_D),
    "resnetv2_152x2_bit": _bit(_152, 2),
    "resnetv2_152x4_bit": _bit(_152, 4),
}

registry.register(ResNetV2, ARCHITECTURES)
