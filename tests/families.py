"""What the tests of the zoo need to know about each family: which members to take and how to make them small."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from jaxtl.models import registry, vit_architectures


def _no_options(name: str) -> dict[str, Any]:
    return {}


def _few_blocks_where_rounding_grows(name: str) -> dict[str, Any]:
    """RegNetV has no path around its norms: with random numbers torch's own rounding errors grow with depth."""
    return {"depth": 8, "wa": 130.0} if name.startswith("regnetv") else {}


@dataclass(frozen=True)
class Family:
    """One file of `jaxtl/models`.

    Attributes:
        always: Architectures that the tests compare with timm every fourth day: one for each kind of option.
        shorter: Those of them of which a normal run compares a copy with fewer blocks, and its keywords; the whole
            networks take turns with all others.
        member: A small one for training, round trips and whatever needs one member of each family.
        member_options: What makes it smaller still; keywords that jaxtl and timm share.
        member_size: Side of its images in pixels.
        sizes: Sides of the images on which networks are compared.
        options: Architecture -> keywords for jaxtl and timm with which it is compared, such as a smaller `img_size`.
        variants: Further comparisons: (architecture, keywords).
        too_large: Architectures of which a copy with fewer blocks is compared, and its keywords.
    """

    always: tuple[str, ...]
    member: str
    member_options: Mapping[str, Any] = field(default_factory=dict)
    member_size: int = 32
    sizes: tuple[int, ...] = (64, 97)
    options: Callable[[str], dict[str, Any]] = _no_options
    variants: tuple[tuple[str, dict[str, Any]], ...] = ()
    too_large: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    shorter: Mapping[str, dict[str, Any]] = field(default_factory=dict)


_TINY_SWIN = {"embed_dim": 16, "depths": (1, 2), "num_heads": (2, 4)}


def _few_windows(name: str) -> dict[str, Any]:
    """Images of a few windows; some windows stick out of the feature map, and later ones are the map.

    In the deepest networks little is left of what tells larger images of noise apart.
    """
    sizes = {"swin_large_patch4_window7_224": 32, "swin_large_patch4_window12_384": 64, "swin_s3_small_224": 48}
    return {"img_size": sizes.get(name, 64 if "window7" in name or "window8" in name else 128)}


def _narrow_classifier(name: str) -> dict[str, Any]:
    """Without VGG's hundred million parameters between the maps and the head."""
    return {"mlp_ratio": 1 / 32}


def _few_patches(name: str) -> dict[str, Any]:
    """Images of three by three patches."""
    return {"img_size": 42 if "patch14" in name else 48}


def _five_patches(name: str) -> dict[str, Any]:
    """Images of five by five patches."""
    return {"img_size": 5 * vit_architectures.ARCHITECTURES[name].get("patch_size", 16)}


def _mobile_options(name: str) -> dict[str, Any]:
    """What timm changes only where it loads pretrained weights; bounded activations where random weights drive
    unbounded ones so far that torch's own rounding errors come near the tolerance."""
    if name == "tf_efficientnet_b6":
        return {"act_layer": "tanh"}
    if name.removeprefix("tf_").startswith(("efficientnet_b1", "efficientnet_cc")):
        return {"act_layer": "relu6"}
    return {"bn_eps": 1e-3} if name == "fbnetc_100" else {}


FAMILIES = {
    "convnext": Family(
        always=(
            "convnext_atto_ols",
            "convnext_atto_rms",
            "convnext_zepto_rms_ols",
            "convnextv2_atto",
            "test_convnext",
            "test_convnext3",
        ),
        member="test_convnext3",
        variants=(
            ("convnext_tiny", {"depths": (1, 1, 1, 1), "output_stride": 8}),
            ("convnext_tiny_hnf", {"depths": (1, 1, 1, 1), "output_stride": 16, "in_chans": 1}),
            ("convnext_nano_ols", {"depths": (1, 1, 1, 1), "num_classes": 7}),
            ("convnext_atto", {"depths": (1, 1, 1, 1), "patch_size": 2}),
            ("convnext_large_mlp", {"depths": (1, 1, 1, 1), "head_hidden_size": 96}),
            ("convnextv2_tiny", {"depths": (1, 1, 1, 1)}),
        ),
        too_large={
            **{name: {"depths": (1, 1, 1, 1)} for name in ("convnext_xlarge", "convnext_xxlarge", "convnextv2_huge")},
            # so deep, and without layer scale, they forget the image when their weights are random
            **{f"convnextv2_{size}": {"depths": (3, 3, 9, 3)} for size in ("small", "base", "large")},
        },
    ),
    "densenet": Family(
        always=("densenet121", "densenetblur121d"),
        shorter={"densenet121": {"block_config": (2, 3, 2, 2)}},
        member="densenet121",
        member_options={"growth_rate": 8, "block_config": (2, 3, 2)},
        sizes=(97,),
        too_large={"densenetblur121d": {"block_config": (2, 3, 3, 2)}},
        variants=(
            ("densenetblur121d", {"block_config": (2, 2, 2), "aa_stem_only": False, "in_chans": 1}),
            ("densenet121", {"block_config": (2, 2), "stem_type": "deep_tiered", "act_layer": "silu"}),
            ("densenet121", {"block_config": (2, 2), "stem_type": "deep_tiered_narrow", "bn_size": 2}),
        ),
    ),
    "efficientnet": Family(
        always=(
            "mobilenetv1_100",
            "mobilenetv2_035",
            "test_efficientnet",
            "test_efficientnet_evos",
            "test_efficientnet_gn",
            "test_efficientnet_ln",
        ),
        member="test_efficientnet",
        member_size=64,
        sizes=(97, 96),
        options=_mobile_options,
        variants=(
            ("test_efficientnet", {"aa_layer": "avg", "se_layer": "gc", "in_chans": 1}),
            ("test_efficientnet", {"aa_layer": "blur", "act_layer": "hard_swish", "num_classes": 7}),
            ("test_efficientnet", {"aa_layer": "blurpc", "pad_type": "same", "bn_eps": 1e-3}),
            ("test_efficientnet", {"output_stride": 8, "pad_type": "same"}),
        ),
    ),
    "inception_v3": Family(
        always=("inception_v3",),
        member="inception_v3",
        member_size=107,
        sizes=(96, 139),
        variants=(("inception_v3", {"in_chans": 1, "num_classes": 7, "act_layer": "silu"}),),
    ),
    "eva": Family(
        always=(
            "eva02_tiny_patch14_224",
            "vit_pe_core_tiny_patch16_384",
            "vit_pe_spatial_tiny_patch16_512",
            "vit_small_patch16_dinov3",
            "vit_small_patch16_rope_224",
            "vit_small_patch16_rope_mixed_ape_224",
            "vit_small_plus_patch16_dinov3_qkvb",
        ),
        member="vit_tiny_patch16_dinov3_qkvb",
        member_options={"img_size": 32, "patch_size": 8, "embed_dim": 32, "num_heads": 4, "depth": 3},
        options=_few_patches,
        variants=(
            ("eva02_base_patch14_448", {"depth": 2}),
            ("eva02_base_patch16_clip_224", {"depth": 2, "num_classes": 7, "in_chans": 1}),
            ("eva02_enormous_patch14_clip_224", {"depth": 2, "embed_dim": 192, "swiglu_mlp": True}),
            ("vit_base_patch16_rope_reg1_gap_256", {"depth": 2}),
            ("vit_base_patch16_sapiens2", {"depth": 3, "num_kv_heads": (12, 6, 4)}),
            ("vit_large_patch16_lingbot", {"depth": 2}),
            ("vit_pe_lang_large_patch14_448", {"depth": 2}),
            ("vit_small_patch16_rope_224", {"depth": 2, "attn_type": "eva", "rope_grid_offset": 2.0, "patch_size": 8}),
        ),
        too_large={
            "eva02_enormous_patch14_clip_224": {"depth": 2},
            **{
                name: {"depth": 3}
                for name in (
                    "eva02_large_patch14_224",
                    "eva02_large_patch14_448",
                    "eva02_large_patch14_clip_224",
                    "eva02_large_patch14_clip_336",
                    "eva_giant_patch14_224",
                    "eva_giant_patch14_336",
                    "eva_giant_patch14_560",
                    "eva_giant_patch14_clip_224",
                    "vit_7b_patch16_dinov3",
                    "vit_giant_patch16_lingbot",
                    "vit_huge_plus_patch16_dinov3",
                    "vit_huge_plus_patch16_dinov3_qkvb",
                    "vit_large_patch16_dinov3",
                    "vit_large_patch16_dinov3_qkvb",
                    "vit_large_patch16_lingbot",
                    "vit_large_patch16_rope_224",
                    "vit_large_patch16_rope_ape_224",
                    "vit_large_patch16_rope_mixed_224",
                    "vit_large_patch16_rope_mixed_ape_224",
                    "vit_pe_core_gigantic_patch14_448",
                    "vit_pe_core_large_patch14_336",
                    "vit_pe_lang_gigantic_patch14_448",
                    "vit_pe_spatial_gigantic_patch14_448",
                    "vit_pe_spatial_large_patch14_448",
                )
            },
            **{
                f"vit_{size}_patch16_sapiens2": {"depth": 2, "num_kv_heads": (heads, heads // 2)}
                for size, heads in (("large", 16), ("huge", 16), ("giant", 24), ("5b", 32))
            },
        },
    ),
    "mobilenetv3": Family(
        always=("lcnet_050", "mobilenetv3_small_050", "tf_mobilenetv3_small_minimal_100"),
        member="tf_mobilenetv3_small_minimal_100",
        member_size=64,
        sizes=(97, 96),
        variants=(("mobilenetv4_conv_small_035", {"aa_layer": "avg", "in_chans": 1, "num_classes": 7}),),
    ),
    "regnet": Family(
        always=("regnetv_064", "regnetx_004_tv", "regnety_002", "regnety_040_sgn", "regnetz_005"),
        shorter={
            "regnety_040_sgn": {"depth": 7, "wa": 110.0},
            "regnetz_005": {"depth": 7, "wa": 34.0},
        },
        member="regnety_002",
        member_options={"depth": 5, "w0": 8, "wa": 8.0, "wm": 1.6, "stem_width": 8},
        options=_few_blocks_where_rounding_grows,
        variants=(
            ("regnetx_002", {"output_stride": 8, "in_chans": 1, "act_layer": "silu"}),
            ("regnety_002", {"output_stride": 16, "downsample": "avg", "num_classes": 7}),
            (
                "regnety_002",
                {"norm_layer": "evonorms0", "linear_out": True, "w0": 32, "wa": 48.0, "wm": 2.0, "depth": 5},
            ),
            ("regnety_002", {"norm_layer": "frntlu", "linear_out": True}),
            ("regnetv_040", {"output_stride": 8, "num_features": 96, "downsample": ""}),
        ),
        too_large={
            "regnety_1280": {"w0": 48, "wa": 18.0, "group_size": 16},
            "regnety_2560": {"w0": 64, "wa": 23.0, "group_size": 37},
        },
    ),
    "resnet": Family(
        always=(
            "ecaresnet26t",
            "resnet18",
            "resnet50_gn",
            "resnetaa34d",
            "resnetblur18",
            "resnetrs50",
            "seresnext26d_32x4d",
            "test_resnet",
        ),
        shorter={
            "ecaresnet26t": {"layers": (1, 1, 1, 1)},
            "resnet50_gn": {"layers": (1, 1, 1, 1)},
            "resnetaa34d": {"layers": (2, 1, 1, 1)},
            "resnetblur18": {"layers": (1, 1, 1, 1)},
            "resnetrs50": {"layers": (1, 1, 1, 1)},
            "seresnext26d_32x4d": {"layers": (1, 1, 1, 1)},
        },
        member="resnet18",
        variants=(
            ("senet154", {"layers": (1, 1, 1, 1)}),
            ("resnet26", {"output_stride": 8, "in_chans": 1}),
            ("resnet10t", {"output_stride": 16}),
            ("resnetblur18", {"output_stride": 8, "replace_stem_pool": True}),
            ("resnet10t", {"act_layer": "silu", "num_classes": 7}),
        ),
    ),
    "resnetv2": Family(
        always=("resnetv2_18", "resnetv2_50d_evos", "resnetv2_50d_frn", "resnetv2_50d_gn", "resnetv2_50x1_bit"),
        shorter={
            name: {"layers": (1, 2, 1, 1)} for name in ("resnetv2_50d_evos", "resnetv2_50d_frn", "resnetv2_50d_gn")
        },
        member="resnetv2_18",
        member_options={"layers": (1, 2, 1, 1), "channels": (16, 24, 32, 48), "stem_chs": 16},
        variants=(
            ("resnetv2_18d", {"output_stride": 8, "in_chans": 1}),
            ("resnetv2_50t", {"layers": (1, 1, 1, 1), "output_stride": 16, "act_layer": "silu"}),
            ("resnetv2_50", {"layers": (1, 1, 1, 1), "preact": False, "num_classes": 7}),
            ("resnetv2_50d", {"layers": (1, 2, 1, 1), "preact": False, "stem_type": "deep_same", "output_stride": 8}),
            ("resnetv2_50", {"layers": (1, 1, 1, 1), "stem_type": "deep_fixed", "width_factor": 2}),
        ),
        too_large={
            "resnetv2_101x3_bit": {"channels": (128, 256, 512, 1024), "stem_chs": 32},
            "resnetv2_152x4_bit": {"channels": (64, 128, 256, 512), "stem_chs": 16},
        },
    ),
    "swin_transformer": Family(
        always=("swin_s3_tiny_224", "swin_tiny_patch4_window7_224"),
        member="swin_tiny_patch4_window7_224",
        member_options={**_TINY_SWIN, "img_size": 32, "window_size": 3},
        options=_few_windows,
        too_large={"swin_s3_base_224": {"depths": (2, 2, 6, 2)}},
        variants=(
            ("swin_small_patch4_window7_224", {**_TINY_SWIN, "img_size": 224}),
            ("swin_base_patch4_window12_384", {**_TINY_SWIN, "img_size": 128, "in_chans": 1}),
            ("swin_small_patch4_window7_224", {**_TINY_SWIN, "img_size": 97, "patch_size": 2, "window_size": (3, 5)}),
            ("swin_s3_tiny_224", {"img_size": 64, "depths": (2, 2, 2, 2), "always_partition": True}),
            ("swin_small_patch4_window7_224", {**_TINY_SWIN, "img_size": 64, "head_dim": 12, "qkv_bias": False}),
        ),
    ),
    "swin_transformer_v2": Family(
        always=("swinv2_tiny_window16_256", "swinv2_tiny_window8_256"),
        member="swinv2_tiny_window8_256",
        member_options={**_TINY_SWIN, "img_size": 32, "window_size": 3},
        options=_few_windows,
        variants=(
            ("swinv2_small_window8_256", {**_TINY_SWIN, "img_size": 256}),
            ("swinv2_base_window12to16_192to256", {"img_size": 128, "embed_dim": 32, "depths": (2, 2, 2, 2)}),
            ("swinv2_small_window8_256", {**_TINY_SWIN, "img_size": 97, "patch_size": 2, "window_size": (3, 5)}),
            ("swinv2_small_window8_256", {"img_size": 64, "depths": (2, 2, 2, 2), "always_partition": True}),
            ("swinv2_small_window8_256", {**_TINY_SWIN, "img_size": 64, "qkv_bias": False, "act_layer": "silu"}),
        ),
    ),
    "vgg": Family(
        always=("vgg11", "vgg11_bn"),
        member="vgg11_bn",
        member_options={"mlp_ratio": 1 / 128},
        sizes=(97, 256),
        options=_narrow_classifier,
        variants=(("vgg11_bn", {"in_chans": 1, "num_classes": 7}),),
    ),
    "vision_transformer": Family(
        always=(
            "deit3_small_patch16_224",
            "deit_tiny_distilled_patch16_224",
            "test_vit",
            "test_vit2",
            "test_vit3",
            "test_vit4",
            "vit_dpwee_patch16_reg1_gap_256",
            "vit_dwee_patch16_reg1_gap_256",
            "vit_pwee_patch16_reg1_gap_256",
            "vit_tiny_patch16_224",
            "vit_xsmall_patch16_clip_224",
        ),
        member="vit_tiny_patch16_224",
        member_options={"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
        options=_five_patches,
        variants=(
            ("aimv2_large_patch14_224", {"depth": 2, "num_classes": 7}),
            ("beit3_base_patch16_224", {"depth": 2}),
            ("vit_base_patch16_radio_v3", {"depth": 2, "num_classes": 7}),
            ("vit_base_patch16_rpn_224", {"depth": 2}),
            ("vit_base_patch16_xp_224", {"depth": 2}),
            ("vit_base_patch32_clip_quickgelu_224", {"depth": 2, "img_size": 96}),
            ("vit_base_patch32_siglip_256", {"depth": 2, "num_classes": 7, "in_chans": 1}),
            ("vit_giant_patch14_reg4_dinov2", {"depth": 1, "embed_dim": 192, "num_heads": 3}),
            ("vit_medium_patch16_gap_240", {"depth": 2, "global_pool": "avgmax"}),
            ("vit_small_patch16_18x2_224", {"depth": 2}),
            ("vit_tiny_patch16_224", {"depth": 3, "img_size": 97, "patch_size": (16, 24), "global_pool": "max"}),
        ),
        too_large={
            name: {"depth": 2}
            for name, options in vit_architectures.ARCHITECTURES.items()
            if options["embed_dim"] >= 1024
        },
    ),
}
"""By the name of the file. Those that timm does not have are missing."""


def family_of(name: str) -> str | None:
    """The key in `FAMILIES` of an architecture's family."""
    module = registry.family(name).__module__.rpartition(".")[2]
    return module if module in FAMILIES else None


def names() -> list[str]:
    """All architectures of these families, sorted."""
    return [name for name in registry.names() if family_of(name)]


def rotating(names: Iterable[Any], count: int, always: Collection[Any] = ()) -> list[Any]:
    """Parameters for a test that takes seconds a name: some always, so many others that change with the date, and the
    rest marked slow. A name may be a tuple of a test's parameters."""
    names = list(names)
    others = [name for name in names if name not in always]
    today = [others[(count * _day() + i) % len(others)] for i in range(count)]
    return [name if name in today or name in always else _slow(name) for name in names]


def in_turns(names: Sequence[Any], days: int) -> Sequence[Any]:
    """Today's share of them: within so many days each has its turn."""
    return names[_day() % days :: days]


def shared_out(names: Sequence[Any], days: int) -> list[Any]:
    """Parameters for a test of which each runs once in so many days; the others of a day are marked slow."""
    return rotating(names, 0, in_turns(names, days))


def _slow(name: Any) -> Any:
    return pytest.param(*(name if isinstance(name, tuple) else (name,)), marks=pytest.mark.slow)


def _day() -> int:
    return datetime.date.today().toordinal()
