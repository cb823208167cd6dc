"""Block strings, and what the mobile networks make of them."""

from __future__ import annotations

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference
from timm_guest import import_timm

from jaxtl.errors import InputError
from jaxtl.models import convolution, efficientnet_blocks, registry
from jaxtl.models.block_strings import Block, Options, decode, decode_stages, make_divisible, resolve
from jaxtl.models.efficientnet import ARCHITECTURES
from jaxtl.models.efficientnet_blocks import CondConv, SqueezeExcite, build_block
from jaxtl.models.evonorm import BatchNormAct
from jaxtl.models.graph import Graph


def _options(se_from_exp: bool = False, padding: str | None = None, layer_scale: float | None = None) -> Options:
    return Options(
        act="relu",
        norm=BatchNormAct,
        gate=lambda channels, ratio, act: SqueezeExcite(channels, round(channels * ratio), act=act),
        anti_aliasing=None,
        padding=padding,
        round_width=lambda width: make_divisible(width, 4),
        se_from_exp=se_from_exp,
        layer_scale=layer_scale,
    )


def _first(string: str, options: Options) -> Block:
    return next(resolve(decode_stages([string]), options))[0]


@pytest.mark.parametrize("padding", ["", "same"])
@pytest.mark.parametrize(
    ("string", "timm_class", "timm_options"),
    [
        ("cn_r1_k3_s2_c16_gs4", "ConvBnAct", {"kernel_size": 3, "stride": 2, "group_size": 4}),
        ("dsa_r1_k3_s2_c24", "DepthwiseSeparableConv", {"stride": 2, "pw_act": True}),
        ("ds_r1_k3_s1_c8_d1", "DepthwiseSeparableConv", {"s2d": 1}),
        ("ir_r1_k3_s1_e4_c16_gs8", "InvertedResidual", {"exp_ratio": 4, "group_size": 8}),
        (
            "ir_r1_k3.5.7_a1.1_p1.1_s2_e6_c20",
            "InvertedResidual",
            {
                "dw_kernel_size": [3, 5, 7],
                "exp_kernel_size": [1, 1],
                "pw_kernel_size": [1, 1],
                "stride": 2,
                "exp_ratio": 6,
            },
        ),
        (
            "ir_r1_k5_s2_e3_c24_cc4",
            "CondConvResidual",
            {"dw_kernel_size": 5, "stride": 2, "exp_ratio": 3, "num_experts": 4},
        ),
        ("ir_r1_k3_s1_e4_c16_cc3", "CondConvResidual", {"exp_ratio": 4, "num_experts": 3}),
        ("er_r1_k3_s2_e4_c24_fc8", "EdgeResidual", {"stride": 2, "exp_ratio": 4, "force_in_chs": 8}),
        (
            "uir_r1_a5_k0_p3_s2_e2_c24",
            "UniversalInvertedResidual",
            {
                "dw_kernel_size_start": 5,
                "dw_kernel_size_mid": 0,
                "dw_kernel_size_end": 3,
                "stride": 2,
                "exp_ratio": 2,
            },
        ),
        (
            "uir_r1_a3_k5_s1_e2_c16",
            "UniversalInvertedResidual",
            {"dw_kernel_size_start": 3, "dw_kernel_size_mid": 5, "exp_ratio": 2},
        ),
        (
            "mqa_r1_k3_h2_s1_v2_d8_c16",
            "MobileAttention",
            {"num_heads": 2, "key_dim": 8, "value_dim": 8, "kv_stride": 2, "use_multi_query": True},
        ),
    ],
)
def test_blocks_are_timms(string: str, timm_class: str, timm_options: dict, padding: str) -> None:
    import_timm()
    from timm.models import _efficientnet_blocks
    from torch import no_grad

    options = _options(padding=padding or None, layer_scale=1e-5)
    block = _first(string, options)
    make = partial(getattr(_efficientnet_blocks, timm_class), 16, block.channels, pad_type=padding, **timm_options)
    reference = torch_reference.randomise(make(), channels=16, size=11)
    ours = torch_reference.filled(
        build_block(16, block, options), {name: value.numpy() for name, value in reference.state_dict().items()}
    )
    images = torch_reference.images(11, channels=16)
    with no_grad():
        expected = reference(torch_reference.torch_images(images)).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours(images), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("string", "repeats", "block"),
    [
        ("cn_r2_k3_s1_e1_c24_skip", 2, Block("cn", 24, 3, skip=True)),
        ("ds_r1_k5_s2_c16_noskip", 1, Block("ds", 16, 5, 2, skip=False)),
        ("ir_r1_k3.5.7_a1.1_p1.1_s2_e6_c32_nsw", 1, Block("ir", 32, (3, 5, 7), 2, 1, 6.0, (1, 1), (1, 1), act="silu")),
        ("ir_r4_k3_s1_e2.5_c80_se0.25_cc4", 4, Block("ir", 80, expansion=2.5, se_ratio=0.25, experts=4)),
        ("er_r1_k3_s1_e4_gs64_c24_fc24", 1, Block("er", 24, expansion=4.0, expanded_channels=24, group_size=64)),
        ("uir_r1_a3_k0_s1_e4_c96", 1, Block("uir", 96, 0, expansion=4.0, first_kernel=3)),
        ("mqa_r1_k3_h4_s1_v2_d64_c160", 1, Block("mqa", 160, heads=4, head_width=64, key_stride=2)),
    ],
)
def test_block_strings(string: str, repeats: int, block: Block) -> None:
    assert decode(string) == (repeats, block)


@pytest.mark.parametrize("string", ["xx_r1_c8", "ir_r1_k3", "ir_r1_c8_zz", "ir_r1_c8_y3", ""])
def test_other_strings_are_errors(string: str) -> None:
    with pytest.raises(InputError):
        decode(string)


def test_deeper_networks_repeat_what_comes_last() -> None:
    stages = ("ds_r1_c8", "ir_r1_k3_c16 ir_r3_k5_c16", "ir_r2_c24")
    deeper = decode_stages(stages, depth_multiplier=1.2)
    assert [len(stage) for stage in deeper] == [2, 5, 3]
    assert [block.kernel for block in deeper[1]] == [3, 5, 5, 5, 5]
    fixed = decode_stages(stages, depth_multiplier=1.2, fix_first_last=True)
    assert [len(stage) for stage in fixed] == [1, 5, 2]
    rounded = decode_stages(stages, depth_multiplier=(1.4, 1.0, 0.2), depth_trunc="round")
    assert [len(stage) for stage in rounded] == [1, 4, 1]
    with pytest.raises(InputError, match="2 numbers"):
        decode_stages(stages, depth_multiplier=(1.0, 2.0))


def test_strides_become_dilations_after_the_stride_that_remains() -> None:
    stages = decode_stages(("ir_r2_s2_c8", "ir_r2_s2_c8", "ir_r2_s2_c8", "ir_r2_s2_c8"))
    blocks = [block for stage in resolve(stages, _options(), output_stride=8, drop_path_rate=0.8) for block in stage]
    assert [block.stride for block in blocks] == [2, 1, 2, 1, 1, 1, 1, 1]
    assert [block.dilation for block in blocks] == [1, 1, 1, 1, 1, 2, 2, 4]
    assert [block.drop_path for block in blocks] == pytest.approx([i / 10 for i in range(8)])


def test_space_to_depth_takes_the_stride_of_the_next_stage() -> None:
    stages = decode_stages(("ds_r2_c16_se0.25_d1", "er_r2_s2_e6_c24_se0.25", "ir_r1_s2_e6_c40"))
    (first, second), (third, fourth), (fifth,) = resolve(stages, _options())
    assert (first.space_to_depth, second.space_to_depth, third.space_to_depth) == (1, 2, 0)
    assert (first.channels, second.channels, third.channels) == (64, 64, 24)
    assert (first.se_ratio, second.se_ratio) == (0.25 / 4, 0.25)
    assert (third.stride, third.expansion, third.se_ratio) == (1, 1.5, 0.25 / 1.5)
    assert (fourth.expansion, fifth.stride) == (6.0, 2)


def test_squeeze_width_is_a_part_of_the_input_or_of_the_inside() -> None:
    stages = decode_stages(("ir_r1_e4_c8_se0.25",))
    assert [next(resolve(stages, _options(inside)))[0].se_ratio for inside in (False, True)] == [0.0625, 0.25]


def test_stages_and_blocks() -> None:
    graph = Graph("efficientnet_b0")
    assert graph.stages == ("stem", *(f"blocks.{i}" for i in range(7)), "conv_head", "classifier")
    assert graph.blocks[:4] == ("stem", "blocks.0.0", "blocks.1.0", "blocks.1.1")
    assert graph.blocks[-3:] == ("blocks.6.0", "conv_head", "classifier")
    assert "conv_head" not in Graph("mobilenetv1_100").stages
    assert Graph("mobilenetv3_small_100", until="blocks.5").network.num_features == 576


def test_wrong_options_are_errors() -> None:
    for option, value in {
        "output_stride": 4,
        "norm_layer": "nothing",
        "aa_layer": "max",
        "se_layer": "eca",
        "pad_type": "valid",
        "head_layer": "conv",
        "depth_multiplier": (1.0,),
        "group_size": 7,
    }.items():
        with pytest.raises(InputError):
            registry.build("test_efficientnet", **{option: value})
    with pytest.raises(InputError, match="depthwise"):
        registry.build("test_efficientnet", block_strings=("uir_r1_a0_k0_s2_c16",))
    with pytest.raises(InputError, match="one group"):
        registry.build("test_efficientnet", block_strings=("ir_r1_k3.5_gs4_c16",))


def test_tensorflow_variants_differ_in_padding_and_epsilon_only() -> None:
    ours, theirs = (ARCHITECTURES[name] for name in ("efficientnet_b3", "tf_efficientnet_b3"))
    assert theirs == ours | {"pad_type": "same", "bn_eps": 1e-3}


@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 4)])
def test_each_image_has_its_own_kernel_also_where_their_number_is_not_known(
    kernel: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    layer = CondConv(4, 4, kernel, experts=3, groups=groups)
    layer.weight.set_value(jnp.asarray(rng.standard_normal(layer.weight.shape, np.float32)))
    x, routing = rng.standard_normal((2, 5, 5, 4), np.float32), rng.random((2, 3), np.float32)
    expected = layer(x, routing)
    for module in (convolution, efficientnet_blocks):
        monkeypatch.setattr(module, "on_cpu", lambda: False)
    (images,) = jax.export.symbolic_shape("images")
    abstract = (jax.ShapeDtypeStruct((images, *array.shape[1:]), array.dtype) for array in (x, routing))
    exported = jax.export.export(jax.jit(lambda x, routing: layer(x, routing)))(*abstract)
    np.testing.assert_allclose(exported.call(x, routing), expected, rtol=1e-5, atol=1e-5)
