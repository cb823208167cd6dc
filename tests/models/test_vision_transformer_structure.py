"""What vision transformers alone do: stages of single blocks, two heads, weights for other sizes of images."""

from __future__ import annotations

from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models import registry, transformer
from jaxtl.models.graph import Graph
from jaxtl.models.transformer import side_by_side
from jaxtl.models.vit_architectures import ARCHITECTURES
from jaxtl.pretrained.names import state_dict
from jaxtl.trees import unflatten

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


def _state(model: jaxtl.Model) -> dict[str, np.ndarray]:
    return state_dict(model.params, model.batch_stats)


def test_every_architecture_of_timms_two_files_is_here() -> None:
    timm = torch_reference.import_timm()
    timms = [*timm.list_models(module="vision_transformer"), *timm.list_models(module="deit")]
    assert sorted(ARCHITECTURES) == sorted(timms)


@pytest.mark.parametrize("name", ["vit_base_patch16_radio_v3", "vit_giantopt_patch16_siglip_384", "test_vit3"])
def test_sizes_and_classes_are_those_of_timm(name: str) -> None:
    reference = torch_reference.timm_network(name)
    network = registry.build(name)
    assert network.patch_embed.img_size == tuple(reference.patch_embed.img_size)
    assert network.num_classes == reference.num_classes


def test_each_block_is_a_stage_and_a_step_of_depth() -> None:
    graph = Graph("vit_tiny_patch16_224", depth=2)
    assert graph.stages == graph.blocks == ("stem", "blocks.0", "blocks.1", "norm", "head")
    assert graph.stage_of("pos_embed") == graph.stage_of("cls_token") == "stem"
    assert graph.stage_of("blocks.1.mlp.fc2.kernel") == "blocks.1"
    assert "norm" not in Graph("vit_base_patch16_radio_v3", depth=1).stages
    assert Graph("vit_base_patch16_siglip_224", depth=1).stage_of("attn_pool.latent") == "norm"


@pytest.mark.parametrize("until", ["stem", "blocks.0"])
def test_what_lies_behind_a_cut_is_not_there(until: str) -> None:
    graph = Graph("vit_base_patch16_siglip_224", **TINY, until=until)
    assert graph.stages[-2:] == (until, "head")
    assert not any(path.startswith(("norm.", "attn_pool", "fc_norm")) for path in graph.params)


def test_tokens_run_from_the_stem_to_the_pooling() -> None:
    model = jaxtl.load("test_vit2", weights=None, **TINY, img_size=(32, 48))
    shapes = {stage: x.shape for stage, x in model.intermediates(np.zeros((2, 32, 48, 3), np.float32)).items()}
    tokens = (2, 7, 16)  # six patches and a register
    assert shapes == {"stem": tokens, "blocks.0": tokens, "blocks.1": tokens, "norm": (2, 16)}


def test_remat_computes_single_blocks_again() -> None:
    def rematerialised(remat: bool) -> bool:
        graph = Graph("vit_tiny_patch16_224", **TINY, img_size=32, remat=remat)
        images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
        return "remat" in str(jax.make_jaxpr(lambda p, x: graph.apply(p, {}, x)[0])(unflatten(graph.params), images))

    assert rematerialised(True)
    assert not rematerialised(False)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_on_a_gpu_tokens_have_a_layout_where_gradients_flow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "on_gpu", lambda: True)
    graph = Graph(name, **TINY, img_size=28, patch_size=14)
    images = jax.ShapeDtypeStruct((1, 28, 28, 3), jnp.float32)

    def total(params, images):
        return graph.apply(params, {}, images)[0].sum()

    def layouts(function) -> int:
        return str(jax.make_jaxpr(function)(unflatten(graph.params), images)).count("layout_constraint")

    assert layouts(total) == 0
    assert layouts(jax.grad(total)) == 2  # of the tokens and of their gradient
    np.testing.assert_array_equal(jax.grad(lambda x: (side_by_side(x) ** 2).sum())(jnp.ones((1, 2, 3))), 2)


def test_a_distilled_network_averages_its_two_heads() -> None:
    model = jaxtl.load("deit_tiny_distilled_patch16_224", weights=None, **TINY, img_size=32)
    assert {path for path in model.graph.params if model.graph.in_head(path)} == {
        f"{head}.{leaf}" for head in ("head", "head_dist") for leaf in ("kernel", "bias")
    }
    images = torch_reference.images(32)
    last = model.intermediates(images, ["norm"])["norm"]
    one, two = (
        last[:, i] @ model.params[head]["kernel"] + model.params[head]["bias"]
        for i, head in enumerate(("head", "head_dist"))
    )
    np.testing.assert_allclose(model(images), (one + two) / 2, rtol=1e-5, atol=1e-6)
    again = jaxtl.from_torch(_state(model), model.graph.architecture, **{**TINY, "num_classes": 5}, img_size=32)
    assert again.params["head_dist"]["bias"].shape == (5,)


@pytest.mark.parametrize(
    ("name", "sizes", "change"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64}, {"img_size": 96}),
        ("vit_tiny_patch16_224", {"img_size": 112}, {"img_size": 48}),
        ("vit_tiny_patch16_224", {"img_size": 64}, {"img_size": (48, 80)}),
        ("vit_small_patch14_reg4_dinov2", {"img_size": 56}, {"img_size": 70}),
        ("test_vit2", {"img_size": 64}, {"img_size": 80}),
        ("deit_tiny_distilled_patch16_224", {"img_size": 64}, {"img_size": 80}),
        ("vit_base_patch16_siglip_224", {"img_size": 64}, {"img_size": 80}),
        ("flexivit_small", {"img_size": 64}, {"img_size": 80}),
        ("flexivit_small", {"img_size": 64, "patch_size": 16}, {"img_size": 64, "patch_size": 8}),
        ("vit_tiny_patch16_224", {"img_size": 64, "patch_size": 8}, {"img_size": 64, "patch_size": 16}),
        ("vit_tiny_patch16_224", {"img_size": 60, "patch_size": 10}, {"img_size": 60, "patch_size": (12, 15)}),
        ("vit_base_patch16_radio_v3", {"img_size": 64}, {"img_size": 112}),
        ("vit_base_patch16_radio_v3", {"img_size": 64}, {"img_size": 32}),
        ("vit_large_patch16_radio_v3", {"img_size": 64}, {"img_size": 48}),
    ],
)
def test_weights_for_other_sizes_are_resized_as_in_timm(name: str, sizes: dict, change: dict) -> None:
    small = {**TINY, "depth": 1}
    stored = torch_reference.randomised(name, **sizes, **small).state_dict()
    expected = _timms_filter(name)(stored, torch_reference.timm_network(name, **change, **small))
    model = jaxtl.from_torch(stored, name, **change, **small)
    ours = _state(model)
    assert ours.keys() == expected.keys()
    for key, tensor in expected.items():
        np.testing.assert_allclose(ours[key], tensor, atol=1e-5 * float(tensor.abs().max()), err_msg=key)
    assert any("pos_embed is resized" in note for note in model.notes)


def _timms_filter(name: str):
    """What timm does to a state dict of this architecture before it is loaded."""
    import timm
    from timm.models import deit, vision_transformer

    def build(*others, pretrained_filter_fn, **options):
        return pretrained_filter_fn

    with patch.object(deit if name.startswith("deit") else vision_transformer, "build_model_with_cfg", build):
        return timm.models.model_entrypoint(name)()


def test_preprocessing_follows_the_size_of_the_images() -> None:
    model = jaxtl.load("vit_tiny_patch16_224", weights=None, **TINY, img_size=(32, 48))
    assert model.preprocess.size == (32, 48)
    assert any("32 x 48" in note for note in model.notes)
    plain = jaxtl.load("vit_tiny_patch16_224", weights=None, **TINY)
    assert plain.preprocess.size == (224, 224)
    with pytest.raises(InputError, match="img_size=64"):
        model.graph.apply(model.params, {}, jnp.zeros((1, 64, 64, 3)))


def test_positions_that_are_no_square_are_refused() -> None:
    model = jaxtl.load("vit_tiny_patch16_224", weights=None, **TINY, img_size=(32, 48))
    with pytest.raises(InputError, match="no square"):
        jaxtl.from_torch(_state(model), "vit_tiny_patch16_224", **TINY, img_size=64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_pool": "mean"}, "global_pool is 'mean'"),
        ({"class_token": False}, "needs the class token"),
        ({"block_fn": "parallel"}, "block_fn is 'parallel'"),
        ({"embed_dim": 20}, "multiple"),
        ({"img_size": 8}, "holds no patch"),
        ({"img_size": "large"}, "number of pixels"),
        ({"distilled": True, "global_pool": "avg"}, "two heads"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.build("vit_tiny_patch16_224", **options)
