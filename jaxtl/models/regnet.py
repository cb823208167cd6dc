"""RegNets X, Y, V and Z by timm's names: networks whose widths follow one quantised line.

Radosavovic et al., "Designing Network Design Spaces", https://arxiv.org/abs/2003.13678; Z: Dollár et al., "Fast and
Accurate Model Scaling", https://arxiv.org/abs/2103.06877; the largest: Goyal et al., https://arxiv.org/abs/2103.01988.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.models import init, registry
from jaxtl.models.attention import SqueezeExcite
from jaxtl.models.evonorm import BatchNormAct, EvoNormS0, FilterResponseNormTlu, GroupNormAct
from jaxtl.models.head import ClassifierHead, make_head
from jaxtl.models.layers import Activation, Conv, Dropout, DropPath, Identity, Stack
from jaxtl.models.network import Network, stages_until
from jaxtl.models.pooling import AvgPool, SamePool2x2

_NORMS: dict[str, Callable[..., nnx.Module]] = {
    "batchnorm": BatchNormAct,
    "groupnorm": GroupNormAct,
    "groupnorm_16": partial(GroupNormAct, group_size=16),
    "evonorms0": EvoNormS0,
    "frntlu": FilterResponseNormTlu,
}
_DOWNSAMPLES = ("conv1x1", "avg", "", None)


@dataclass(frozen=True)
class _Options:
    """What all blocks of a network have in common."""

    norm: Callable[..., nnx.Module]
    act: str
    bottle_ratio: float
    se_ratio: float
    downsample: str | None
    linear_out: bool


@dataclass(frozen=True)
class _Place:
    """What one block has for itself."""

    in_channels: int
    out_channels: int
    stride: int
    first_dilation: int
    dilation: int
    group_size: int
    drop_path: float

    @property
    def changes(self) -> bool:
        """Whether the shortcut cannot be the input itself."""
        return self.in_channels != self.out_channels or self.stride != 1 or self.first_dilation != self.dilation


class _ConvNorm(nnx.Module):
    """A convolution, its norm and, unless ``act`` is ``None``, the activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        norm: Callable[..., nnx.Module],
        act: str | None,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        scale_init: Callable = init.ones,
    ):
        self.conv = _conv(in_channels, out_channels, kernel_size, stride, dilation, groups)
        self.bn = norm(out_channels, act, scale_init=scale_init)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.bn(self.conv(x))


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> Conv:
    return Conv(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=None,
        dilation=dilation,
        groups=groups,
        bias=False,
    )


def _shortcut(place: _Place, kind: str | None, norm: Callable[..., nnx.Module] | None) -> nnx.Module | None:
    """The module on the shortcut, ``None`` where the block has no shortcut; without ``norm`` bare convolutions."""
    if not place.changes:
        return Identity()
    if not kind:
        return None
    averaged = kind == "avg"
    stride = 1 if averaged else place.stride
    if norm is None:
        conv: nnx.Module = _conv(place.in_channels, place.out_channels, 1, stride)
    else:
        conv = _ConvNorm(place.in_channels, place.out_channels, 1, norm, None, stride=stride)
    if not averaged:
        return conv
    if place.first_dilation > 1:
        pool: nnx.Module = SamePool2x2()
    elif place.stride > 1:
        pool = AvgPool(2, place.stride, ceil_mode=True, count_include_pad=False)
    else:
        pool = Identity()
    return Stack(pool, conv)


class _Block(nnx.Module):
    """A 1x1, a grouped 3x3, attention, a 1x1 convolution; the sum with the shortcut, where there is one."""

    def __init__(self, place: _Place, options: _Options):
        self.width = round(place.out_channels * options.bottle_ratio)
        if self.width % place.group_size:
            raise InputError(f"{self.width} channels of a block do not divide into groups of {place.group_size}")
        self.groups = self.width // place.group_size
        narrow = round(place.in_channels * options.se_ratio)
        self.se = SqueezeExcite(self.width, narrow=narrow, act=options.act) if options.se_ratio else None
        self.drop_path = DropPath(place.drop_path)

    def _attend(self, x: jax.Array) -> jax.Array:
        return x if self.se is None else self.se(x)


class Bottleneck(_Block):
    """Normalises behind each convolution, as a ResNet's does."""

    def __init__(self, place: _Place, options: _Options):
        super().__init__(place, options)
        norm, act, width = options.norm, options.act, self.width
        self.conv1 = _ConvNorm(place.in_channels, width, 1, norm, act)
        self.conv2 = _ConvNorm(
            width, width, 3, norm, act, stride=place.stride, dilation=place.first_dilation, groups=self.groups
        )
        self.conv3 = _ConvNorm(width, place.out_channels, 1, norm, None, scale_init=init.zeros)
        self.act3 = None if options.linear_out else Activation(act)
        self.downsample = _shortcut(place, options.downsample, norm)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        y = self.conv3(self._attend(self.conv2(self.conv1(x))))
        if self.downsample is not None:
            y = self.drop_path(y, rngs) + self.downsample(x)
        return y if self.act3 is None else self.act3(y)


class PreBottleneck(_Block):
    """Normalises in front of each convolution; the shortcut starts behind the first norm."""

    def __init__(self, place: _Place, options: _Options):
        super().__init__(place, options)
        norm, act, width = options.norm, options.act, self.width
        self.norm1 = norm(place.in_channels, act)
        self.conv1 = _conv(place.in_channels, width, 1)
        self.norm2 = norm(width, act)
        self.conv2 = _conv(width, width, 3, place.stride, place.first_dilation, self.groups)
        self.norm3 = norm(width, act)
        self.conv3 = _conv(width, place.out_channels, 1)
        self.downsample = _shortcut(place, options.downsample, None)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = self.norm1(x)
        y = self._attend(self.conv2(self.norm2(self.conv1(x))))
        y = self.conv3(self.norm3(y))
        return y if self.downsample is None else self.drop_path(y, rngs) + self.downsample(x)


def stage_plan(
    w0: int, wa: float, wm: float, depth: int, group_size: int, bottle_ratio: float = 1.0, group_min_ratio: float = 0.0
) -> list[tuple[int, int, int]]:
    """(blocks, width, group size) of each stage.

    Block i has the width ``w0 + wa * i``, brought to the nearest ``w0 * wm ** k`` and then to a multiple of 8. Widths
    are rounded once more so that the groups fit: to the nearest multiple, or, with ``group_min_ratio``, as torchvision
    does, to one of at least nine tenths of them.

    >>> stage_plan(24, 36.44, 2.49, 13, 8)
    [(1, 24, 8), (1, 56, 8), (4, 152, 8), (7, 368, 8)]
    """
    exponents = np.round(np.log(1 + wa * np.arange(depth) / w0) / math.log(wm))
    quantised = np.round(w0 * wm**exponents / 8) * 8
    plan = []
    for width, blocks in zip(*np.unique(quantised, return_counts=True), strict=True):
        inner = int(width * bottle_ratio)
        size = min(group_size, inner)
        if group_min_ratio:
            fitting = max(1, int(inner + size / 2) // size) * size
            fitting += size if fitting < 0.9 * inner else 0
        else:
            fitting = round(inner / size) * size
        plan.append((int(blocks), int(fitting / bottle_ratio), size))
    return plan


class RegNet(Network):
    """The family. Stages: ``stem``, ``s1`` to ``s4``, ``final_conv`` where there is one, ``head.fc``.

    Args:
        depth, w0, wa, wm: number of blocks, and the line and the steps their widths follow (``stage_plan``).
        num_classes, in_chans, until, drop_rate, drop_path_rate, head: see ``jaxtl.models.registry.build``.
        output_stride: 32, 16 or 8: how much smaller the last feature map is than the image; the strides that fall away
            become dilations, so weights fit all three.
        group_size: channels of one group in the 3x3 convolutions.
        bottle_ratio: width inside a block over its outer width.
        se_ratio: narrow width of the channel attention in parts of the block's input; 0: no attention.
        group_min_ratio: not 0: widths are made to fit the groups as in torchvision.
        stem_width: channels behind the stem.
        downsample: ``"conv1x1"``, ``"avg"`` (average pooling in front of it), or ``""`` or ``None``: blocks that change
            the shape have no shortcut.
        linear_out: no activation behind a block; one behind the last.
        preact: norms in front of the convolutions, and an activation behind the last block.
        num_features: width of a 1x1 convolution behind the last stage; 0: there is none.
        act_layer: a name in ``jaxtl.models.layers.ACTIVATIONS``.
        norm_layer: ``"batchnorm"``, ``"groupnorm"`` (32 groups), ``"groupnorm_16"`` (groups of 16), ``"evonorms0"`` or
            ``"frntlu"``.
    """

    def __init__(
        self,
        *,
        depth: int,
        w0: int,
        wa: float,
        wm: float,
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        output_stride: int = 32,
        group_size: int = 24,
        bottle_ratio: float = 1.0,
        se_ratio: float = 0.0,
        group_min_ratio: float = 0.0,
        stem_width: int = 32,
        downsample: str | None = "conv1x1",
        linear_out: bool = False,
        preact: bool = False,
        num_features: int = 0,
        act_layer: str = "relu",
        norm_layer: str = "batchnorm",
        head: tuple[int, ...] = (),
    ):
        if output_stride not in (8, 16, 32):
            raise InputError(f"output_stride is {output_stride}; a RegNet's can be 8, 16 or 32")
        if norm_layer not in _NORMS:
            raise InputError(
                f"norm_layer is {norm_layer!r}{nearest(norm_layer, _NORMS)}; it can be {', '.join(map(repr, _NORMS))}"
            )
        if downsample not in _DOWNSAMPLES:
            raise InputError(f"downsample is {downsample!r}; it can be {', '.join(map(repr, _DOWNSAMPLES))}")
        plan = stage_plan(w0, wa, wm, depth, group_size, bottle_ratio, group_min_ratio)
        if len(plan) != 4:
            raise InputError(f"w0, wa, wm and depth give {len(plan)} stages; a RegNet has 4")
        self.num_classes = num_classes
        last = ("final_conv",) if num_features else ()
        self.stages = stages_until(("stem", "s1", "s2", "s3", "s4", *last, "head.fc"), until)

        norm = _NORMS[norm_layer]
        options = _Options(norm, act_layer, bottle_ratio, se_ratio, downsample, linear_out)
        self.stem: nnx.Module = (
            _conv(in_chans, stem_width, 3, 2)
            if preact
            else _ConvNorm(in_chans, stem_width, 3, norm, act_layer, stride=2)
        )
        block = PreBottleneck if preact else Bottleneck
        width, position, net_stride, dilation = stem_width, 0, 2, 1
        for i, (blocks, out_width, size) in enumerate(plan):
            stage, stride, first_dilation = f"s{i + 1}", 2, dilation
            if stage not in self.stages:
                break
            if net_stride >= output_stride:
                stride, dilation = 1, dilation * 2
            net_stride *= stride
            members = {}
            for j in range(blocks):
                place = _Place(
                    width,
                    out_width,
                    stride=stride if j == 0 else 1,
                    first_dilation=first_dilation if j == 0 else dilation,
                    dilation=dilation,
                    group_size=size,
                    drop_path=drop_path_rate * position / max(1, depth - 1),
                )
                members[f"b{j + 1}"] = block(place, options)
                width = out_width
                position += 1
            setattr(self, stage, Stack(**members))

        self.final_act = Activation(act_layer) if (linear_out or preact) and not num_features else None
        if "final_conv" in self.stages:
            self.final_conv = _ConvNorm(width, num_features, 1, norm, act_layer)
            width = num_features
        self.num_features = width
        self.head_drop = Dropout(drop_rate)
        self.head = ClassifierHead(make_head(width, num_classes, head, drop_rate))

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "head.fc":
            return self.classify(self.pool(x), rngs)
        x = getattr(self, name)(x, rngs)
        return self.final_act(x) if self.final_act is not None and name == "s4" else x

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.head(self.head_drop(pooled, rngs), rngs)


def _x(w0: int, wa: float, wm: float, group_size: int, depth: int, **options) -> dict:
    return {"w0": w0, "wa": wa, "wm": wm, "group_size": group_size, "depth": depth, **options}


_y = partial(_x, se_ratio=0.25)
_v = partial(_y, preact=True, act_layer="silu")
_z = partial(_y, bottle_ratio=4.0, downsample=None, linear_out=True, act_layer="silu")

ARCHITECTURES: dict[str, dict] = {
    "regnetv_040": _v(96, 31.41, 2.24, 64, 22),
    "regnetv_064": _v(112, 33.22, 2.27, 72, 25, downsample="avg"),
    "regnetx_002": _x(24, 36.44, 2.49, 8, 13),
    "regnetx_004": _x(24, 24.48, 2.54, 16, 22),
    "regnetx_004_tv": _x(24, 24.48, 2.54, 16, 22, group_min_ratio=0.9),
    "regnetx_006": _x(48, 36.97, 2.24, 24, 16),
    "regnetx_008": _x(56, 35.73, 2.28, 16, 16),
    "regnetx_016": _x(80, 34.01, 2.25, 24, 18),
    "regnetx_032": _x(88, 26.31, 2.25, 48, 25),
    "regnetx_040": _x(96, 38.65, 2.43, 40, 23),
    "regnetx_064": _x(184, 60.83, 2.07, 56, 17),
    "regnetx_080": _x(80, 49.56, 2.88, 120, 23),
    "regnetx_120": _x(168, 73.36, 2.37, 112, 19),
    "regnetx_160": _x(216, 55.59, 2.1, 128, 22),
    "regnetx_320": _x(320, 69.86, 2.0, 168, 23),
    "regnety_002": _y(24, 36.44, 2.49, 8, 13),
    "regnety_004": _y(48, 27.89, 2.09, 8, 16),
    "regnety_006": _y(48, 32.54, 2.32, 16, 15),
    "regnety_008": _y(56, 38.84, 2.4, 16, 14),
    "regnety_008_tv": _y(56, 38.84, 2.4, 16, 14, group_min_ratio=0.9),
    "regnety_016": _y(48, 20.71, 2.65, 24, 27),
    "regnety_032": _y(80, 42.63, 2.66, 24, 21),
    "regnety_040": _y(96, 31.41, 2.24, 64, 22),
    "regnety_040_sgn": _y(96, 31.41, 2.24, 64, 22, act_layer="silu", norm_layer="groupnorm_16"),
    "regnety_064": _y(112, 33.22, 2.27, 72, 25),
    "regnety_080": _y(192, 76.82, 2.19, 56, 17),
    "regnety_080_tv": _y(192, 76.82, 2.19, 56, 17, group_min_ratio=0.9),
    "regnety_120": _y(168, 73.36, 2.37, 112, 19),
    "regnety_160": _y(200, 106.23, 2.48, 112, 18),
    "regnety_320": _y(232, 115.89, 2.53, 232, 20),
    "regnety_640": _y(352, 147.48, 2.4, 328, 20),
    "regnety_1280": _y(456, 160.83, 2.52, 264, 27),
    "regnety_2560": _y(640, 230.83, 2.53, 373, 27),
    "regnetz_005": _z(16, 10.7, 2.51, 4, 21, num_features=1024),
    "regnetz_040": _z(48, 14.5, 2.226, 8, 28),
    "regnetz_040_h": _z(48, 14.5, 2.226, 8, 28, num_features=1536),
}

registry.register(RegNet, ARCHITECTURES)
