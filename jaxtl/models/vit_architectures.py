"""The vision transformers of timm's modules ``vision_transformer`` and ``deit``: keywords for ``VisionTransformer``.

A name says most of them: ``vit_base_patch16_clip_224`` has the width of "base", patches of 16 pixels and images of 224.
"""

from __future__ import annotations

import re
from typing import Any

_SIZES: dict[str, tuple[int, int, int]] = {  # name in timm: (embed_dim, depth, num_heads)
    "tiny": (192, 12, 3),
    "xsmall": (256, 10, 4),
    "wee": (256, 14, 4),
    "dwee": (256, 14, 4),
    "pwee": (256, 16, 4),
    "dpwee": (256, 16, 4),
    "little": (320, 14, 5),
    "dlittle": (320, 14, 5),
    "small": (384, 12, 6),
    "medium": (512, 12, 8),
    "mediumd": (512, 20, 8),
    "betwixt": (640, 12, 10),
    "base": (768, 12, 12),
    "so150m": (896, 18, 14),
    "so150m2": (832, 21, 13),
    "large": (1024, 24, 16),
    "intern300m": (1024, 24, 16),
    "so400m": (1152, 27, 16),
    "huge": (1280, 32, 16),
    "giant": (1408, 40, 16),
    "giantopt": (1536, 40, 16),
    "gigantic": (1664, 48, 16),
}
_MLP_RATIOS = {
    "wee": 5.0,
    "dwee": 5.0,
    "pwee": 5.0,
    "dpwee": 5.0,
    "little": 5.6,
    "dlittle": 5.6,
    "so150m": 2.572,
    "so150m2": 34 / 13,
    "so400m": 3.7362,
    "giant": 48 / 11,
    "gigantic": 64 / 13,
}


def _members(names: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Architectures with the same keywords but for what their names say; ``options`` win over the names."""
    return {name: {**_said(name), **options} for name in names.split()}


def _said(name: str) -> dict[str, Any]:
    size = next((part for part in name.split("_") if part in _SIZES), "base")
    said: dict[str, Any] = dict(zip(("embed_dim", "depth", "num_heads"), _SIZES[size], strict=True))
    if size in _MLP_RATIOS:
        said["mlp_ratio"] = _MLP_RATIOS[size]
    if patch := re.search(r"_patch(\d+)", name):
        said["patch_size"] = int(patch[1])
    if img := re.search(r"_(\d{3})$", name):
        said["img_size"] = int(img[1])
    return said


_AVERAGE = {"class_token": False, "global_pool": "avg"}
_GAP = {**_AVERAGE, "fc_norm": False}
_MAP = {"class_token": False, "global_pool": "map"}
_REGISTERS = {**_AVERAGE, "init_values": 1e-5, "no_embed_class": True}
_CLIP = {"pre_norm": True, "norm_eps": 1e-5}
_QUICK = {**_CLIP, "act_layer": "quick_gelu"}
_DINO_V2 = {"img_size": 518, "init_values": 1e-5, "num_classes": 0}
_DINO_V2_REG4 = {**_DINO_V2, "reg_tokens": 4, "no_embed_class": True}
_TIPS_V2 = {"img_size": 448, "init_values": 1.0, "reg_tokens": 1, "no_embed_class": True, "num_classes": 0}
_GATED_GIANT: dict[str, Any] = {
    "embed_dim": 1536,
    "num_heads": 24,
    "mlp_ratio": 5.33334,
    "mlp_layer": "swiglu_packed",
    "act_layer": "silu",
}
_PARALLEL = {
    "pre_norm": True,
    "no_embed_class": True,
    "norm_layer": "rmsnorm",
    "block_fn": "parallel_scaling",
    "qkv_bias": False,
    "qk_norm": True,
}
_RADIO: dict[str, Any] = {
    "img_size": 512,
    "no_embed_class": True,
    "final_norm": False,
    "num_classes": 0,
    "resize": "bilinear",
}
_RADIO_V3 = {**_RADIO, "reg_tokens": 7}
_RADIO_V4 = {**_RADIO, "reg_tokens": 9}
_BEIT3 = {"scale_attn_norm": True, "scale_mlp_norm": True, "global_pool": "avg", "norm_eps": 1e-5}
_AIM_V2 = {
    **_GAP,
    "depth": 24,
    "qkv_bias": False,
    "proj_bias": False,
    "act_layer": "silu",
    "norm_layer": "rmsnorm",
    "norm_eps": 1e-5,
    "embed_norm": True,
    "mlp_layer": "swiglu",
    "num_classes": 0,
}
_DEIT3 = {"no_embed_class": True, "init_values": 1e-6}
_TEST = {"embed_dim": 64, "num_heads": 2, "mlp_ratio": 3.0, "img_size": 160}
_TEST_WIDE = {**_TEST, "embed_dim": 96, "num_heads": 3, "depth": 9}


def _aim_v2(size: str, embed_dim: int, num_heads: int, mlp_ratio: float) -> dict[str, dict[str, Any]]:
    names = " ".join(f"aimv2_{size}_patch14_{side}" for side in (224, 336, 448))
    return _members(names, **_AIM_V2, embed_dim=embed_dim, num_heads=num_heads, mlp_ratio=mlp_ratio)


_PLAIN = {
    **_members(
        "vit_tiny_patch16_224 vit_tiny_patch16_384 vit_small_patch32_224 vit_small_patch32_384 vit_small_patch16_224 "
        "vit_small_patch16_384 vit_base_patch32_224 vit_base_patch32_384 vit_base_patch16_224 vit_base_patch16_384 "
        "vit_base_patch8_224 vit_large_patch32_384 vit_large_patch16_224 vit_large_patch16_384 vit_large_patch14_224 "
        "vit_giant_patch14_224 vit_gigantic_patch14_224"
    ),
    **_members("vit_small_patch8_224 vit_large_patch32_224 vit_huge_patch14_224", num_classes=0),
    **_members("vit_base_patch16_224_miil", img_size=224, qkv_bias=False, num_classes=11221),
    **_members("vit_base_patch32_plus_256 vit_base_patch16_plus_240", embed_dim=896, num_heads=14, init_values=1e-5),
    **_members("eva_large_patch14_196 eva_large_patch14_336", global_pool="avg"),
    **_members("flexivit_small flexivit_base flexivit_large", img_size=240, no_embed_class=True, resize="bilinear"),
    **_members("vit_intern300m_patch14_448", init_values=0.1, final_norm=False, num_classes=0),
    **_members("test_vit", **_TEST, depth=6),
    **_members("test_vit2", **_TEST, **_AVERAGE, depth=8, reg_tokens=1, init_values=1e-5),
    **_members(
        "test_vit3",
        **{**_TEST_WIDE, "mlp_ratio": 2.0},
        **_MAP,
        reg_tokens=1,
        pool_include_prefix=True,
        init_values=1e-5,
    ),
    **_members("test_vit4", **_TEST_WIDE, **_AVERAGE, reg_tokens=1, init_values=1e-5, norm_layer="rmsnorm"),
}
_OTHER_BLOCKS = {
    **_members("vit_base_patch16_rpn_224", **_AVERAGE, qkv_bias=False, init_values=1e-5, block_fn="res_post"),
    **_members("vit_small_patch16_36x1_224", depth=36, init_values=1e-5),
    **_members(
        "vit_small_patch16_18x2_224 vit_base_patch16_18x2_224", depth=18, init_values=1e-5, block_fn="parallel_things"
    ),
    **_members("vit_base_patch16_xp_224 vit_large_patch14_xp_224 vit_huge_patch14_xp_224", **_PARALLEL),
}
_AVERAGED = {
    **_members(
        "vit_medium_patch16_gap_256 vit_medium_patch16_gap_384 vit_betwixt_patch16_gap_256",
        **_GAP,
        qkv_bias=False,
        init_values=1e-6,
    ),
    **_members("vit_medium_patch16_gap_240", **_GAP, qkv_bias=False, init_values=1e-6, num_classes=11821),
    **_members("vit_base_patch16_gap_224", **_GAP, num_heads=16),
    **_members("vit_huge_patch14_gap_224 vit_huge_patch16_gap_448 vit_giant_patch16_gap_224", **_GAP, num_classes=0),
    **_members(
        "vit_wee_patch16_reg1_gap_256 vit_little_patch16_reg1_gap_256 vit_medium_patch16_reg1_gap_256 "
        "vit_betwixt_patch16_reg1_gap_256",
        **_REGISTERS,
        reg_tokens=1,
    ),
    **_members(
        "vit_little_patch16_reg4_gap_256 vit_medium_patch16_reg4_gap_256 vit_mediumd_patch16_reg4_gap_256 "
        "vit_mediumd_patch16_reg4_gap_384 vit_betwixt_patch16_reg4_gap_256 vit_betwixt_patch16_reg4_gap_384",
        **_REGISTERS,
        reg_tokens=4,
    ),
    **_members("vit_base_patch16_reg4_gap_256", **_AVERAGE, no_embed_class=True, reg_tokens=4),
    **_members("vit_pwee_patch16_reg1_gap_256", **_REGISTERS, reg_tokens=1, block_fn="parallel_scaling"),
    **_members("vit_dpwee_patch16_reg1_gap_256", **_REGISTERS, reg_tokens=1, block_fn="diff_parallel_scaling"),
    **_members(
        "vit_dwee_patch16_reg1_gap_256 vit_dlittle_patch16_reg1_gap_256", **_REGISTERS, reg_tokens=1, attn_layer="diff"
    ),
    **_members("vit_so150m_patch16_reg4_gap_256 vit_so150m_patch16_reg4_gap_384", **_GAP, reg_tokens=4),
    **_members("vit_so150m_patch16_reg4_map_256", **_MAP, reg_tokens=4),
    **_members(
        "vit_so150m2_patch16_reg1_gap_256 vit_so150m2_patch16_reg1_gap_384 vit_so150m2_patch16_reg1_gap_448",
        **_AVERAGE,
        reg_tokens=1,
        qkv_bias=False,
        init_values=1e-5,
    ),
}
_CLIPS = {
    **_members(
        "vit_base_patch32_clip_224 vit_base_patch32_clip_384 vit_base_patch32_clip_448 vit_base_patch16_clip_224 "
        "vit_base_patch16_clip_384 vit_large_patch14_clip_224 vit_large_patch14_clip_336 vit_huge_patch14_clip_224 "
        "vit_huge_patch14_clip_336",
        **_CLIP,
    ),
    **_members(
        "vit_xsmall_patch16_clip_224 vit_medium_patch32_clip_224 vit_medium_patch16_clip_224 "
        "vit_betwixt_patch32_clip_224 vit_base_patch32_clip_256",
        **_CLIP,
        num_classes=512,
    ),
    **_members("vit_base_patch16_plus_clip_240", **_CLIP, embed_dim=896, num_heads=14, num_classes=640),
    **_members("vit_huge_patch14_clip_378 vit_giant_patch14_clip_224", **_CLIP, num_classes=1024),
    **_members("vit_gigantic_patch14_clip_224 vit_gigantic_patch14_clip_378", **_CLIP, num_classes=1280),
    **_members("vit_base_patch32_clip_quickgelu_224 vit_base_patch16_clip_quickgelu_224", **_QUICK, num_classes=512),
    **_members("vit_large_patch14_clip_quickgelu_224 vit_large_patch14_clip_quickgelu_336", **_QUICK, num_classes=768),
    **_members("vit_huge_patch14_clip_quickgelu_224 vit_huge_patch14_clip_quickgelu_378", **_QUICK, num_classes=1024),
    **_members("vit_gigantic_patch14_clip_quickgelu_224", **_QUICK, num_classes=1280),
}
_SIGLIPS = {
    name.replace("_siglip", f"_siglip{infix}"): {**options, **pooling, "num_classes": 0}
    for infix, pooling in (("", _MAP), ("_gap", _GAP))
    for name, options in {
        **_members(
            "vit_base_patch16_siglip_224 vit_base_patch16_siglip_256 vit_base_patch16_siglip_384 "
            "vit_base_patch16_siglip_512 vit_large_patch16_siglip_256 vit_large_patch16_siglip_384 "
            "vit_so400m_patch14_siglip_224 vit_so400m_patch14_siglip_378 vit_so400m_patch14_siglip_384"
        ),
        **_members(
            "vit_base_patch32_siglip_256 vit_large_patch16_siglip_512 vit_so400m_patch16_siglip_256 "
            "vit_so400m_patch16_siglip_384 vit_so400m_patch16_siglip_512 vit_giantopt_patch16_siglip_256 "
            "vit_giantopt_patch16_siglip_384",
            act_layer="gelu_tanh",
        ),
    }.items()
} | _members("vit_so400m_patch14_siglip_gap_448 vit_so400m_patch14_siglip_gap_896", **_GAP, num_classes=0)
_SELF_SUPERVISED = {
    **_members("vit_small_patch14_dinov2 vit_base_patch14_dinov2 vit_large_patch14_dinov2", **_DINO_V2),
    **_members("vit_giant_patch14_dinov2", **_DINO_V2, **_GATED_GIANT),
    **_members(
        "vit_small_patch14_reg4_dinov2 vit_base_patch14_reg4_dinov2 vit_large_patch14_reg4_dinov2", **_DINO_V2_REG4
    ),
    **_members("vit_giant_patch14_reg4_dinov2", **_DINO_V2_REG4, **_GATED_GIANT),
    **_members("vit_base_patch14_reg1_tipsv2 vit_large_patch14_reg1_tipsv2", **_TIPS_V2),
    **_members("vit_so400m_patch14_reg1_tipsv2", **_TIPS_V2, mlp_ratio=4304 / 1152),
    **_members("vit_giant_patch14_reg1_tipsv2", **_TIPS_V2, **_GATED_GIANT),
    **_members("vit_base_patch16_radio_v3", **{**_RADIO_V3, "resize": "bilinear_corners"}, init_values=1e-5),
    **_members("vit_large_patch16_radio_v3", **_RADIO_V3, init_values=1e-5),
    **_members("vit_huge_patch16_radio_v3", **{**_RADIO_V3, "resize": "bilinear_corners"}),
    **_members("vit_giant_patch16_radio_v3", **_RADIO_V3, embed_dim=1536, num_heads=24, mlp_ratio=4.0),
    **_members("vit_so400m_patch16_radio_v4", **_RADIO_V4, mlp_ratio=4304 / 1152),
    **_members("vit_huge_patch16_radio_v4", **_RADIO_V4),
    **_members("beit3_base_patch16_224 beit3_large_patch16_224", **_BEIT3),
    **_members("beit3_giant_patch14_224 beit3_giant_patch14_336", **_BEIT3, mlp_ratio=4.3637),
    **_aim_v2("large", 1024, 8, 2.75),
    **_aim_v2("huge", 1536, 12, 2.6667),
    **_aim_v2("1b", 2048, 16, 2.75),
    **_aim_v2("3b", 3072, 24, 2.6667),
}
_DEITS = {
    **_members("deit_tiny_patch16_224 deit_small_patch16_224 deit_base_patch16_224 deit_base_patch16_384"),
    **_members(
        "deit_tiny_distilled_patch16_224 deit_small_distilled_patch16_224 deit_base_distilled_patch16_224 "
        "deit_base_distilled_patch16_384",
        distilled=True,
    ),
    **_members(
        "deit3_small_patch16_224 deit3_small_patch16_384 deit3_medium_patch16_224 deit3_base_patch16_224 "
        "deit3_base_patch16_384 deit3_large_patch16_224 deit3_large_patch16_384 deit3_huge_patch14_224",
        **_DEIT3,
    ),
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    **_PLAIN,
    **_OTHER_BLOCKS,
    **_AVERAGED,
    **_CLIPS,
    **_SIGLIPS,
    **_SELF_SUPERVISED,
    **_DEITS,
}
