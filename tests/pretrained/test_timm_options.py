"""What timm builds as jaxtl does: each option that is given to it, and each that is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch_reference
from families import rotating
from small_models import bits, small_model
from timm_guest import import_timm

import jaxtl
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.graph import Graph
from jaxtl.pretrained import timm_options

_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 40)}
_SWIN = {"embed_dim": 16, "depths": (1, 2), "num_heads": (2, 4), "img_size": 64, "patch_size": 2, "window_size": 4}
_REGNET = {"depth": 5, "w0": 32, "wa": 48.0, "wm": 2.0}
_RESNETV2 = {"layers": (1, 1, 1, 1), "channels": (32, 32, 64, 64), "stem_chs": 16}
_EVA = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "num_heads": 4, "depth": 2}
_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "num_heads": 2, "depth": 2}

BUILT_ALIKE: list[tuple[str, dict[str, Any]]] = [
    (
        "convnext_atto",
        {**_CONVNEXT, "output_stride": 16, "kernel_sizes": (3, 5, 3, 3), "ls_init_value": 0.1, "act_layer": "silu"}
        | {"norm_layer": "rmsnorm", "norm_eps": 1e-3, "conv_mlp": False, "stem_type": "overlap_act"},
    ),
    ("convnext_atto", {**_CONVNEXT, "patch_size": 2, "head_hidden_size": 24, "kernel_sizes": 5, "use_grn": True}),
    ("convnextv2_atto", {**_CONVNEXT, "head_norm_first": True, "ls_init_value": 0.1, "norm_layer": "simplenorm"}),
    (
        "densenet121",
        {"growth_rate": 8, "block_config": (1, 2), "bn_size": 2, "stem_type": "deep_tiered", "proj_drop_rate": 0.1},
    ),
    ("densenetblur121d", {"growth_rate": 8, "block_config": (1, 2), "aa_stem_only": False, "act_layer": "silu"}),
    ("test_efficientnet", {"output_stride": 8, "pad_type": "same", "act_layer": "hard_swish", "bn_eps": 0.01}),
    ("tf_mobilenetv3_small_minimal_100", {"pad_type": "", "act_layer": "tanh", "bn_eps": 0.01}),
    ("inception_v3", {"act_layer": "silu"}),
    ("regnety_002", {**_REGNET, "group_size": 16, "se_ratio": 0.5, "linear_out": True, "norm_layer": "evonorms0"}),
    ("regnetx_002", {**_REGNET, "output_stride": 8, "downsample": "avg", "preact": True, "act_layer": "leaky_relu"}),
    ("regnety_002", {**_REGNET, "bottle_ratio": 0.5, "group_min_ratio": 0.5, "num_features": 24, "stem_width": 16}),
    (
        "resnet26",
        {
            "layers": (1, 1, 1, 1),
            "channels": (32, 32, 64, 64),
            "cardinality": 2,
            "base_width": 32,
            "norm_layer": "groupnorm",
        }
        | {"output_stride": 8},
    ),
    (
        "resnet10t",
        {
            "channels": (16, 16, 32, 32),
            "stem_type": "deep",
            "stem_width": 12,
            "replace_stem_pool": True,
            "block_reduce_first": 2,
        }
        | {"down_kernel_size": 3, "avg_down": False, "act_layer": "hard_swish"},
    ),
    (
        "resnetv2_50",
        {**_RESNETV2, "output_stride": 16, "width_factor": 2, "avg_down": True, "norm_layer": "groupnorm"}
        | {"bottle_ratio": 1.0},
    ),
    ("resnetv2_50", {**_RESNETV2, "preact": False, "stem_type": "deep_same", "act_layer": "silu"}),
    ("resnetv2_50", {**_RESNETV2, "basic": True, "bottle_ratio": 1.0, "norm_layer": "frntlu"}),
    ("swin_tiny_patch4_window7_224", {**_SWIN, "mlp_ratio": 2.0, "qkv_bias": False, "head_dim": 12}),
    ("swin_base_patch4_window12_384", {**_SWIN, "dynamic_img_size": True, "always_partition": True}),
    ("swinv2_tiny_window8_256", {**_SWIN, "act_layer": "relu", "pretrained_window_sizes": (4, 2), "mlp_ratio": 2.0}),
    ("swinv2_tiny_window8_256", {**_SWIN, "dynamic_img_size": True, "always_partition": True, "qkv_bias": False}),
    ("vgg11", {"mlp_ratio": 1 / 128}),
    (
        "eva02_tiny_patch14_224",
        {
            **_EVA,
            "global_pool": "token",
            "qkv_bias": False,
            "mlp_ratio": 2.0,
            "scale_attn_inner": True,
            "scale_mlp": True,
        }
        | {"num_reg_tokens": 2, "no_embed_class": True, "ref_feat_shape": (2, 4), "use_fc_norm": True},
    ),
    (
        "eva02_tiny_patch14_224",
        {**_EVA, "swiglu_mlp": False, "use_post_norm": True, "class_token": False, "rope_temperature": 100.0}
        | {"rope_grid_offset": 1.0, "rope_grid_indexing": "xy", "use_post_transformer_norm": False},
    ),
    (
        "vit_small_patch16_rope_224",
        {
            **_EVA,
            "qk_norm": True,
            "num_kv_heads": 2,
            "qkv_fused": False,
            "rope_rotate_half": True,
            "use_abs_pos_emb": True,
            "init_values": 0.1,
        }
        | {"attn_only_layer_scale": True, "use_pre_transformer_norm": True},
    ),
    (
        "vit_small_patch16_rope_224",
        {**_EVA, "global_pool": "map", "attn_pool_num_heads": 2, "attn_pool_mlp_ratio": 2.0, "rope_type": "mixed"}
        | {"swiglu_mlp": True, "swiglu_align_to": 8},
    ),
    ("vit_small_patch16_rope_224", {**_EVA, "attn_type": "eva", "qkv_fused": False, "use_rot_pos_emb": False}),
    (
        "vit_tiny_patch16_224",
        {**_VIT, "global_pool": "avg", "fc_norm": False, "mlp_ratio": 2.0, "qkv_bias": False, "proj_bias": False}
        | {"reg_tokens": 2, "no_embed_class": True, "pool_include_prefix": True, "act_layer": "quick_gelu"},
    ),
    (
        "vit_tiny_patch16_224",
        {**_VIT, "global_pool": "map", "class_token": False, "qk_norm": True, "init_values": 0.1, "pre_norm": True}
        | {"pos_drop_rate": 0.1, "proj_drop_rate": 0.1, "norm_layer": "rmsnorm"},
    ),
    ("vit_tiny_patch16_224", {**_VIT, "scale_attn_norm": True, "scale_mlp_norm": True, "final_norm": False}),
]


@pytest.mark.parametrize(("name", "options"), rotating(BUILT_ALIKE, 2, always=BUILT_ALIKE[-3:]))
def test_timm_gives_the_same_from_a_saved_folder(name: str, options: dict[str, Any], tmp_path) -> None:
    timm = import_timm()
    model = _prepared(name, options)
    images = torch_reference.images(model.preprocess.size, 1)
    theirs = timm.create_model(f"local-dir:{jaxtl.save(model, tmp_path)}", pretrained=True).eval()
    assert torch_reference.difference(model(images), theirs(torch_reference.torch_images(images))) < 1e-4


def _prepared(name: str, options: dict[str, Any]) -> jaxtl.Model:
    model = small_model(name, in_chans=1, **options)
    return model.replace(preprocess=model.preprocess.replace(size=options.get("img_size", 96)))


@pytest.mark.parametrize(("name", "options"), BUILT_ALIKE)
def test_timm_takes_the_arguments(name: str, options: dict[str, Any]) -> None:
    graph = Graph(name, num_classes=4, in_chans=1, **options)
    preprocess = Preprocess(size=options.get("img_size", 96)).with_channels(1)
    arguments = timm_options.timm_arguments(jaxtl.Model(graph, {}, {}, preprocess, name))
    assert arguments.keys() == {"in_chans", *options}
    reference = torch_reference.timm_network(name, num_classes=4, **arguments)
    torch_reference.check_names(
        reference, {path: leaf.shape for path, leaf in (graph.params | graph.batch_stats).items()}
    )


def test_each_option_that_timm_is_given_is_among_them() -> None:
    given: dict[str, set[str]] = {}
    for name, options in BUILT_ALIKE:
        given.setdefault(registry.family(name).__name__, set()).update(options)
    assert {family: options - given[family] for family, options in timm_options.ALIKE.items()} == dict.fromkeys(
        timm_options.ALIKE, frozenset()
    )


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("convnext_atto", {"ls_init_value": None}, "ls_init_value=None"),
        ("densenet121", {"aa_layer": "blur"}, "aa_layer='blur'"),
        ("efficientnet_b0", {"se_act": "relu"}, "se_act='relu'"),
        ("efficientnet_b0_gn", {"bn_eps": 1e-3}, "bn_eps=0.001"),
        ("deit_tiny_distilled_patch16_224", {"reg_tokens": 2}, "reg_tokens=2"),
        ("eva02_tiny_patch14_224", {"use_post_norm": True, "qk_norm": True}, "use_post_norm=True"),
        ("vit_small_patch16_dinov3", {"rope_type": "mixed", "img_size": 224}, "rope_type='mixed'"),
        ("eva02_tiny_patch14_224", {"norm_eps": 1e-5}, "norm_eps=1e-05"),
        ("mobilenetv3_small_050", {"output_stride": 16}, "output_stride=16"),
        ("regnetx_002", {"norm_layer": "groupnorm"}, "norm_layer='groupnorm'"),
        ("resnet10t", {"aa_layer": "avg"}, "aa_layer='avg'"),
        ("resnet10t", {"layers": (1, 1)}, r"layers=\(1, 1\)"),
        ("resnet10t", {"norm_layer": "groupnorm"}, "norm_layer='groupnorm'"),
        ("resnetblur18", {"aa_layer": None}, "aa_layer=None"),
        ("resnetv2_50", {"conv_layer": "std"}, "conv_layer='std'"),
        ("resnetv2_50x1_bit", {"width_factor": 2}, "width_factor=2"),
        ("vit_pwee_patch16_reg1_gap_256", {"scale_mlp_norm": True, "img_size": 224}, "scale_mlp_norm=True"),
        ("vgg11", {"norm_layer": "batchnorm"}, "norm_layer='batchnorm'"),
        ("vit_base_patch16_clip_224", {"norm_layer": "rmsnorm"}, "norm_layer='rmsnorm'"),
        *[
            ("vit_tiny_patch16_224", {option: value}, f"{option}={value!r}")
            for option, value in {
                "norm_eps": 1e-5,
                "resize": "bilinear",
                "mlp_layer": "swiglu",
                "block_fn": "res_post",
                "distilled": True,
                "embed_norm": True,
            }.items()
        ],
    ],
)
def test_other_options_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    graph = Graph(name, num_classes=4, **options)
    model = jaxtl.Model(graph, {}, {}, Preprocess(224), name)
    with pytest.raises(InputError, match=f"^timm cannot build {name} with {said}; jaxtl.save keeps it"):
        timm_options.check_fits_timm(model)


def test_what_the_registry_has_anyway_is_no_change() -> None:
    graph = Graph("resnetblur18", num_classes=4, aa_layer="blur", block="basic", attn_layer=None)
    assert timm_options.timm_arguments(jaxtl.Model(graph, {}, {}, Preprocess(224), "resnetblur18")) == {}


@pytest.mark.parametrize(
    ("name", "options"),
    [("mobilenetv3_small_050", {"output_stride": 16}), ("resnetblur18", {"aa_layer": None, "layers": (1, 1, 1, 1)})],
)
def test_what_timm_cannot_build_is_saved_for_jaxtl_alone(name: str, options: dict[str, Any], tmp_path) -> None:
    timm = import_timm()
    model = jaxtl.load(name, weights=None, num_classes=4, **options)
    folder = jaxtl.save(model, tmp_path)
    with pytest.raises(TypeError, match="jaxtl_alone"):
        timm.create_model(f"local-dir:{folder}", pretrained=True)
    again = jaxtl.load(folder)
    assert {option: again.graph.options[option] for option in options} == options
    assert bits(again.params) == bits(model.params)


def test_a_size_that_the_network_was_not_built_for_is_refused() -> None:
    graph = Graph("vit_tiny_patch16_224", num_classes=4)
    model = jaxtl.Model(graph, {}, {}, Preprocess(size=64), "vit")
    with pytest.raises(InputError, match="for images of 224 pixels that are prepared at 64 x 64"):
        timm_options.check_fits_timm(model)
