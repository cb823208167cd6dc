"""ResNets of the kind with batch normalisation after each convolution, and their many relatives, by timm's names.

He et al., https://arxiv.org/abs/1512.03385. The relatives: ResNeXt (https://arxiv.org/abs/1611.05431), wide
(https://arxiv.org/abs/1605.07146), squeeze-and-excitation (https://arxiv.org/abs/1709.01507), efficient channel
attention (https://arxiv.org/abs/1910.03151), the stems and shortcuts of the "bag of tricks" (https://arxiv.org/abs/1812.01187),
anti-aliased (https://arxiv.org/abs/1904.11486) and ResNet-RS (https://arxiv.org/abs/2103.07579).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.models import init, registry
from jaxtl.models.attention import EfficientChannelAttention, SqueezeExcite
from jaxtl.models.conv_norm import EndingInNorm, conv_norm, conv_norm_act
from jaxtl.models.head import make_head
from jaxtl.models.layers import Activation, BatchNorm, Conv, Dropout, DropPath, GroupNorm, Identity, Stack
from jaxtl.models.network import Network, stages_until
from jaxtl.models.norm_act import norm_act
from jaxtl.models.pooling import AvgPool, BlurPool, MaxPool, SamePool2x2

_NORMS: dict[str, Callable[..., nnx.Module]] = {"batchnorm": BatchNorm, "groupnorm": GroupNorm}
_ANTI_ALIASING: dict[str, Callable[[int], nnx.Module]] = {"avg": AvgPool, "blur": BlurPool}


@dataclass(frozen=True)
class _BlockOptions:
    """What all blocks of a network have in common."""

    cardinality: int
    base_width: int
    reduce_first: int
    act_layer: str
    norm: Callable[..., nnx.Module]
    anti_aliasing: Callable[[int], nnx.Module] | None
    attention: Callable[[int], nnx.Module] | None


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> Conv:
    return Conv(
        in_channels, out_channels, 3, stride=stride, padding=dilation, dilation=dilation, groups=groups, bias=False
    )


class _Block(nnx.Module):
    """A residual block: its branch, the attention on it, the shortcut, and the activation of their sum."""

    expansion: int

    def __init__(
        self,
        channels: int,
        options: _BlockOptions,
        downsample: Stack | None,
        drop_path: float,
    ):
        self.se = options.attention(channels) if options.attention else None
        self.act = Activation(options.act_layer)
        self.downsample = downsample
        self.drop_path = DropPath(drop_path)

    def branch(self, x: jax.Array) -> tuple[jax.Array, Conv, nnx.Module]:
        """What its last convolution takes, that, and the normalisation behind it."""
        raise NotImplementedError

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        y, conv, norm = self.branch(x)
        shortcut = x if self.downsample is None else self.downsample(x)
        if self.se is None and not self.drop_path.drops:
            return conv_norm_act(conv, norm, self.act, y, shortcut)
        y = conv_norm(conv, norm, y)
        if self.se is not None:
            y = self.se(y)
        return self.act(self.drop_path(y, rngs) + shortcut)


class BasicBlock(_Block):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        planes: int,
        options: _BlockOptions,
        *,
        stride: int,
        dilation: int,
        first_dilation: int,
        downsample: Stack | None,
        drop_path: float,
    ):
        if (options.cardinality, options.base_width) != (1, 64):
            raise InputError("basic blocks have neither cardinality nor base_width; use bottleneck blocks")
        super().__init__(planes, options, downsample, drop_path)
        width = planes // options.reduce_first
        anti_aliasing = options.anti_aliasing if stride == 2 or first_dilation != dilation else None
        self.conv1 = _conv3x3(in_channels, width, 1 if anti_aliasing else stride, first_dilation)
        self.bn1 = options.norm(width)
        self.aa = anti_aliasing(stride) if anti_aliasing else None
        self.conv2 = _conv3x3(width, planes, dilation=dilation)
        self.bn2 = options.norm(planes, scale_init=init.zeros)

    def branch(self, x: jax.Array) -> tuple[jax.Array, Conv, nnx.Module]:
        x = norm_act(self.bn1, self.act, self.conv1(x))
        if self.aa is not None:
            x = self.aa(x)
        return x, self.conv2, self.bn2


class Bottleneck(_Block):
    """A 1x1 convolution down to a narrow width, a 3x3 one, and a 1x1 one up to four times the stage's width."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        options: _BlockOptions,
        *,
        stride: int,
        dilation: int,
        first_dilation: int,
        downsample: Stack | None,
        drop_path: float,
    ):
        out_channels = planes * self.expansion
        super().__init__(out_channels, options, downsample, drop_path)
        width = planes * options.base_width // 64 * options.cardinality
        first = width // options.reduce_first
        anti_aliasing = options.anti_aliasing if stride == 2 or first_dilation != dilation else None
        self.conv1 = Conv(in_channels, first, 1, bias=False)
        self.bn1 = options.norm(first)
        self.conv2 = _conv3x3(first, width, 1 if anti_aliasing else stride, first_dilation, options.cardinality)
        self.bn2 = options.norm(width)
        self.aa = anti_aliasing(stride) if anti_aliasing else None
        self.conv3 = Conv(width, out_channels, 1, bias=False)
        self.bn3 = options.norm(out_channels, scale_init=init.zeros)

    def branch(self, x: jax.Array) -> tuple[jax.Array, Conv, nnx.Module]:
        x = norm_act(self.bn1, self.act, self.conv1(x))
        x = norm_act(self.bn2, self.act, self.conv2(x))
        if self.aa is not None:
            x = self.aa(x)
        return x, self.conv3, self.bn3


_BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(Network):
    """The family. Stages: ``stem``, ``layer1`` to ``layer4``, ``fc``.

    Args:
        block: ``"basic"`` or ``"bottleneck"``, or one of them for each stage.
        layers: number of blocks in each stage.
        num_classes, in_chans, until, drop_rate, drop_path_rate, head: see ``jaxtl.models.registry.build``.
        output_stride: 32, 16 or 8: how much smaller the last feature map is than the image; the strides that fall away
            become dilations, so weights fit all three.
        cardinality: groups of the 3x3 convolutions in bottleneck blocks.
        base_width: width of those convolutions per group, where 64 is the stage's own.
        stem_type: ``""``: one 7x7 convolution; ``"deep"``: three 3x3 of widths w, w, 2w; ``"deep_tiered"``:
            3w/4, w, 2w.
        stem_width: the w of the deep stems.
        replace_stem_pool: a convolution with stride 2 in the place of the max-pooling.
        block_reduce_first: divides the width of a block's first convolution.
        down_kernel_size: kernel of the convolutions in strided shortcuts.
        avg_down: average pooling, then a 1x1 convolution in strided shortcuts.
        channels: width of each stage, before a bottleneck's expansion by four.
        act_layer: a name in ``jaxtl.models.layers.ACTIVATIONS``.
        norm_layer: ``"batchnorm"`` or ``"groupnorm"``.
        aa_layer: ``None``, ``"avg"`` or ``"blur"``: what takes the stride behind an undivided convolution.
        attn_layer: ``None``, ``"se"`` or ``"eca"``: channel attention at the end of each branch.
        rd_ratio: narrow width of ``"se"`` in parts of its channels.
    """

    def __init__(
        self,
        *,
        block: str | tuple[str, ...],
        layers: tuple[int, ...],
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        output_stride: int = 32,
        cardinality: int = 1,
        base_width: int = 64,
        stem_type: str = "",
        stem_width: int = 64,
        replace_stem_pool: bool = False,
        block_reduce_first: int = 1,
        down_kernel_size: int = 1,
        avg_down: bool = False,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        act_layer: str = "relu",
        norm_layer: str = "batchnorm",
        aa_layer: str | None = None,
        attn_layer: str | None = None,
        rd_ratio: float = 1 / 16,
        head: tuple[int, ...] = (),
    ):
        if output_stride not in (8, 16, 32):
            raise InputError(f"output_stride is {output_stride}; a ResNet's can be 8, 16 or 32")
        attentions = {"se": lambda width: SqueezeExcite(width, rd_ratio), "eca": EfficientChannelAttention}
        options = _BlockOptions(
            cardinality=cardinality,
            base_width=base_width,
            reduce_first=block_reduce_first,
            act_layer=act_layer,
            norm=_choose("norm_layer", norm_layer, _NORMS),
            anti_aliasing=None if aa_layer is None else _choose("aa_layer", aa_layer, _ANTI_ALIASING),
            attention=None if attn_layer is None else _choose("attn_layer", attn_layer, attentions),
        )
        self.num_classes = num_classes
        all_stages = ("stem", *(f"layer{i + 1}" for i in range(len(layers))), "fc")
        self.stages = stages_until(all_stages, until)

        width = self._set_stem(in_chans, stem_type, stem_width, replace_stem_pool, options)
        blocks = (block,) * len(layers) if isinstance(block, str) else block
        position, net_stride, dilation = 0, 4, 1
        for i, stage in enumerate(all_stages[1:-1]):
            if stage not in self.stages:
                break
            stride, first_dilation = 1 if i == 0 else 2, dilation
            if net_stride >= output_stride:
                dilation *= stride
                stride = 1
            net_stride *= stride
            kind = _choose("block", blocks[i], _BLOCKS)
            out_width = channels[i] * kind.expansion
            members = []
            for j in range(layers[i]):
                downsample = None
                if j == 0 and (stride != 1 or width != out_width):
                    make = _average_shortcut if avg_down else _convolution_shortcut
                    downsample = make(
                        width, out_width, down_kernel_size, stride, dilation, first_dilation, options.norm
                    )
                members.append(
                    kind(
                        width,
                        channels[i],
                        options,
                        stride=stride if j == 0 else 1,
                        dilation=dilation,
                        first_dilation=first_dilation if j == 0 else dilation,
                        downsample=downsample,
                        drop_path=drop_path_rate * position / max(1, sum(layers) - 1),
                    )
                )
                width = out_width
                position += 1
            setattr(self, stage, Stack(*members))

        self.num_features = width
        self.head_drop = Dropout(drop_rate)
        self.fc = make_head(width, num_classes, head, drop_rate)

    def _set_stem(self, in_chans: int, stem_type: str, stem_width: int, conv_pool: bool, options: _BlockOptions) -> int:
        """Sets ``conv1``, ``bn1``, ``act1`` and ``maxpool``; the stem's output width."""
        first_widths = {
            "": (),
            "deep": (stem_width, stem_width),
            "deep_tiered": (3 * (stem_width // 4), stem_width),
        }
        widths = _choose("stem_type", stem_type, first_widths)
        act = options.act_layer
        self.act1 = Activation(act)
        if widths:
            width = 2 * stem_width
            self.conv1: nnx.Module = Stack(
                _conv3x3(in_chans, widths[0], stride=2),
                options.norm(widths[0]),
                Activation(act),
                _conv3x3(widths[0], widths[1]),
                options.norm(widths[1]),
                Activation(act),
                _conv3x3(widths[1], width),
            )
        else:
            width = 64
            self.conv1 = Conv(in_chans, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = options.norm(width)
        if conv_pool:
            aa = options.anti_aliasing
            strided = [_conv3x3(width, width), aa(2)] if aa else [_conv3x3(width, width, stride=2)]
            self.maxpool: nnx.Module = Stack(*strided, options.norm(width), Activation(act))
        elif options.anti_aliasing is AvgPool:
            self.maxpool = AvgPool(2)
        elif options.anti_aliasing:
            self.maxpool = Stack(MaxPool(3, 1, 1), options.anti_aliasing(2))
        else:
            self.maxpool = MaxPool(3, 2, 1)
        return width

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        head = ("fc",) if self.num_classes else ()
        return super().stage_modules | {"stem": ("conv1", "bn1", "maxpool"), "fc": head}

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "stem":
            return self.maxpool(norm_act(self.bn1, self.act1, self.conv1(x)))
        if name == "fc":
            return self.classify(self.pool(x), rngs)
        return getattr(self, name)(x, rngs)

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        pooled = self.head_drop(pooled, rngs)
        return pooled if self.fc is None else self.fc(pooled, rngs)


def _choose(option: str, value: str, known: dict):
    if value not in known:
        raise InputError(f"{option} is {value!r}{nearest(value, known)}; it can be {', '.join(map(repr, known))}")
    return known[value]


def _convolution_shortcut(
    in_channels: int, out_channels: int, kernel: int, stride: int, dilation: int, first_dilation: int, norm: Callable
) -> Stack:
    if stride == 1 and dilation == 1:
        kernel = 1
    spread = first_dilation if kernel > 1 else 1
    padding = (stride - 1 + spread * (kernel - 1)) // 2
    return EndingInNorm(
        Conv(in_channels, out_channels, kernel, stride=stride, padding=padding, dilation=spread, bias=False),
        norm(out_channels),
    )


def _average_shortcut(
    in_channels: int, out_channels: int, kernel: int, stride: int, dilation: int, first_dilation: int, norm: Callable
) -> Stack:
    if stride == 1 and dilation == 1:
        pool: nnx.Module = Identity()
    elif dilation > 1:
        pool = SamePool2x2()
    else:
        pool = AvgPool(2, stride, ceil_mode=True, count_include_pad=False)
    return EndingInNorm(pool, Conv(in_channels, out_channels, 1, bias=False), norm(out_channels))


_C = {"stem_type": "deep", "stem_width": 32}
_D = {**_C, "avg_down": True}
_S = {"stem_type": "deep"}
_T = {"stem_type": "deep_tiered", "stem_width": 32, "avg_down": True}
_SE = {"attn_layer": "se"}
_ECA = {"attn_layer": "eca"}
_RS = {**_D, **_SE, "rd_ratio": 0.25, "replace_stem_pool": True}


def _basic(*layers: int, **options) -> dict:
    return {"block": "basic", "layers": layers, **options}


def _bottleneck(*layers: int, **options) -> dict:
    return {"block": "bottleneck", "layers": layers, **options}


def _grouped(cardinality: int, base_width: int, *layers: int, **options) -> dict:
    return _bottleneck(*layers, cardinality=cardinality, base_width=base_width, **options)


ARCHITECTURES: dict[str, dict] = {
    "resnet10t": _basic(1, 1, 1, 1, **_T),
    "resnet14t": _bottleneck(1, 1, 1, 1, **_T),
    "resnet18": _basic(2, 2, 2, 2),
    "resnet18d": _basic(2, 2, 2, 2, **_D),
    "resnet26": _bottleneck(2, 2, 2, 2),
    "resnet26d": _bottleneck(2, 2, 2, 2, **_D),
    "resnet26t": _bottleneck(2, 2, 2, 2, **_T),
    "resnet34": _basic(3, 4, 6, 3),
    "resnet34d": _basic(3, 4, 6, 3, **_D),
    "resnet50": _bottleneck(3, 4, 6, 3),
    "resnet50c": _bottleneck(3, 4, 6, 3, **_C),
    "resnet50d": _bottleneck(3, 4, 6, 3, **_D),
    "resnet50s": _bottleneck(3, 4, 6, 3, **_S),
    "resnet50t": _bottleneck(3, 4, 6, 3, **_T),
    "resnet50_gn": _bottleneck(3, 4, 6, 3, norm_layer="groupnorm"),
    "resnet101": _bottleneck(3, 4, 23, 3),
    "resnet101c": _bottleneck(3, 4, 23, 3, **_C),
    "resnet101d": _bottleneck(3, 4, 23, 3, **_D),
    "resnet101s": _bottleneck(3, 4, 23, 3, **_S),
    "resnet152": _bottleneck(3, 8, 36, 3),
    "resnet152c": _bottleneck(3, 8, 36, 3, **_C),
    "resnet152d": _bottleneck(3, 8, 36, 3, **_D),
    "resnet152s": _bottleneck(3, 8, 36, 3, **_S),
    "resnet200": _bottleneck(3, 24, 36, 3),
    "resnet200d": _bottleneck(3, 24, 36, 3, **_D),
    "test_resnet": _D
    | {
        "block": ("basic", "basic", "bottleneck", "basic"),
        "layers": (1, 1, 1, 1),
        "stem_width": 16,
        "channels": (32, 48, 48, 96),
    },
    "wide_resnet50_2": _bottleneck(3, 4, 6, 3, base_width=128),
    "wide_resnet101_2": _bottleneck(3, 4, 23, 3, base_width=128),
    "resnext50_32x4d": _grouped(32, 4, 3, 4, 6, 3),
    "resnext50d_32x4d": _grouped(32, 4, 3, 4, 6, 3, **_D),
    "resnext101_32x4d": _grouped(32, 4, 3, 4, 23, 3),
    "resnext101_32x8d": _grouped(32, 8, 3, 4, 23, 3),
    "resnext101_32x16d": _grouped(32, 16, 3, 4, 23, 3),
    "resnext101_32x32d": _grouped(32, 32, 3, 4, 23, 3),
    "resnext101_64x4d": _grouped(64, 4, 3, 4, 23, 3),
    "seresnet18": _basic(2, 2, 2, 2, **_SE),
    "seresnet34": _basic(3, 4, 6, 3, **_SE),
    "seresnet50": _bottleneck(3, 4, 6, 3, **_SE),
    "seresnet50t": _bottleneck(3, 4, 6, 3, **_T, **_SE),
    "seresnet101": _bottleneck(3, 4, 23, 3, **_SE),
    "seresnet152": _bottleneck(3, 8, 36, 3, **_SE),
    "seresnet152d": _bottleneck(3, 8, 36, 3, **_D, **_SE),
    "seresnet200d": _bottleneck(3, 24, 36, 3, **_D, **_SE),
    "seresnet269d": _bottleneck(3, 30, 48, 8, **_D, **_SE),
    "seresnext26d_32x4d": _grouped(32, 4, 2, 2, 2, 2, **_D, **_SE),
    "seresnext26t_32x4d": _grouped(32, 4, 2, 2, 2, 2, **_T, **_SE),
    "seresnext50_32x4d": _grouped(32, 4, 3, 4, 6, 3, **_SE),
    "seresnext101_32x4d": _grouped(32, 4, 3, 4, 23, 3, **_SE),
    "seresnext101_32x8d": _grouped(32, 8, 3, 4, 23, 3, **_SE),
    "seresnext101_64x4d": _grouped(64, 4, 3, 4, 23, 3, **_SE),
    "seresnext101d_32x8d": _grouped(32, 8, 3, 4, 23, 3, **_D, **_SE),
    "senet154": _grouped(64, 4, 3, 8, 36, 3, **_S, **_SE, down_kernel_size=3, block_reduce_first=2),
    "ecaresnet26t": _bottleneck(2, 2, 2, 2, **_T, **_ECA),
    "ecaresnet50d": _bottleneck(3, 4, 6, 3, **_D, **_ECA),
    "ecaresnet50t": _bottleneck(3, 4, 6, 3, **_T, **_ECA),
    "ecaresnet101d": _bottleneck(3, 4, 23, 3, **_D, **_ECA),
    "ecaresnet200d": _bottleneck(3, 24, 36, 3, **_D, **_ECA),
    "ecaresnet269d": _bottleneck(3, 30, 48, 8, **_D, **_ECA),
    "ecaresnetlight": _bottleneck(1, 1, 11, 3, avg_down=True, **_ECA),
    "ecaresnext26t_32x4d": _grouped(32, 4, 2, 2, 2, 2, **_T, **_ECA),
    "ecaresnext50t_32x4d": _grouped(32, 4, 3, 4, 6, 3, **_T, **_ECA),
    "resnetaa34d": _basic(3, 4, 6, 3, **_D, aa_layer="avg"),
    "resnetaa50": _bottleneck(3, 4, 6, 3, aa_layer="avg"),
    "resnetaa50d": _bottleneck(3, 4, 6, 3, **_D, aa_layer="avg"),
    "resnetaa101d": _bottleneck(3, 4, 23, 3, **_D, aa_layer="avg"),
    "seresnetaa50d": _bottleneck(3, 4, 6, 3, **_D, **_SE, aa_layer="avg"),
    "seresnextaa101d_32x8d": _grouped(32, 8, 3, 4, 23, 3, **_D, **_SE, aa_layer="avg"),
    "seresnextaa201d_32x8d": _grouped(32, 8, 3, 24, 36, 4, **{**_D, "stem_width": 64}, **_SE, aa_layer="avg"),
    "resnetblur18": _basic(2, 2, 2, 2, aa_layer="blur"),
    "resnetblur50": _bottleneck(3, 4, 6, 3, aa_layer="blur"),
    "resnetblur50d": _bottleneck(3, 4, 6, 3, **_D, aa_layer="blur"),
    "resnetblur101d": _bottleneck(3, 4, 23, 3, **_D, aa_layer="blur"),
    "resnetrs50": _bottleneck(3, 4, 6, 3, **_RS),
    "resnetrs101": _bottleneck(3, 4, 23, 3, **_RS),
    "resnetrs152": _bottleneck(3, 8, 36, 3, **_RS),
    "resnetrs200": _bottleneck(3, 24, 36, 3, **_RS),
    "resnetrs270": _bottleneck(4, 29, 53, 4, **_RS),
    "resnetrs350": _bottleneck(4, 36, 72, 4, **_RS),
    "resnetrs420": _bottleneck(4, 44, 87, 4, **_RS),
}

registry.register(ResNet, ARCHITECTURES)
