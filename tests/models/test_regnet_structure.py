"""What is RegNet's own: widths that follow a line, blocks called b1, b2, ..., a convolution behind the last stage."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference
from small_models import batch, bits

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models.graph import Graph, Modes
from jaxtl.models.regnet import stage_plan

NAME = "regnety_002"
SMALL = {"depth": 5, "w0": 8, "wa": 8.0, "wm": 1.6, "stem_width": 8}


@pytest.fixture(scope="module")
def reference():
    return torch_reference.randomised(NAME, 32, num_classes=7, **SMALL)


def test_blocks_carry_timms_names() -> None:
    graph = Graph("regnety_002")
    assert graph.blocks == ("stem", "s1.b1", "s2.b1", *(f"s3.b{i + 1}" for i in range(4)), *_s4(7), "head.fc")
    assert graph.depth_of("s4.b7.se.fc1.kernel") == 1
    assert graph.depth_of("s1.b1.downsample.conv.kernel") == 13


def _s4(count: int) -> tuple[str, ...]:
    return tuple(f"s4.b{i + 1}" for i in range(count))


def test_the_last_convolution_is_a_stage_that_can_be_cut() -> None:
    whole = Graph("regnetz_005")
    assert whole.stages[-2:] == ("final_conv", "head.fc")
    cut = Graph("regnetz_005", until="s4")
    assert cut.stages[-2:] == ("s4", "head.fc")
    assert not any(path.startswith("final_conv") for path in cut.params)
    assert (whole.network.num_features, cut.network.num_features) == (1024, 256)


def test_blocks_that_change_the_shape_may_have_no_shortcut() -> None:
    graph = Graph("regnetz_005", drop_path_rate=0.5)
    assert not any("downsample" in path for path in graph.params)
    assert any("downsample" in path for path in Graph("regnetz_005", downsample="avg").params)


def test_new_heads_cuts_and_channels(reference) -> None:
    state = reference.state_dict()
    filters = state["stem.conv.weight"].numpy().transpose(2, 3, 1, 0)
    for options, head, width in (
        ({}, {"head.fc.kernel": (32, 7)}, 7),
        ({"num_classes": 3}, {"head.fc.kernel": (32, 3)}, 3),
        ({"num_classes": 3, "head": (6,)}, {"head.fc.0.kernel": (32, 6), "head.fc.2.kernel": (6, 3)}, 3),
        ({"num_classes": 0}, {}, 32),
        ({"num_classes": 3, "until": "s2"}, {"head.fc.kernel": (16, 3)}, 3),
        ({"num_classes": 0, "until": "stem"}, {}, 8),
        ({"num_classes": 3, "in_chans": 1}, {"head.fc.kernel": (32, 3)}, 3),
    ):
        model = jaxtl.from_torch(state, NAME, **SMALL, **options)
        graph, channels = model.graph, options.get("in_chans", 3)
        kernels = {path: leaf.shape for path, leaf in graph.params.items() if graph.in_head(path) and leaf.ndim > 1}
        assert kernels == head
        expected = filters if channels == 3 else filters.sum(2, keepdims=True)
        np.testing.assert_allclose(model.params["stem"]["conv"]["kernel"], expected, rtol=1e-6)
        images = jax.ShapeDtypeStruct((2, 32, 32, channels), jnp.float32)
        logits, _ = jax.eval_shape(model.apply, model.params, model.batch_stats, images)
        assert logits.shape == (2, width)


def test_stages_compute_what_timms_do_and_a_cut_network_the_same(reference) -> None:
    import torch

    images = torch_reference.images(32)
    model = jaxtl.from_torch(reference, NAME, **SMALL)
    maps = jax.jit(lambda p, s, x: model.graph.stage_maps(p, s, x, model.stages[:-1]))
    ours = maps(model.params, model.batch_stats, images)
    with torch.no_grad():
        x = torch_reference.torch_images(images)
        for stage in ("stem", "s1", "s2", "s3", "s4"):
            x = getattr(reference, stage)(x)
            assert torch_reference.difference(ours[stage], x.permute(0, 2, 3, 1)) < 1e-5, stage
    cut = jaxtl.from_torch(reference, NAME, **SMALL, until="s1", num_classes=0)
    np.testing.assert_allclose(cut(images), ours["s1"].mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    graph = Graph(NAME, **SMALL, drop_path_rate=0.4)
    whole = [getattr(getattr(graph.network, stage), block).drop_path.rate for stage, block in _blocks(graph)]
    assert whole == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert graph.random == tuple(f"{stage}.{block}.drop_path" for stage, block in _blocks(graph)[1:])
    cut = Graph(NAME, **SMALL, drop_path_rate=0.4, until="s2")
    rates = [getattr(getattr(cut.network, stage), block).drop_path.rate for stage, block in _blocks(cut)]
    assert rates == whole[: len(rates)]


def _blocks(graph: Graph) -> list[list[str]]:
    return [block.split(".") for block in graph.blocks[1:-1] if block != "final_conv"]


def test_batch_norms_follow_their_labels_or_a_policy(reference) -> None:
    model = jaxtl.from_torch(reference, NAME, **SMALL)
    norms = set(model.graph.batch_norms)
    in_s4 = {norm for norm in norms if norm.startswith("s4.")}
    assert {"stem.bn", "s4.b1.conv2.bn", "s4.b1.downsample.bn"} <= norms
    assert {norm.partition(".")[0] for norm in norms} == {"stem", "s1", "s2", "s3", "s4"}

    def label(path: str, leaf: object) -> str:
        return "all" if path.startswith(("s4", "head")) else "frozen"

    for policy, adapting in (("follow", in_s4), ("frozen", set()), ("adapt", norms), ({"s4": "frozen"}, set())):
        assert jaxtl.training_modes(model, label, policy).adapt == adapting
    assert _moved(model, jaxtl.training_modes(model, label)) == in_s4


def _moved(model: jaxtl.Model, modes: Modes) -> set[str]:
    """The BatchNorms whose statistics a batch changes."""
    run = jax.jit(lambda p, s, x: model.apply(p, s, x, modes)[1])
    before, after = bits(model.batch_stats), bits(run(model.params, model.batch_stats, batch(32)["image"]))
    return {path.rpartition(".")[0] for path in before if before[path] != after[path]}


def test_networks_with_other_norms_have_no_statistics() -> None:
    for norm in ("groupnorm_16", "evonorms0", "frntlu"):
        graph = Graph("regnety_040_sgn", norm_layer=norm, until="s1")
        assert not graph.batch_norms
        assert not graph.batch_stats


def test_norms_in_front_of_convolutions_leave_the_stem_bare() -> None:
    graph = Graph("regnetv_040", until="s1")
    assert [path for path in graph.params if graph.stage_of(path) == "stem"] == ["stem.kernel"]
    assert graph.stage_of("s1.b1.norm1.scale") == "s1"
    assert graph.params["s1.b1.downsample.kernel"].shape[:2] == (1, 1)


def test_two_ways_to_make_widths_fit_groups() -> None:
    assert [width for _, width, _ in stage_plan(24, 24.48, 2.54, 22, 16)] == [32, 64, 160, 384]
    assert [width for _, width, _ in stage_plan(24, 24.48, 2.54, 22, 16, group_min_ratio=0.9)] == [32, 64, 160, 400]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 2}, "give 2 stages"),
        ({"norm_layer": "groupnrm"}, "norm_layer is 'groupnrm'.*groupnorm"),
        ({"downsample": "max"}, "downsample is 'max'"),
        ({"output_stride": 4}, "output_stride is 4"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Graph("regnety_002", **options)
