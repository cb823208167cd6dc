"""EfficientNets and the mobile networks that are built like them, by timm's names.

MobileNet V1 and V2 (https://arxiv.org/abs/1704.04861, https://arxiv.org/abs/1801.04381), MnasNet (https://arxiv.org/abs/1807.11626),
FBNet-C (https://arxiv.org/abs/1812.03443), Single-Path NAS (https://arxiv.org/abs/1904.02877), EfficientNet
(https://arxiv.org/abs/1905.11946), EdgeTPU (https://arxiv.org/abs/2003.02838), CondConv (https://arxiv.org/abs/1904.04971),
MixNet (https://arxiv.org/abs/1907.09595), TinyNet (https://arxiv.org/abs/2010.14819), EfficientNet-X
(https://arxiv.org/abs/2102.05610) and EfficientNetV2 (https://arxiv.org/abs/2104.00298).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.models import registry
from jaxtl.models.attention import GlobalContext
from jaxtl.models.block_strings import Options, decode_stages, make_divisible, resolve
from jaxtl.models.efficientnet_blocks import LayerNormAct, SqueezeExcite, build_block, convolution
from jaxtl.models.evonorm import BatchNormAct, EvoNormS0, GroupNormAct
from jaxtl.models.head import make_head
from jaxtl.models.layers import Activation, Conv, Dropout, Stack
from jaxtl.models.network import Network, find, stages_until
from jaxtl.models.pooling import AvgPool, BlurPool

_NORMS: dict[str, Callable[..., nnx.Module]] = {
    "batchnorm": BatchNormAct,
    "groupnorm": GroupNormAct,
    "layernorm": LayerNormAct,
    "evonorms0": EvoNormS0,
}
_ANTI_ALIASING: dict[str | None, Callable[[int], nnx.Module] | None] = {
    None: None,
    "avg": AvgPool,
    "blur": BlurPool,
    "blurpc": partial(BlurPool, pad_mode="constant"),
}
_HEADS = ("norm", "bias", "plain")


class EfficientNet(Network):
    """The family. Stages: ``stem``, ``blocks.0``, ``blocks.1``, ..., ``conv_head`` where there is one, ``classifier``.

    Args:
        block_strings: for each stage its blocks, separated by spaces; see ``jaxtl.models.block_strings``.
        num_classes, in_chans, until, drop_rate, drop_path_rate, head: see ``jaxtl.models.registry.build``.
        channel_multiplier: of all widths in the block strings.
        depth_multiplier: of the number of blocks, for all stages or for each.
        depth_trunc: ``"ceil"`` or ``"round"``: how that becomes a whole number.
        fix_first_last: leaves the depth of the first and the last stage alone.
        channel_divisor: widths are multiples of it.
        round_limit: part of a width that rounding must leave.
        experts_multiplier: of the experts of conditional convolutions.
        group_size: channels of a group where a block string does not say.
        num_features: width of the convolution at the end; 0: there is none.
        head_layer: what follows it before the activation: ``"norm"``, ``"bias"``, or ``"plain"``, neither.
        stem_size: width of the stem.
        stem_kernel_size: its kernel.
        fix_stem: the multiplier leaves the stem's width alone.
        output_stride: 32, 16 or 8: how much smaller the last feature map is than the image; the strides that fall away
            become dilations, so weights fit all three.
        pad_type: ``""`` for PyTorch's padding, ``"same"`` for TensorFlow's.
        act_layer: a name in ``jaxtl.models.layers.ACTIVATIONS``.
        norm_layer: ``"batchnorm"``, ``"groupnorm"``, ``"layernorm"`` or ``"evonorms0"``.
        norm_group_size: channels of a group for the two of them that have groups.
        bn_eps: what a norm adds to the variance.
        aa_layer: ``None``, ``"avg"``, ``"blur"`` or ``"blurpc"`` (zeros around the edges): what takes the stride behind
            an undivided convolution.
        se_layer: ``"se"`` or ``"gc"``, global context: the channel attention where a block string asks for it.
        se_act: activation in it, the block's own when ``None``.
        se_gate: activation at its end.
        se_round_limit: rounds its narrow width to multiples of eight, within this limit.
        se_from_exp: that width is a part of a block's inside, not of its input.
        layer_scale_init_value: start of a factor for each channel at the end of ``uir`` and ``mqa``; ``None``: none.
    """

    pools_first: ClassVar[bool] = False
    """Whether the convolution at the end sees the pooled features and not the last feature map."""
    head_norm: ClassVar[str] = "bn2"
    """timm's name of that convolution's norm."""

    def __init__(
        self,
        *,
        block_strings: tuple[str, ...],
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        channel_multiplier: float = 1.0,
        depth_multiplier: float | tuple[float, ...] = 1.0,
        depth_trunc: str = "ceil",
        fix_first_last: bool = False,
        channel_divisor: int = 8,
        round_limit: float = 0.9,
        experts_multiplier: int = 1,
        group_size: int | None = None,
        num_features: int = 1280,
        head_layer: str = "norm",
        stem_size: int = 32,
        stem_kernel_size: int = 3,
        fix_stem: bool = False,
        output_stride: int = 32,
        pad_type: str = "",
        act_layer: str = "relu",
        norm_layer: str = "batchnorm",
        norm_group_size: int | None = None,
        bn_eps: float = 1e-5,
        aa_layer: str | None = None,
        se_layer: str = "se",
        se_act: str | None = None,
        se_gate: str = "sigmoid",
        se_round_limit: float | None = None,
        se_from_exp: bool = False,
        layer_scale_init_value: float | None = None,
        head: tuple[int, ...] = (),
    ):
        if output_stride not in (8, 16, 32):
            raise InputError(f"output_stride is {output_stride}; it can be 8, 16 or 32")
        _choose("head_layer", head_layer, dict.fromkeys(_HEADS))
        paddings = {"": None, "same": "same"}
        norm_options: dict[str, Any] = {"eps": bn_eps}
        if norm_group_size:
            norm_options["group_size"] = norm_group_size
        norm = partial(_choose("norm_layer", norm_layer, _NORMS), **norm_options)

        def squeeze_excite(channels: int, ratio: float, act: str) -> nnx.Module:
            narrow = channels * ratio
            limit = se_round_limit
            rounded = round(narrow) if limit is None else make_divisible(narrow, round_limit=limit)
            return SqueezeExcite(channels, rounded, act=se_act or act, gate=se_gate)

        gates = {"se": squeeze_excite, "gc": lambda channels, ratio, act: GlobalContext(channels, ratio, act=act)}
        options = Options(
            act=act_layer,
            norm=norm,
            gate=_choose("se_layer", se_layer, gates),
            anti_aliasing=_choose("aa_layer", aa_layer, _ANTI_ALIASING),
            padding=_choose("pad_type", pad_type, paddings),
            round_width=lambda width: make_divisible(width * channel_multiplier, channel_divisor, round_limit),
            se_from_exp=se_from_exp,
            layer_scale=layer_scale_init_value,
        )
        decoded = decode_stages(
            block_strings,
            depth_multiplier=depth_multiplier,
            depth_trunc=depth_trunc,
            fix_first_last=fix_first_last,
            experts_multiplier=experts_multiplier,
            group_size=group_size,
        )
        body = [f"blocks.{i}" for i in range(len(decoded))] + (["conv_head"] if num_features else [])
        self.num_classes = num_classes
        self.stages = stages_until(("stem", *body, "classifier"), until)

        width = stem_size if fix_stem else options.round_width(stem_size)
        self.conv_stem = convolution(in_chans, width, stem_kernel_size, stride=2, padding=options.padding)
        self.bn1 = norm(width, act_layer)
        stages = []
        for i, blocks in enumerate(
            resolve(decoded, options, output_stride=output_stride, drop_path_rate=drop_path_rate)
        ):
            if f"blocks.{i}" not in self.stages:
                break
            members = []
            for block in blocks:
                members.append(build_block(width, block, options))
                width = block.channels
            stages.append(Stack(*members))
        self.blocks = Stack(*stages)
        if "conv_head" in self.stages:
            self.conv_head = Conv(width, num_features, 1, bias=head_layer == "bias")
            is_norm = head_layer == "norm"
            setattr(self, self.head_norm, norm(num_features, act_layer) if is_norm else Activation(act_layer))
            width = num_features
        self.num_features = width
        self.head_drop = Dropout(drop_rate)
        self.classifier = make_head(width, num_classes, head, drop_rate)

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        own = {"stem": ("conv_stem", "bn1")}
        if "conv_head" in self.stages:
            own["conv_head"] = ("conv_head", self.head_norm)
        return super().stage_modules | own

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "stem":
            return self.bn1(self.conv_stem(x))
        if name == "conv_head":
            if self.pools_first:
                x = x.mean((1, 2), keepdims=True)
            return getattr(self, self.head_norm)(self.conv_head(x))
        if name == "classifier":
            return self.classify(self.pool(x), rngs)
        stage = find(self, name)
        assert isinstance(stage, Stack)
        return stage(x, rngs)

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        pooled = self.head_drop(pooled, rngs)
        return pooled if self.classifier is None else self.classifier(pooled, rngs)


def _choose(option: str, value: Any, known: dict):
    if value not in known:
        raise InputError(
            f"{option} is {value!r}{nearest(str(value), filter(None, known))}; it can be {', '.join(map(repr, known))}"
        )
    return known[value]


_MNAS_A = (
    "ds_r1_k3_s1_e1_c16_noskip",
    "ir_r2_k3_s2_e6_c24",
    "ir_r3_k5_s2_e3_c40_se0.25",
    "ir_r4_k3_s2_e6_c80",
    "ir_r2_k3_s1_e6_c112_se0.25",
    "ir_r3_k5_s2_e6_c160_se0.25",
    "ir_r1_k3_s1_e6_c320",
)
_MNAS_B = (
    "ds_r1_k3_s1_c16_noskip",
    "ir_r3_k3_s2_e3_c24",
    "ir_r3_k5_s2_e3_c40",
    "ir_r3_k5_s2_e6_c80",
    "ir_r2_k3_s1_e6_c96",
    "ir_r4_k5_s2_e6_c192",
    "ir_r1_k3_s1_e6_c320_noskip",
)
_MNAS_SMALL = (
    "ds_r1_k3_s1_c8",
    "ir_r1_k3_s2_e3_c16",
    "ir_r2_k3_s2_e6_c16",
    "ir_r4_k5_s2_e6_c32_se0.25",
    "ir_r3_k3_s1_e6_c32_se0.25",
    "ir_r3_k5_s2_e6_c88_se0.25",
    "ir_r1_k3_s1_e6_c144",
)
_V1 = ("dsa_r1_k3_s1_c64", "dsa_r2_k3_s2_c128", "dsa_r2_k3_s2_c256", "dsa_r6_k3_s2_c512", "dsa_r2_k3_s2_c1024")
_V2 = (
    "ds_r1_k3_s1_c16",
    "ir_r2_k3_s2_e6_c24",
    "ir_r3_k3_s2_e6_c32",
    "ir_r4_k3_s2_e6_c64",
    "ir_r3_k3_s1_e6_c96",
    "ir_r3_k3_s2_e6_c160",
    "ir_r1_k3_s1_e6_c320",
)
_FBNET_C = (
    "ir_r1_k3_s1_e1_c16",
    "ir_r1_k3_s2_e6_c24 ir_r2_k3_s1_e1_c24",
    "ir_r1_k5_s2_e6_c32 ir_r1_k5_s1_e3_c32 ir_r1_k5_s1_e6_c32 ir_r1_k3_s1_e6_c32",
    "ir_r1_k5_s2_e6_c64 ir_r1_k5_s1_e3_c64 ir_r2_k5_s1_e6_c64",
    "ir_r3_k5_s1_e6_c112 ir_r1_k5_s1_e3_c112",
    "ir_r4_k5_s2_e6_c184",
    "ir_r1_k3_s1_e6_c352",
)
_SPNAS = (
    "ds_r1_k3_s1_c16_noskip",
    "ir_r3_k3_s2_e3_c24",
    "ir_r1_k5_s2_e6_c40 ir_r3_k3_s1_e3_c40",
    "ir_r1_k5_s2_e6_c80 ir_r3_k3_s1_e3_c80",
    "ir_r1_k5_s1_e6_c96 ir_r3_k5_s1_e3_c96",
    "ir_r4_k5_s2_e6_c192",
    "ir_r1_k3_s1_e6_c320_noskip",
)
_B = (
    "ds_r1_k3_s1_e1_c16_se0.25",
    "ir_r2_k3_s2_e6_c24_se0.25",
    "ir_r2_k5_s2_e6_c40_se0.25",
    "ir_r3_k3_s2_e6_c80_se0.25",
    "ir_r3_k5_s1_e6_c112_se0.25",
    "ir_r4_k5_s2_e6_c192_se0.25",
    "ir_r1_k3_s1_e6_c320_se0.25",
)
_COND_CONV = (*_B[:4], *(f"{string}_cc4" for string in _B[4:]))
_LITE = tuple(string.removesuffix("_se0.25") for string in _B)
_X = (f"{_B[0]}_d1", "er_r2_k3_s2_e6_c24_se0.25_nre", "er_r2_k5_s2_e6_c40_se0.25_nre", *_B[3:])
_H = (
    f"{_B[0]}_d1",
    "er_r2_k3_s2_e4_c24_se0.25_nre",
    "er_r2_k5_s2_e4_c40_se0.25_nre",
    "ir_r3_k3_s2_e4_c80_se0.25",
    *_B[4:],
)
_EDGE = (
    "er_r1_k3_s1_e4_c24_fc24_noskip",
    "er_r2_k3_s2_e8_c32",
    "er_r4_k3_s2_e8_c48",
    "ir_r5_k5_s2_e8_c96",
    "ir_r4_k5_s1_e8_c144",
    "ir_r2_k5_s2_e8_c192",
)
_V2_BASE = (
    "cn_r1_k3_s1_e1_c16_skip",
    "er_r2_k3_s2_e4_c32",
    "er_r2_k3_s2_e4_c48",
    "ir_r3_k3_s2_e4_c96_se0.25",
    "ir_r5_k3_s1_e6_c112_se0.25",
    "ir_r8_k3_s2_e6_c192_se0.25",
)
_V2_S = (
    "cn_r2_k3_s1_e1_c24_skip",
    "er_r4_k3_s2_e4_c48",
    "er_r4_k3_s2_e4_c64",
    "ir_r6_k3_s2_e4_c128_se0.25",
    "ir_r9_k3_s1_e6_c160_se0.25",
    "ir_r15_k3_s2_e6_c256_se0.25",
)
_V2_RW = ("er_r2_k3_s1_e1_c24", *_V2_S[1:5], "ir_r15_k3_s2_e6_c272_se0.25")
_V2_M = (
    "cn_r3_k3_s1_e1_c24_skip",
    "er_r5_k3_s2_e4_c48",
    "er_r5_k3_s2_e4_c80",
    "ir_r7_k3_s2_e4_c160_se0.25",
    "ir_r14_k3_s1_e6_c176_se0.25",
    "ir_r18_k3_s2_e6_c304_se0.25",
    "ir_r5_k3_s1_e6_c512_se0.25",
)
_V2_L = (
    "cn_r4_k3_s1_e1_c32_skip",
    "er_r7_k3_s2_e4_c64",
    "er_r7_k3_s2_e4_c96",
    "ir_r10_k3_s2_e4_c192_se0.25",
    "ir_r19_k3_s1_e6_c224_se0.25",
    "ir_r25_k3_s2_e6_c384_se0.25",
    "ir_r7_k3_s1_e6_c640_se0.25",
)
_V2_XL = (
    "cn_r4_k3_s1_e1_c32_skip",
    "er_r8_k3_s2_e4_c64",
    "er_r8_k3_s2_e4_c96",
    "ir_r16_k3_s2_e4_c192_se0.25",
    "ir_r24_k3_s1_e6_c256_se0.25",
    "ir_r32_k3_s2_e6_c512_se0.25",
    "ir_r8_k3_s1_e6_c640_se0.25",
)
_MIX_S = (
    "ds_r1_k3_s1_e1_c16",
    "ir_r1_k3_a1.1_p1.1_s2_e6_c24 ir_r1_k3_a1.1_p1.1_s1_e3_c24",
    "ir_r1_k3.5.7_s2_e6_c40_se0.5_nsw ir_r3_k3.5_a1.1_p1.1_s1_e6_c40_se0.5_nsw",
    "ir_r1_k3.5.7_p1.1_s2_e6_c80_se0.25_nsw ir_r2_k3.5_p1.1_s1_e6_c80_se0.25_nsw",
    "ir_r1_k3.5.7_a1.1_p1.1_s1_e6_c120_se0.5_nsw ir_r2_k3.5.7.9_a1.1_p1.1_s1_e3_c120_se0.5_nsw",
    "ir_r1_k3.5.7.9.11_s2_e6_c200_se0.5_nsw ir_r2_k3.5.7.9_p1.1_s1_e6_c200_se0.5_nsw",
)
_MIX_M = (
    "ds_r1_k3_s1_e1_c24",
    "ir_r1_k3.5.7_a1.1_p1.1_s2_e6_c32 ir_r1_k3_a1.1_p1.1_s1_e3_c32",
    "ir_r1_k3.5.7.9_s2_e6_c40_se0.5_nsw ir_r3_k3.5_a1.1_p1.1_s1_e6_c40_se0.5_nsw",
    "ir_r1_k3.5.7_s2_e6_c80_se0.25_nsw ir_r3_k3.5.7.9_a1.1_p1.1_s1_e6_c80_se0.25_nsw",
    "ir_r1_k3_s1_e6_c120_se0.5_nsw ir_r3_k3.5.7.9_a1.1_p1.1_s1_e3_c120_se0.5_nsw",
    "ir_r1_k3.5.7.9_s2_e6_c200_se0.5_nsw ir_r3_k3.5.7.9_p1.1_s1_e6_c200_se0.5_nsw",
)
_EDGETPU = (
    "cn_r1_k1_s1_c16",
    "er_r1_k3_s2_e8_c32 er_r3_k3_s1_e4_c32",
    "er_r1_k3_s2_e8_c48 er_r3_k3_s1_e4_c48",
    "ir_r1_k3_s2_e8_c96 ir_r3_k3_s1_e4_c96",
    "ir_r1_k3_s1_e8_c96_noskip ir_r3_k3_s1_e4_c96",
    "ir_r1_k5_s2_e8_c160 ir_r3_k5_s1_e4_c160",
    "ir_r1_k3_s1_e8_c192",
)
_TEST = (
    "cn_r1_k3_s1_e1_c16_skip",
    "er_r1_k3_s2_e4_c24",
    "er_r1_k3_s2_e4_c32",
    "ir_r1_k3_s2_e4_c48_se0.25",
    "ir_r1_k3_s2_e4_c64_se0.25",
)
_TF = {"bn_eps": 1e-3, "pad_type": "same"}


def _network(strings: tuple[str, ...], width: float = 1.0, **options: Any) -> dict[str, Any]:
    return {"block_strings": strings, "channel_multiplier": width, **options}


def _mobilenet_v1(width: float, **options: Any) -> dict[str, Any]:
    return _network(_V1, width, act_layer="relu6", **{"num_features": 0, **options})


def _mobilenet_v2(width: float, depth: float = 1.0, *, fix: bool = False) -> dict[str, Any]:
    features = 1280 if fix else max(1280, make_divisible(1280 * width))
    depths = {"depth_multiplier": depth, "fix_first_last": fix, "fix_stem": fix}
    return _network(_V2, width, num_features=features, act_layer="relu6", **depths)


def _efficientnet(
    width: float, depth: float, strings: tuple[str, ...] = _B, act: str = "silu", **options: Any
) -> dict[str, Any]:
    features = make_divisible(1280 * width, options.get("channel_divisor", 8))
    return _network(strings, width, depth_multiplier=depth, num_features=features, act_layer=act, **options)


def _lite(width: float, depth: float) -> dict[str, Any]:
    fixed = {"fix_first_last": True, "fix_stem": True}
    return _network(_LITE, width, depth_multiplier=depth, act_layer="relu6", **fixed)


def _v2(strings: tuple[str, ...], width: float = 1.0, **options: Any) -> dict[str, Any]:
    return _network(strings, width, **{"act_layer": "silu", "stem_size": 24, **options})


def _v2_base(width: float, depth: float) -> dict[str, Any]:
    features = make_divisible(1280 * width, round_limit=0.0)
    options = {"depth_multiplier": depth, "num_features": features, "round_limit": 0.0, "stem_size": 32}
    return _v2(_V2_BASE, width, **options)


def _mix_m(width: float, depth: float = 1.0) -> dict[str, Any]:
    return _network(_MIX_M, width, depth_multiplier=depth, depth_trunc="round", num_features=1536, stem_size=24)


def _tinynet(width: float, depth: float) -> dict[str, Any]:
    features = max(1280, make_divisible(1280 * width))
    depths = {"depth_multiplier": depth, "depth_trunc": "round", "fix_stem": True}
    return _network(_B, width, num_features=features, act_layer="silu", **depths)


def _edgetpu_v2(*widths: int, group_size: int = 64, **options: Any) -> dict[str, Any]:
    first, c1, c2, c3, c4, c5, last = widths
    groups = f"gs{group_size}"
    strings = (
        f"cn_r1_k1_s1_c{first}",
        f"er_r1_k3_s2_e8_c{c1} er_r1_k3_s1_e4_{groups}_c{c1}",
        f"er_r1_k3_s2_e8_c{c2} er_r1_k3_s1_e4_{groups}_c{c2} er_r1_k3_s1_e4_c{c2} er_r1_k3_s1_e4_{groups}_c{c2}",
        f"er_r1_k3_s2_e8_c{c3} ir_r3_k3_s1_e4_c{c3}",
        f"ir_r1_k3_s1_e8_c{c4} ir_r3_k3_s1_e4_c{c4}",
        f"ir_r1_k3_s2_e8_c{c5} ir_r3_k3_s1_e4_c{c5}",
        f"ir_r1_k3_s1_e8_c{last}",
    )
    return _network(strings, **{"stem_size": 64, "stem_kernel_size": 5, **options})


def _test(**options: Any) -> dict[str, Any]:
    return _v2(_TEST, num_features=256, round_limit=0.0, **options)


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "mnasnet_050": _network(_MNAS_B, 0.5),
    "mnasnet_075": _network(_MNAS_B, 0.75),
    "mnasnet_100": _network(_MNAS_B),
    "mnasnet_140": _network(_MNAS_B, 1.4),
    "mnasnet_small": _network(_MNAS_SMALL, stem_size=8),
    "semnasnet_050": _network(_MNAS_A, 0.5),
    "semnasnet_075": _network(_MNAS_A, 0.75),
    "semnasnet_100": _network(_MNAS_A),
    "semnasnet_140": _network(_MNAS_A, 1.4),
    "mobilenetv1_100": _mobilenet_v1(1.0),
    "mobilenetv1_100h": _mobilenet_v1(1.0, num_features=1024),
    "mobilenetv1_125": _mobilenet_v1(1.25),
    "mobilenetv2_035": _mobilenet_v2(0.35),
    "mobilenetv2_050": _mobilenet_v2(0.5),
    "mobilenetv2_075": _mobilenet_v2(0.75),
    "mobilenetv2_100": _mobilenet_v2(1.0),
    "mobilenetv2_140": _mobilenet_v2(1.4),
    "mobilenetv2_110d": _mobilenet_v2(1.1, 1.2, fix=True),
    "mobilenetv2_120d": _mobilenet_v2(1.2, 1.4, fix=True),
    "fbnetc_100": _network(
        _FBNET_C, stem_size=16, num_features=1984, bn_eps=1e-3
    ),  # what its weights were trained with
    "spnasnet_100": _network(_SPNAS),
    "efficientnet_b0": _efficientnet(1.0, 1.0),
    "efficientnet_b1": _efficientnet(1.0, 1.1),
    "efficientnet_b2": _efficientnet(1.1, 1.2),
    "efficientnet_b3": _efficientnet(1.2, 1.4),
    "efficientnet_b4": _efficientnet(1.4, 1.8),
    "efficientnet_b5": _efficientnet(1.6, 2.2),
    "efficientnet_b6": _efficientnet(1.8, 2.6),
    "efficientnet_b7": _efficientnet(2.0, 3.1),
    "efficientnet_b8": _efficientnet(2.2, 3.6),
    "efficientnet_l2": _efficientnet(4.3, 5.3),
    "efficientnet_b0_gn": _efficientnet(1.0, 1.0, norm_layer="groupnorm", norm_group_size=8),
    "efficientnet_b0_g8_gn": _efficientnet(1.0, 1.0, group_size=8, norm_layer="groupnorm", norm_group_size=8),
    "efficientnet_b0_g16_evos": _efficientnet(1.0, 1.0, group_size=16, channel_divisor=16),
    "efficientnet_b3_gn": _efficientnet(1.2, 1.4, channel_divisor=16, norm_layer="groupnorm", norm_group_size=16),
    "efficientnet_b3_g8_gn": _efficientnet(
        1.2, 1.4, group_size=8, channel_divisor=16, norm_layer="groupnorm", norm_group_size=16
    ),
    "efficientnet_blur_b0": _efficientnet(1.0, 1.0, aa_layer="blurpc"),
    "efficientnet_es": _efficientnet(1.0, 1.0, _EDGE, "relu"),
    "efficientnet_em": _efficientnet(1.0, 1.1, _EDGE, "relu"),
    "efficientnet_el": _efficientnet(1.2, 1.4, _EDGE, "relu"),
    "efficientnet_cc_b0_4e": _efficientnet(1.0, 1.0, _COND_CONV),
    "efficientnet_cc_b0_8e": _efficientnet(1.0, 1.0, _COND_CONV, experts_multiplier=2),
    "efficientnet_cc_b1_8e": _efficientnet(1.0, 1.1, _COND_CONV, experts_multiplier=2),
    "efficientnet_lite0": _lite(1.0, 1.0),
    "efficientnet_lite1": _lite(1.0, 1.1),
    "efficientnet_lite2": _lite(1.1, 1.2),
    "efficientnet_lite3": _lite(1.2, 1.4),
    "efficientnet_lite4": _lite(1.4, 1.8),
    "efficientnet_x_b3": _efficientnet(1.2, 1.4, _X),
    "efficientnet_x_b5": _efficientnet(1.6, 2.2, _X),
    "efficientnet_h_b5": _efficientnet(1.92, 2.2, _H),
    "efficientnetv2_rw_t": _v2(_V2_S, 0.8, depth_multiplier=0.9, num_features=1024),
    "gc_efficientnetv2_rw_t": _v2(_V2_S, 0.8, depth_multiplier=0.9, num_features=1024, se_layer="gc"),
    "efficientnetv2_rw_s": _v2(_V2_RW, num_features=1792),
    "efficientnetv2_rw_m": _v2(_V2_RW, 1.2, depth_multiplier=(1.2,) * 4 + (1.6,) * 2, num_features=2152),
    "efficientnetv2_s": _v2(_V2_S),
    "efficientnetv2_m": _v2(_V2_M),
    "efficientnetv2_l": _v2(_V2_L, stem_size=32),
    "efficientnetv2_xl": _v2(_V2_XL, stem_size=32),
    "tf_efficientnetv2_b0": _v2_base(1.0, 1.0) | _TF,
    "tf_efficientnetv2_b1": _v2_base(1.0, 1.1) | _TF,
    "tf_efficientnetv2_b2": _v2_base(1.1, 1.2) | _TF,
    "tf_efficientnetv2_b3": _v2_base(1.2, 1.4) | _TF,
    "mixnet_s": _network(_MIX_S, num_features=1536, stem_size=16),
    "mixnet_m": _mix_m(1.0),
    "mixnet_l": _mix_m(1.3),
    "mixnet_xl": _mix_m(1.6, 1.2),
    "mixnet_xxl": _mix_m(2.4, 1.3),
    "tinynet_a": _tinynet(1.0, 1.2),
    "tinynet_b": _tinynet(0.75, 1.1),
    "tinynet_c": _tinynet(0.54, 0.85),
    "tinynet_d": _tinynet(0.54, 0.695),
    "tinynet_e": _tinynet(0.51, 0.6),
    "mobilenet_edgetpu_100": _network(_EDGETPU),
    "mobilenet_edgetpu_v2_xs": _edgetpu_v2(16, 32, 48, 96, 144, 160, 192, stem_size=32, stem_kernel_size=3),
    "mobilenet_edgetpu_v2_s": _edgetpu_v2(24, 48, 64, 128, 160, 192, 256),
    "mobilenet_edgetpu_v2_m": _edgetpu_v2(32, 64, 80, 160, 192, 240, 320, num_features=1344),
    "mobilenet_edgetpu_v2_l": _edgetpu_v2(
        32, 64, 96, 192, 240, 256, 384, group_size=128, stem_kernel_size=7, num_features=1408
    ),
    "test_efficientnet": _test(),
    "test_efficientnet_gn": _test(norm_layer="groupnorm", norm_group_size=8),
    "test_efficientnet_ln": _test(norm_layer="layernorm"),
    "test_efficientnet_evos": _test(norm_layer="evonorms0", norm_group_size=8),
}
_SIZES = (
    "b0",
    "b1",
    "b2",
    "b3",
    "b4",
    "b5",
    "b6",
    "b7",
    "b8",
    "l2",
    "es",
    "em",
    "el",
    "cc_b0_4e",
    "cc_b0_8e",
    "cc_b1_8e",
)
_IN_TENSORFLOW = (
    *(f"efficientnet_{size}" for size in _SIZES),
    *(f"efficientnet_lite{size}" for size in range(5)),
    *(f"efficientnetv2_{size}" for size in ("s", "m", "l", "xl")),
    *(f"mixnet_{size}" for size in ("s", "m", "l")),
)
ARCHITECTURES |= {f"tf_{name}": ARCHITECTURES[name] | _TF for name in _IN_TENSORFLOW}

registry.register(EfficientNet, ARCHITECTURES)
