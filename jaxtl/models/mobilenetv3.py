"""MobileNetV3 and the networks that took over its head, by timm's names.

MobileNetV3 (https://arxiv.org/abs/1905.02244), FBNetV3 (https://arxiv.org/abs/2006.02049), PP-LCNet
(https://arxiv.org/abs/2109.15099) and MobileNetV4 (https://arxiv.org/abs/2404.10518).
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtl.models import registry
from jaxtl.models.efficientnet import EfficientNet


class MobileNetV3(EfficientNet):
    """An ``EfficientNet`` that pools the last feature map before the convolution at the end; stages and keywords are
    the same."""

    pools_first: ClassVar[bool] = True
    head_norm: ClassVar[str] = "norm_head"


_LARGE = (
    "ds_r1_k3_s1_e1_c16_nre",
    "ir_r1_k3_s2_e4_c24_nre ir_r1_k3_s1_e3_c24_nre",
    "ir_r3_k5_s2_e3_c40_se0.25_nre",
    "ir_r1_k3_s2_e6_c80 ir_r1_k3_s1_e2.5_c80 ir_r2_k3_s1_e2.3_c80",
    "ir_r2_k3_s1_e6_c112_se0.25",
    "ir_r3_k5_s2_e6_c160_se0.25",
    "cn_r1_k1_s1_c960",
)
_LARGE_MINIMAL = (
    "ds_r1_k3_s1_e1_c16",
    "ir_r1_k3_s2_e4_c24 ir_r1_k3_s1_e3_c24",
    "ir_r3_k3_s2_e3_c40",
    _LARGE[3],
    "ir_r2_k3_s1_e6_c112",
    "ir_r3_k3_s2_e6_c160",
    "cn_r1_k1_s1_c960",
)
_SMALL = (
    "ds_r1_k3_s2_e1_c16_se0.25_nre",
    "ir_r1_k3_s2_e4.5_c24_nre ir_r1_k3_s1_e3.67_c24_nre",
    "ir_r1_k5_s2_e4_c40_se0.25 ir_r2_k5_s1_e6_c40_se0.25",
    "ir_r2_k5_s1_e3_c48_se0.25",
    "ir_r3_k5_s2_e6_c96_se0.25",
    "cn_r1_k1_s1_c576",
)
_SMALL_MINIMAL = (
    "ds_r1_k3_s2_e1_c16",
    "ir_r1_k3_s2_e4.5_c24 ir_r1_k3_s1_e3.67_c24",
    "ir_r1_k3_s2_e4_c40 ir_r2_k3_s1_e6_c40",
    "ir_r2_k3_s1_e3_c48",
    "ir_r3_k3_s2_e6_c96",
    "cn_r1_k1_s1_c576",
)
_FBNET_B = (
    "ds_r2_k3_s1_e1_c16",
    "ir_r1_k5_s2_e4_c24 ir_r3_k5_s1_e2_c24",
    "ir_r1_k5_s2_e5_c40_se0.25 ir_r4_k5_s1_e3_c40_se0.25",
    "ir_r1_k5_s2_e5_c72 ir_r4_k3_s1_e3_c72",
    "ir_r1_k3_s1_e5_c120_se0.25 ir_r5_k5_s1_e3_c120_se0.25",
    "ir_r1_k3_s2_e6_c184_se0.25 ir_r5_k5_s1_e4_c184_se0.25 ir_r1_k5_s1_e6_c224_se0.25",
    "cn_r1_k1_s1_c1344",
)
_FBNET_D = (
    "ds_r2_k3_s1_e1_c16",
    "ir_r1_k3_s2_e5_c24 ir_r5_k3_s1_e2_c24",
    "ir_r1_k5_s2_e4_c40_se0.25 ir_r4_k3_s1_e3_c40_se0.25",
    "ir_r1_k3_s2_e5_c72 ir_r4_k3_s1_e3_c72",
    "ir_r1_k3_s1_e5_c128_se0.25 ir_r6_k5_s1_e3_c128_se0.25",
    "ir_r1_k3_s2_e6_c208_se0.25 ir_r5_k5_s1_e5_c208_se0.25 ir_r1_k5_s1_e6_c240_se0.25",
    "cn_r1_k1_s1_c1440",
)
_FBNET_G = (
    "ds_r3_k3_s1_e1_c24",
    "ir_r1_k5_s2_e4_c40 ir_r4_k5_s1_e2_c40",
    "ir_r1_k5_s2_e4_c56_se0.25 ir_r4_k5_s1_e3_c56_se0.25",
    "ir_r1_k5_s2_e5_c104 ir_r4_k3_s1_e3_c104",
    "ir_r1_k3_s1_e5_c160_se0.25 ir_r8_k5_s1_e3_c160_se0.25",
    "ir_r1_k3_s2_e6_c264_se0.25 ir_r6_k5_s1_e5_c264_se0.25 ir_r2_k5_s1_e6_c288_se0.25",
    "cn_r1_k1_s1_c1728",
)
_LCNET = (
    "dsa_r1_k3_s1_c32",
    "dsa_r2_k3_s2_c64",
    "dsa_r2_k3_s2_c128",
    "dsa_r1_k3_s2_c256 dsa_r1_k5_s1_c256",
    "dsa_r4_k5_s1_c256",
    "dsa_r2_k5_s2_c512_se0.25",
)
_V4_SMALL = (
    "cn_r1_k3_s2_e1_c32 cn_r1_k1_s1_e1_c32",
    "cn_r1_k3_s2_e1_c96 cn_r1_k1_s1_e1_c64",
    "uir_r1_a5_k5_s2_e3_c96 uir_r4_a0_k3_s1_e2_c96 uir_r1_a3_k0_s1_e4_c96",
    "uir_r1_a3_k3_s2_e6_c128 uir_r1_a5_k5_s1_e4_c128 uir_r1_a0_k5_s1_e4_c128 uir_r1_a0_k5_s1_e3_c128 "
    "uir_r2_a0_k3_s1_e4_c128",
    "cn_r1_k1_s1_c960",
)
_V4_MEDIUM = (
    "er_r1_k3_s2_e4_c48",
    "uir_r1_a3_k5_s2_e4_c80 uir_r1_a3_k3_s1_e2_c80",
    "uir_r1_a3_k5_s2_e6_c160 uir_r2_a3_k3_s1_e4_c160 uir_r1_a3_k5_s1_e4_c160 uir_r1_a3_k3_s1_e4_c160 "
    "uir_r1_a3_k0_s1_e4_c160 uir_r1_a0_k0_s1_e2_c160 uir_r1_a3_k0_s1_e4_c160",
    "uir_r1_a5_k5_s2_e6_c256 uir_r1_a5_k5_s1_e4_c256 uir_r2_a3_k5_s1_e4_c256 uir_r1_a0_k0_s1_e4_c256 "
    "uir_r1_a3_k0_s1_e4_c256 uir_r1_a3_k5_s1_e2_c256 uir_r1_a5_k5_s1_e4_c256 uir_r2_a0_k0_s1_e4_c256 "
    "uir_r1_a5_k0_s1_e2_c256",
    "cn_r1_k1_s1_c960",
)
_V4_LARGE = (
    "er_r1_k3_s2_e4_c48",
    "uir_r1_a3_k5_s2_e4_c96 uir_r1_a3_k3_s1_e4_c96",
    "uir_r1_a3_k5_s2_e4_c192 uir_r3_a3_k3_s1_e4_c192 uir_r1_a3_k5_s1_e4_c192 uir_r5_a5_k3_s1_e4_c192 "
    "uir_r1_a3_k0_s1_e4_c192",
    "uir_r4_a5_k5_s2_e4_c512 uir_r1_a5_k0_s1_e4_c512 uir_r1_a5_k3_s1_e4_c512 uir_r2_a5_k0_s1_e4_c512 "
    "uir_r1_a5_k3_s1_e4_c512 uir_r1_a5_k5_s1_e4_c512 uir_r3_a5_k0_s1_e4_c512",
    "cn_r1_k1_s1_c960",
)
_V4_HYBRID_MEDIUM = (
    *_V4_MEDIUM[:2],
    "uir_r1_a3_k5_s2_e6_c160 uir_r1_a0_k0_s1_e2_c160 uir_r1_a3_k3_s1_e4_c160 uir_r1_a3_k5_s1_e4_c160 "
    "mqa_r1_k3_h4_s1_v2_d64_c160 uir_r1_a3_k3_s1_e4_c160 mqa_r1_k3_h4_s1_v2_d64_c160 uir_r1_a3_k0_s1_e4_c160 "
    "mqa_r1_k3_h4_s1_v2_d64_c160 uir_r1_a3_k3_s1_e4_c160 mqa_r1_k3_h4_s1_v2_d64_c160 uir_r1_a3_k0_s1_e4_c160",
    "uir_r1_a5_k5_s2_e6_c256 uir_r1_a5_k5_s1_e4_c256 uir_r2_a3_k5_s1_e4_c256 uir_r1_a0_k0_s1_e2_c256 "
    "uir_r1_a3_k5_s1_e2_c256 uir_r1_a0_k0_s1_e2_c256 uir_r1_a0_k0_s1_e4_c256 mqa_r1_k3_h4_s1_d64_c256 "
    "uir_r1_a3_k0_s1_e4_c256 mqa_r1_k3_h4_s1_d64_c256 uir_r1_a5_k5_s1_e4_c256 mqa_r1_k3_h4_s1_d64_c256 "
    "uir_r1_a5_k0_s1_e4_c256 mqa_r1_k3_h4_s1_d64_c256 uir_r1_a5_k0_s1_e4_c256",
    "cn_r1_k1_s1_c960",
)
_V4_HYBRID_LARGE = (
    *_V4_LARGE[:2],
    "uir_r1_a3_k5_s2_e4_c192 uir_r3_a3_k3_s1_e4_c192 uir_r1_a3_k5_s1_e4_c192 uir_r2_a5_k3_s1_e4_c192 "
    + "mqa_r1_k3_h8_s1_v2_d48_c192 uir_r1_a5_k3_s1_e4_c192 " * 3
    + "mqa_r1_k3_h8_s1_v2_d48_c192 uir_r1_a3_k0_s1_e4_c192",
    "uir_r4_a5_k5_s2_e4_c512 uir_r1_a5_k0_s1_e4_c512 uir_r1_a5_k3_s1_e4_c512 uir_r2_a5_k0_s1_e4_c512 "
    "uir_r1_a5_k3_s1_e4_c512 uir_r1_a5_k5_s1_e4_c512" + " mqa_r1_k3_h8_s1_d64_c512 uir_r1_a5_k0_s1_e4_c512" * 4,
    "cn_r1_k1_s1_c960",
)
_TF = {"bn_eps": 1e-3, "pad_type": "same"}


def _network(strings: tuple[str, ...], width: float = 1.0, **options: Any) -> dict[str, Any]:
    usual = {"stem_size": 16, "se_from_exp": True, "se_gate": "hard_sigmoid", "act_layer": "hard_swish"}
    return {"block_strings": strings, "channel_multiplier": width, "head_layer": "bias"} | usual | options


def _v3(strings: tuple[str, ...], width: float, **options: Any) -> dict[str, Any]:
    squeeze = {"se_act": "relu", "se_round_limit": 0.9}
    features = 1024 if strings in (_SMALL, _SMALL_MINIMAL) else 1280
    return _network(strings, width, num_features=features, fix_stem=width < 0.75, **squeeze, **options)


def _fbnet(strings: tuple[str, ...], stem_size: int) -> dict[str, Any]:
    squeeze: dict[str, Any] = {"se_from_exp": False, "se_round_limit": 0.95}
    options: dict[str, Any] = {"stem_size": stem_size, "num_features": 1984, "head_layer": "plain", "round_limit": 0.95}
    return _network(strings, **options, **squeeze)


def _lcnet(width: float) -> dict[str, Any]:
    return _network(_LCNET, width, se_act="relu")


def _v4(strings: tuple[str, ...], width: float = 1.0, **options: Any) -> dict[str, Any]:
    usual = {"stem_size": 32, "act_layer": "relu", "head_layer": "norm", "fix_stem": width < 1}
    return _network(strings, width, **{**usual, **options})


_LARGE_STEM = {"stem_size": 24}
_HYBRID = {"layer_scale_init_value": 1e-5}
_HYBRID_LARGE: dict[str, Any] = {**_LARGE_STEM, **_HYBRID, "act_layer": "gelu"}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "mobilenetv3_large_075": _v3(_LARGE, 0.75),
    "mobilenetv3_large_100": _v3(_LARGE, 1.0),
    "mobilenetv3_large_150d": _v3(_LARGE, 1.5, depth_multiplier=1.2),
    "mobilenetv3_small_050": _v3(_SMALL, 0.5),
    "mobilenetv3_small_075": _v3(_SMALL, 0.75),
    "mobilenetv3_small_100": _v3(_SMALL, 1.0),
    "mobilenetv3_rw": _network((f"{_LARGE[0]}_noskip", *_LARGE[1:]), head_layer="plain", bn_eps=1e-3),
    "tf_mobilenetv3_large_075": _v3(_LARGE, 0.75, **_TF),
    "tf_mobilenetv3_large_100": _v3(_LARGE, 1.0, **_TF),
    "tf_mobilenetv3_large_minimal_100": _v3(_LARGE_MINIMAL, 1.0, act_layer="relu", **_TF),
    "tf_mobilenetv3_small_075": _v3(_SMALL, 0.75, **_TF),
    "tf_mobilenetv3_small_100": _v3(_SMALL, 1.0, **_TF),
    "tf_mobilenetv3_small_minimal_100": _v3(_SMALL_MINIMAL, 1.0, act_layer="relu", **_TF),
    "fbnetv3_b": _fbnet(_FBNET_B, 16),
    "fbnetv3_d": _fbnet(_FBNET_D, 24),
    "fbnetv3_g": _fbnet(_FBNET_G, 32),
    "lcnet_035": _lcnet(0.35),
    "lcnet_050": _lcnet(0.5),
    "lcnet_075": _lcnet(0.75),
    "lcnet_100": _lcnet(1.0),
    "lcnet_150": _lcnet(1.5),
    "mobilenetv4_conv_small_035": _v4(_V4_SMALL, 0.35),
    "mobilenetv4_conv_small_050": _v4(_V4_SMALL, 0.5),
    "mobilenetv4_conv_small": _v4(_V4_SMALL),
    "mobilenetv4_conv_medium": _v4(_V4_MEDIUM),
    "mobilenetv4_conv_large": _v4(_V4_LARGE, **_LARGE_STEM),
    "mobilenetv4_conv_aa_medium": _v4(_V4_MEDIUM, aa_layer="avg"),
    "mobilenetv4_conv_blur_medium": _v4(_V4_MEDIUM, aa_layer="blurpc"),
    "mobilenetv4_conv_aa_large": _v4(_V4_LARGE, **_LARGE_STEM, aa_layer="avg"),
    "mobilenetv4_hybrid_medium_075": _v4(_V4_HYBRID_MEDIUM, 0.75, **_HYBRID),
    "mobilenetv4_hybrid_medium": _v4(_V4_HYBRID_MEDIUM, **_HYBRID),
    "mobilenetv4_hybrid_large_075": _v4(_V4_HYBRID_LARGE, 0.75, **_HYBRID_LARGE),
    "mobilenetv4_hybrid_large": _v4(_V4_HYBRID_LARGE, **_HYBRID_LARGE),
}

registry.register(MobileNetV3, ARCHITECTURES)
