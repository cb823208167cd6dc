"""What is ResNetV2's own: a head that is a 1x1 convolution, the final norm, standardised kernels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference
from small_models import batch, bits

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models.graph import Graph
from jaxtl.models.resnetv2 import StdConv
from jaxtl.pretrained.names import state_dict
from jaxtl.train.probe import Probe, with_probe

NAME = "resnetv2_18"
SMALL = {"layers": (1, 1, 1, 1), "channels": (16, 16, 24, 32), "stem_chs": 16}


@pytest.fixture(scope="module")
def reference():
    return torch_reference.randomised(NAME, 32, num_classes=7, **SMALL)


def test_the_heads_kernel_is_stored_as_a_convolutions(reference) -> None:
    model = jaxtl.from_torch(reference, NAME, **SMALL)
    assert model.num_classes == 7
    assert model.params["head"]["fc"]["kernel"].shape == (1, 1, 32, 7)
    stored = state_dict(model.params, model.batch_stats)
    for name, tensor in reference.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(stored[name], tensor.numpy())


def test_new_heads_of_either_kind(reference) -> None:
    for options, kernels in (
        ({"num_classes": 3}, {"head.fc.weight": (3, 32, 1, 1)}),
        ({"num_classes": 7, "head": (6,)}, {"head.fc.0.weight": (6, 32), "head.fc.2.weight": (7, 6)}),
        ({"num_classes": 0}, {}),
        ({"num_classes": 3, "until": "stages.1"}, {"head.fc.weight": (3, 16, 1, 1)}),
    ):
        model = jaxtl.from_torch(reference.state_dict(), NAME, **SMALL, **options)
        stored = state_dict(model.params, model.batch_stats)
        heads = {name: array.shape for name, array in stored.items() if "head" in name and name.endswith("weight")}
        assert heads == kernels
        np.testing.assert_array_equal(stored["stem.conv.weight"], reference.state_dict()["stem.conv.weight"].numpy())
        assert _logits_shape(model) == (2, options["num_classes"] or 32)


def _logits_shape(model: jaxtl.Model, channels: int = 3) -> tuple[int, ...]:
    images = jax.ShapeDtypeStruct((2, 32, 32, channels), jnp.float32)
    return jax.eval_shape(model.apply, model.params, model.batch_stats, images)[0].shape


def test_an_mlp_head_comes_back_from_its_state_dict(reference) -> None:
    model = jaxtl.from_torch(reference.state_dict(), NAME, **SMALL, num_classes=3, head=(6,))
    stored = state_dict(model.params, model.batch_stats)
    again = jaxtl.from_torch(stored, NAME, **SMALL, head=(6,))
    images = jnp.asarray(torch_reference.images(32))
    np.testing.assert_array_equal(model(images), again(images))
    with pytest.raises(InputError, match=r"head=\(6,\)"):
        jaxtl.from_torch(stored, NAME, **SMALL)


def test_a_linear_probe_becomes_the_head(reference) -> None:
    model = jaxtl.from_torch(reference, NAME, **SMALL)
    generator = np.random.default_rng(0)
    probe = Probe(generator.standard_normal((32, 7)).astype(np.float32), np.ones(7, np.float32), 1.0, {}, None)
    images = jnp.asarray(torch_reference.images(32))
    expected = np.asarray(model.features(images)) @ probe.kernel + probe.bias
    np.testing.assert_allclose(with_probe(model, probe)(images), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="32x7"):
        with_probe(model, Probe(np.ones((8, 7), np.float32), np.ones(7, np.float32), 1.0, {}, None))


def test_the_final_norm_belongs_to_the_last_stage_and_is_cut_with_it() -> None:
    graph = Graph(NAME)
    assert graph.stage_of("norm.scale") == "stages.3"
    assert graph.depth_of("norm.scale") == graph.depth_of("stages.3.blocks.1.conv1.kernel") == 1
    assert not any(path.startswith("norm") for path in Graph(NAME, until="stages.2").params)


def test_stages_and_the_depth_of_blocks() -> None:
    graph = Graph(NAME, **{**SMALL, "layers": (1, 2, 1, 1)})
    assert graph.stages == ("stem", "stages.0", "stages.1", "stages.2", "stages.3", "head.fc")
    body = ("stages.0.blocks.0", "stages.1.blocks.0", "stages.1.blocks.1", "stages.2.blocks.0", "stages.3.blocks.0")
    assert graph.blocks == ("stem", *body, "head.fc")
    assert graph.depth_of("stem.conv.kernel") == 6
    assert graph.depth_of("stages.1.blocks.0.downsample.conv.kernel") == 4
    assert [graph.depth_of(f"head.fc.{leaf}") for leaf in ("kernel", "bias")] == [0, 0]


def test_other_channels(reference) -> None:
    filters = reference.state_dict()["stem.conv.weight"].numpy().transpose(2, 3, 1, 0)
    for channels, expected in ((1, filters.sum(2, keepdims=True)), (6, np.tile(filters, (1, 1, 2, 1)) / 2)):
        model = jaxtl.from_torch(reference, NAME, **SMALL, in_chans=channels)
        np.testing.assert_allclose(model.params["stem"]["conv"]["kernel"], expected, rtol=1e-5, atol=1e-7)
        assert _logits_shape(model, channels) == (2, 7)


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    layers = (1, 2, 1, 1)
    network = Graph(NAME, **{**SMALL, "layers": layers}, drop_path_rate=0.4).network
    rates = [
        getattr(getattr(network.stages, str(stage)).blocks, str(block)).drop_path.rate
        for stage, count in enumerate(layers)
        for block in range(count)
    ]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_batch_norms_follow_their_labels_or_a_policy(reference) -> None:
    model = jaxtl.from_torch(reference, NAME, **SMALL)
    norms = set(model.graph.batch_norms)
    last = {"stages.3.blocks.0.norm1", "stages.3.blocks.0.norm2", "norm"}
    assert norms == {f"stages.{stage}.blocks.0.norm{i}" for stage in range(4) for i in (1, 2)} | {"norm"}

    def label(path: str, leaf: object) -> str:
        return "frozen" if path.startswith(("stem", "stages.0", "stages.1", "stages.2")) else "all"

    for policy, adapting in (
        ("follow", last),
        ("frozen", set()),
        ("adapt", norms),
        ({"stages.3": "frozen", "*": "adapt"}, norms - last),
    ):
        assert jaxtl.training_modes(model, label, policy).adapt == adapting
    modes = jaxtl.training_modes(model, label)
    run = jax.jit(lambda p, s, x: model.apply(p, s, x, modes)[1])
    before, after = bits(model.batch_stats), bits(run(model.params, model.batch_stats, batch(32)["image"]))
    assert {path.rpartition(".")[0] for path in before if before[path] != after[path]} == last


def test_group_norms_and_their_relatives_have_no_statistics() -> None:
    for name in ("resnetv2_50x1_bit", "resnetv2_50d_gn", "resnetv2_50d_evos", "resnetv2_50d_frn"):
        graph = Graph(name, until="stages.0")
        assert not graph.batch_norms
        assert not graph.batch_stats


def test_stages_compute_what_timms_do_and_a_cut_network_the_same(reference) -> None:
    import torch

    images = torch_reference.images(32)
    model = jaxtl.from_torch(reference, NAME, **SMALL)
    maps = jax.jit(lambda p, s, x: model.graph.stage_maps(p, s, x, model.stages[:-1]))
    ours = maps(model.params, model.batch_stats, images)
    with torch.no_grad():
        x = reference.stem(torch_reference.torch_images(images))
        assert torch_reference.difference(ours["stem"], x.permute(0, 2, 3, 1)) < 1e-5
        for index, stage in enumerate(reference.stages):
            x = stage(x)
            theirs = reference.norm(x) if index == 3 else x
            assert torch_reference.difference(ours[f"stages.{index}"], theirs.permute(0, 2, 3, 1)) < 1e-5, index
    cut = jaxtl.from_torch(reference, NAME, **SMALL, until="stages.0", num_classes=0)
    np.testing.assert_allclose(cut(images), ours["stages.0"].mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_standardised_kernels_ignore_scale_and_shift() -> None:
    conv = StdConv(3, 4, 3, bias=False)
    generator = np.random.default_rng(0)
    kernel = jnp.asarray(generator.standard_normal((3, 3, 3, 4)), jnp.float32)
    images = jnp.asarray(torch_reference.images(16))
    conv.kernel.set_value(kernel)
    expected = conv(images)
    conv.kernel.set_value(5 * kernel + 2)
    np.testing.assert_allclose(conv(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv_layer": "stdd"}, "conv_layer is 'stdd'"),
        ({"norm_layer": "none"}, "norm_layer is 'none'"),
        ({"stem_type": "deeper"}, "stem_type is 'deeper'"),
        ({"output_stride": 4}, "output_stride is 4"),
        ({"preact": False}, "basic blocks"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Graph(NAME, **options)
