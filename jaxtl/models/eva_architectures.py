"""The architectures of ``jaxtl.models.eva``: timm's names and what each is built with."""

from __future__ import annotations

from typing import Any

_Options = dict[str, Any]

_TINY: _Options = {"embed_dim": 192, "num_heads": 3}
_SMALL: _Options = {"embed_dim": 384, "num_heads": 6}
_BASE: _Options = {"embed_dim": 768, "num_heads": 12}
_LARGE: _Options = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
_HUGE: _Options = {"embed_dim": 1280, "depth": 32, "num_heads": 20}
_GIANT: _Options = {"embed_dim": 1536, "depth": 40, "num_heads": 24}
_SIZES = {"small": _SMALL, "base": _BASE, "large": _LARGE}

_EVA: _Options = {"patch_size": 14, "embed_dim": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 6144 / 1408}
_EVA02: _Options = {
    "patch_size": 14,
    "mlp_ratio": 4 * 2 / 3,
    "swiglu_mlp": True,
    "use_rot_pos_emb": True,
    "ref_feat_shape": 16,
}
_EVA02_NORMS: _Options = _EVA02 | {"qkv_fused": False, "scale_mlp": True}
_EVA02_CLIP: _Options = _EVA02_NORMS | {"scale_attn_inner": True, "global_pool": "token"}
_REGISTERS: _Options = {
    "img_size": 256,
    "init_values": 1e-5,
    "class_token": False,
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "ref_feat_shape": 16,
}


def _perception(size: _Options, patch_size: int, img_size: int, **more: Any) -> _Options:
    """Perception Encoders: positions both learnt and rotary, the latter counted from 1 where there is a class token."""
    offset = {"rope_grid_offset": 1.0} if more.get("class_token", True) else {}
    return {
        **size,
        "patch_size": patch_size,
        "img_size": img_size,
        "attn_type": "rope",
        "use_pre_transformer_norm": True,
        "use_rot_pos_emb": True,
        "ref_feat_shape": img_size // patch_size,
        "rope_grid_indexing": "xy",
        "norm_eps": 1e-5,
        **offset,
        **more,
    }


_PE_CORE: _Options = {"global_pool": "map", "attn_pool_num_heads": 8, "attn_pool_mlp_ratio": 4.0}
_PE_PLAIN: _Options = {"use_post_transformer_norm": False, "use_fc_norm": False, "num_classes": 0}
_PE_SCALED: _Options = _PE_PLAIN | {"init_values": 0.1}
_PE_GIGANTIC: _Options = {"embed_dim": 1536, "num_heads": 16, "mlp_ratio": 8960 / 1536, "class_token": False}


def _rope_vits() -> dict[str, _Options]:
    """RoPE-ViT: with fixed or learnt ("mixed") frequencies, without or with learnt positions ("ape")."""
    table = {}
    for size, options in _SIZES.items():
        for mixed in (False, True):
            for ape in (False, True):
                rope = {"rope_type": "mixed", "rope_temperature": 10.0} if mixed else {"rope_temperature": 100.0}
                positions = {"no_embed_class": True} if ape else {"use_abs_pos_emb": False}
                name = f"vit_{size}_patch16_rope{'_mixed' * mixed}{'_ape' * ape}_224"
                table[name] = {
                    **options,
                    "attn_type": "rope",
                    "init_values": 1e-5,
                    "global_pool": "token",
                    "use_rot_pos_emb": True,
                    "rope_grid_indexing": "xy",
                    **rope,
                    **positions,
                }
    return table


_DINOV3: _Options = {
    "img_size": 256,
    "init_values": 1e-5,
    "rope_type": "dinov3",
    "rope_temperature": 100.0,
    "rope_rotate_half": True,
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "num_reg_tokens": 4,
    "use_fc_norm": False,
    "norm_eps": 1e-5,
    "num_classes": 0,
}
_PLUS: _Options = {"swiglu_mlp": True, "swiglu_align_to": 8}
_LINGBOT: _Options = _DINOV3 | {"img_size": 512, "global_pool": "token"}


def _dinov3() -> dict[str, _Options]:
    """DINOv3 without and with ("qkvb") biases of queries and values."""
    sizes = {
        "small": _SMALL,
        "small_plus": _SMALL | _PLUS,
        "base": _BASE,
        "large": _LARGE,
        "huge_plus": _HUGE | _PLUS,
    }
    table = {"vit_tiny_patch16_dinov3_qkvb": _DINOV3 | _TINY}
    for size, options in sizes.items():
        table[f"vit_{size}_patch16_dinov3"] = _DINOV3 | options | {"qkv_bias": False}
        table[f"vit_{size}_patch16_dinov3_qkvb"] = _DINOV3 | options
    largest = {"embed_dim": 4096, "depth": 40, "num_heads": 32, "mlp_ratio": 2.0, "qkv_bias": False}
    return table | {"vit_7b_patch16_dinov3": _DINOV3 | largest | {"swiglu_mlp": True, "swiglu_align_to": 64}}


def _sapiens2(embed_dim: int, depth: int, num_heads: int) -> _Options:
    """All but the first and last eight blocks have half as many heads of keys and values."""
    kv_heads = tuple(num_heads if i < 8 or i >= depth - 8 else num_heads // 2 for i in range(depth))
    return {
        "img_size": (1024, 768),
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
        "num_kv_heads": kv_heads,
        "attn_type": "rope",
        "qkv_fused": False,
        "qk_norm": True,
        "global_pool": "token",
        "swiglu_mlp": True,
        "init_values": 1.0,
        "attn_only_layer_scale": True,
        "rope_type": "dinov3",
        "rope_temperature": 100.0,
        "rope_rotate_half": True,
        "use_rot_pos_emb": True,
        "use_abs_pos_emb": False,
        "num_reg_tokens": 8,
        "norm_layer": "rmsnorm",
        "num_classes": 0,
    }


ARCHITECTURES: dict[str, _Options] = {
    "eva_giant_patch14_224": _EVA,
    "eva_giant_patch14_336": _EVA | {"img_size": 336},
    "eva_giant_patch14_560": _EVA | {"img_size": 560},
    "eva_giant_patch14_clip_224": _EVA | {"global_pool": "token", "num_classes": 1024},
    "eva02_tiny_patch14_224": _EVA02 | _TINY | {"num_classes": 0},
    "eva02_tiny_patch14_336": _EVA02 | _TINY | {"img_size": 336},
    "eva02_small_patch14_224": _EVA02 | _SMALL | {"num_classes": 0},
    "eva02_small_patch14_336": _EVA02 | _SMALL | {"img_size": 336},
    "eva02_base_patch14_224": _EVA02_NORMS | {"num_classes": 0},
    "eva02_base_patch14_448": _EVA02_NORMS | {"img_size": 448},
    "eva02_large_patch14_224": _EVA02_NORMS | _LARGE | {"num_classes": 0},
    "eva02_large_patch14_448": _EVA02_NORMS | _LARGE | {"img_size": 448},
    "eva02_base_patch16_clip_224": _EVA02_CLIP | {"patch_size": 16, "num_classes": 512},
    "eva02_large_patch14_clip_224": _EVA02_CLIP | _LARGE | {"num_classes": 768},
    "eva02_large_patch14_clip_336": _EVA02_CLIP | _LARGE | {"img_size": 336, "num_classes": 768},
    "eva02_enormous_patch14_clip_224": {
        "patch_size": 14,
        "embed_dim": 1792,
        "depth": 64,
        "num_heads": 16,
        "mlp_ratio": 15360 / 1792,
        "use_post_norm": True,
        "global_pool": "token",
        "num_classes": 1024,
    },
    "vit_medium_patch16_rope_reg1_gap_256": _REGISTERS | {"embed_dim": 512, "num_heads": 8, "num_reg_tokens": 1},
    "vit_mediumd_patch16_rope_reg1_gap_256": _REGISTERS
    | {"embed_dim": 512, "depth": 20, "num_heads": 8, "num_reg_tokens": 1, "qkv_bias": False},
    "vit_betwixt_patch16_rope_reg4_gap_256": _REGISTERS | {"embed_dim": 640, "num_heads": 10, "num_reg_tokens": 4},
    "vit_base_patch16_rope_reg1_gap_256": _REGISTERS | {"num_reg_tokens": 1},
    "vit_pe_core_tiny_patch16_384": _perception(_TINY, 16, 384, **_PE_CORE, num_classes=512),
    "vit_pe_core_small_patch16_384": _perception(_SMALL, 16, 384, **_PE_CORE, num_classes=512),
    "vit_pe_core_base_patch16_224": _perception(_BASE, 16, 224, **_PE_CORE, num_classes=1024),
    "vit_pe_core_large_patch14_336": _perception(_LARGE, 14, 336, **_PE_CORE, num_classes=1024),
    "vit_pe_core_gigantic_patch14_448": _perception(
        {"depth": 50}, 14, 448, **_PE_GIGANTIC, **_PE_CORE, num_classes=1280
    ),
    "vit_pe_lang_large_patch14_448": _perception(_LARGE | {"depth": 23}, 14, 448, **_PE_SCALED),
    "vit_pe_lang_gigantic_patch14_448": _perception({"depth": 47}, 14, 448, **_PE_GIGANTIC, **_PE_SCALED),
    "vit_pe_spatial_tiny_patch16_512": _perception(_TINY, 16, 512, **_PE_PLAIN),
    "vit_pe_spatial_small_patch16_512": _perception(_SMALL, 16, 512, **_PE_PLAIN),
    "vit_pe_spatial_base_patch16_512": _perception(_BASE, 16, 512, **_PE_PLAIN),
    "vit_pe_spatial_large_patch14_448": _perception(_LARGE, 14, 448, **_PE_PLAIN),
    "vit_pe_spatial_gigantic_patch14_448": _perception({"depth": 50}, 14, 448, **_PE_GIGANTIC, **_PE_SCALED),
    **_rope_vits(),
    **_dinov3(),
    "vit_small_patch16_lingbot": _LINGBOT | _SMALL,
    "vit_base_patch16_lingbot": _LINGBOT | _BASE,
    "vit_large_patch16_lingbot": _LINGBOT | _LARGE,
    "vit_giant_patch16_lingbot": _LINGBOT | _GIANT | _PLUS | {"mlp_ratio": 4 * 2 / 3, "qkv_bias": False},
    "vit_base_patch16_sapiens2": _sapiens2(768, 12, 12),
    "vit_large_patch16_sapiens2": _sapiens2(1024, 24, 16),
    "vit_huge_patch16_sapiens2": _sapiens2(1280, 32, 16),
    "vit_giant_patch16_sapiens2": _sapiens2(1536, 40, 24),
    "vit_5b_patch16_sapiens2": _sapiens2(2432, 56, 32),
}
