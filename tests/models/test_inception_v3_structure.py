"""Inception's stages, blocks and smallest images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxtl.errors import InputError
from jaxtl.models.graph import Graph
from jaxtl.trees import unflatten


def test_each_mixed_module_is_a_block() -> None:
    graph = Graph("inception_v3")
    assert len(graph.blocks) == 13
    assert graph.blocks[-2:] == ("Mixed_7c", "fc")
    assert graph.stage_of("Mixed_6e.branch7x7_2.conv.kernel") == "Mixed_6"
    assert graph.depth_of("Mixed_7a.branch3x3_1.bn.scale") == 3
    assert graph.depth_of("Conv2d_4a_3x3.conv.kernel") == 12
    assert graph.params["Mixed_6b.branch7x7_2.conv.kernel"].shape == (1, 7, 128, 128)


@pytest.mark.parametrize(("until", "smallest"), [("Mixed_7", 75), ("Mixed_6", 43), ("stem", 27)])
def test_images_too_small(until: str, smallest: int) -> None:
    graph = Graph("inception_v3", until=until)
    trees = unflatten(graph.params), unflatten(graph.batch_stats)
    width = graph.network.num_features
    assert jax.eval_shape(graph.features, *trees, jnp.zeros((1, smallest, 80, 3))).shape == (1, width)
    with pytest.raises(InputError, match="the images are too small"):
        jax.eval_shape(graph.features, *trees, jnp.zeros((1, smallest - 1, 80, 3)))
