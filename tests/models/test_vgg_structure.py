"""VGG's stages in timm's one row of layers, and how small maps reach its 7x7 layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.graph import Graph
from jaxtl.models.vgg import adaptive_average
from jaxtl.trees import unflatten

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(("size", "target"), [((1, 1), (7, 7)), ((3, 9), (7, 9)), ((6, 4), (7, 7)), ((9, 5), (4, 3))])
def test_adaptive_average_is_torchs(size: tuple[int, int], target: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x.transpose(0, 3, 1, 2)), target)
    np.testing.assert_allclose(adaptive_average(x, *target), expected.numpy().transpose(0, 2, 3, 1), atol=1e-6)


@pytest.mark.parametrize("name", ["vgg11", "vgg16_bn"])
def test_a_stage_ends_with_its_pooling(name: str) -> None:
    network = registry.build(name)
    modules = network.stage_modules
    rows = [path for stage in network.stages[:-2] for path in modules[stage]]
    assert rows == [f"features.{i}" for i in range(network.features.length)]
    shapes = [
        jax.eval_shape(
            Graph(name, until=stage).features, *_abstract(Graph(name, until=stage)), jnp.zeros((1, 64, 64, 3))
        )
        for stage in network.stages[:-1]
    ]
    assert [shape.shape[-1] for shape in shapes] == [64, 128, 256, 512, 512, 4096]


def test_a_cut_network_has_no_wide_layers() -> None:
    assert not any(path.startswith("pre_logits") for path in Graph("vgg11", until="stage4").params)


def test_images_too_small() -> None:
    graph = Graph("vgg11")
    assert jax.eval_shape(graph.features, *_abstract(graph), jnp.zeros((1, 32, 33, 3))).shape == (1, 4096)
    with pytest.raises(InputError, match="the images are too small"):
        jax.eval_shape(graph.features, *_abstract(graph), jnp.zeros((1, 31, 64, 3)))


def test_unknown_normalisation() -> None:
    with pytest.raises(InputError, match="norm_layer is 'groupnorm'"):
        registry.build("vgg11", norm_layer="groupnorm")


def _abstract(graph: Graph):
    return unflatten(graph.params), unflatten(graph.batch_stats)
