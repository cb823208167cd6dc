"""What is ResNetV2's own: a head that is a 1x1 convolution, the final norm, standardised kernels."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference

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
        assert model(jnp.zeros((1, 32, 32, 3))).shape == (1, options["num_classes"] or 32)


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
