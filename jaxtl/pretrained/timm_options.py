"""Which networks timm builds as well, and with which arguments.

An option of jaxtl's is given to timm only where timm has it by the same name with the same meaning, and the values that
both take; whatever else differs from what the registry has for an architecture, timm cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flax import nnx

from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.models import registry
from jaxtl.models.convolution import pair
from jaxtl.models.graph import Graph
from jaxtl.models.layers import GroupNorm

_NOT_OF_THE_NETWORK = ("num_classes", "drop_rate", "drop_path_rate", "remat", "until", "head", "in_chans")
"""Said elsewhere, or of training alone."""

_WINDOWS = (
    "embed_dim depths num_heads img_size patch_size window_size mlp_ratio qkv_bias always_partition dynamic_img_size"
)
ALIKE = {
    family: frozenset(options.split())
    for family, options in {
        "ConvNeXt": "depths dims output_stride kernel_sizes ls_init_value stem_type patch_size head_norm_first "
        "head_hidden_size conv_mlp use_grn act_layer norm_layer norm_eps",
        "DenseNet": "growth_rate block_config bn_size stem_type act_layer aa_stem_only proj_drop_rate",
        "EfficientNet": "output_stride pad_type act_layer bn_eps",
        "Eva": "img_size patch_size embed_dim depth num_heads num_kv_heads global_pool attn_type qkv_bias qkv_fused "
        "qk_norm scale_attn_inner mlp_ratio swiglu_mlp swiglu_align_to scale_mlp init_values attn_only_layer_scale "
        "class_token num_reg_tokens no_embed_class use_abs_pos_emb use_rot_pos_emb rope_type rope_grid_offset "
        "rope_grid_indexing rope_temperature rope_rotate_half ref_feat_shape use_post_norm use_pre_transformer_norm "
        "use_post_transformer_norm use_fc_norm attn_pool_num_heads attn_pool_mlp_ratio",
        "InceptionV3": "act_layer",
        "MobileNetV3": "pad_type act_layer bn_eps",
        "RegNet": "depth w0 wa wm output_stride group_size bottle_ratio se_ratio group_min_ratio stem_width downsample "
        "linear_out preact num_features act_layer norm_layer",
        "ResNet": "layers output_stride cardinality base_width stem_type stem_width replace_stem_pool "
        "block_reduce_first down_kernel_size avg_down channels act_layer norm_layer",
        "ResNetV2": "layers channels output_stride width_factor stem_chs stem_type avg_down preact basic bottle_ratio "
        "act_layer norm_layer",
        "SwinTransformer": f"{_WINDOWS} head_dim",
        "SwinTransformerV2": f"{_WINDOWS} act_layer pretrained_window_sizes",
        "VGG": "mlp_ratio",
        "VisionTransformer": "img_size patch_size embed_dim depth num_heads global_pool mlp_ratio qkv_bias proj_bias "
        "qk_norm scale_attn_norm scale_mlp_norm init_values class_token no_embed_class reg_tokens pre_norm final_norm "
        "fc_norm pool_include_prefix pos_drop_rate proj_drop_rate norm_layer act_layer",
    }.items()
}
"""By the name of a family's class."""


def timm_arguments(model: Model) -> dict[str, Any]:
    """What ``timm.create_model`` needs to build the same network, besides its name and the number of classes."""
    graph = model.graph
    values = _values(graph)
    channels = {} if model.preprocess.channels == 3 else {"in_chans": model.preprocess.channels}
    changed = {option: value for option, value in _changed(graph).items() if option not in _NOT_OF_THE_NETWORK}
    if values.get("dynamic_img_size"):  # else timm goes by the size that the images are prepared at
        changed["img_size"] = values["img_size"]
    return channels | changed


def check_fits_timm(model: Model) -> None:
    """``InputError`` where timm cannot build the model's network."""
    if reason := obstacle(model):
        raise InputError(f"{reason}; jaxtl.save keeps it for jaxtl, format='stablehlo' for JAX alone")


def obstacle(model: Model) -> str | None:
    """Why timm cannot build the model's network, in a clause; ``None`` where it can.

    >>> import jaxtl
    >>> obstacle(jaxtl.load("mobilenetv3_small_050", weights=None, output_stride=16))
    'timm cannot build mobilenetv3_small_050 with output_stride=16'
    """
    graph = model.graph
    if not type(graph.network).in_timm:
        return f"timm has no {graph.architecture}"
    how = next(_obstacles(model), None)
    return how and f"timm cannot build {graph.architecture} {how}"


def _obstacles(model: Model) -> Iterator[str]:
    graph = model.graph
    values, changed = _values(graph), _changed(graph)
    if changed.get("until"):
        yield f"cut after {changed['until']!r}"
    if changed.get("head"):
        yield "with a head of several layers"
    alike = ALIKE.get(type(graph.network).__name__, frozenset())
    for option, value in changed.items():
        if option not in _NOT_OF_THE_NETWORK and (option not in alike or value is None or _odd(option, graph, values)):
            yield f"with {option}={value!r}"
    if (size := values.get("img_size")) is not None and pair(size) != model.preprocess.size:
        height, width = model.preprocess.size
        yield f"for images of {size} pixels that are prepared at {height} x {width}"


def _odd(option: str, graph: Graph, values: Mapping[str, Any]) -> bool:
    """Whether timm takes this value of an option of its own for something else, or not at all."""
    match type(graph.network).__name__, option:
        case "EfficientNet" | "MobileNetV3", "bn_eps":
            return bool(values["norm_layer"] != "batchnorm")
        case "Eva", "qk_norm" | "num_kv_heads" | "attn_only_layer_scale" | "use_post_norm":
            others = values["qk_norm"] or values["num_kv_heads"] or values["attn_only_layer_scale"]
            return bool(values["use_post_norm"] and others)
        case "Eva", "rope_type" | "rope_rotate_half":
            return bool(values["rope_type"] == "mixed" and values["rope_rotate_half"])
        case "VisionTransformer", "no_embed_class" | "reg_tokens":
            return bool(values["distilled"])
        case "VisionTransformer", "scale_attn_norm" | "scale_mlp_norm":
            return "parallel_scaling" in values["block_fn"]
        case "VisionTransformer", "norm_layer":
            return bool(values["norm_eps"] != 1e-6)
        case "ConvNeXt", "depths" | "dims" | "kernel_sizes":
            return isinstance(values[option], tuple) and len(values[option]) != 4
        case "ResNet", "layers" | "channels":
            return len(values["layers"]) != len(values["channels"])
        case "ResNetV2", "layers" | "width_factor" | "stem_type":
            return bool(values["conv_layer"] == "std_bit")  # set by timm's functions that make them
        case "RegNet", "norm_layer" if values[option] == "groupnorm_16":
            return True
        case "ResNet" | "RegNet" | "ResNetV2", "norm_layer":
            norms = (module for _, module in nnx.iter_modules(graph.network) if isinstance(module, GroupNorm))
            return any(norm.scale.shape[0] % norm.groups for norm in norms)
    return False


def _values(graph: Graph) -> dict[str, Any]:
    return registry.defaults(graph.architecture) | graph.options


def _changed(graph: Graph) -> dict[str, Any]:
    """The options that differ from those of the architecture; ``None`` is a value."""
    usual = registry.defaults(graph.architecture)
    return {option: value for option, value in graph.options.items() if option in usual and value != usual[option]}
