"""Where DenseNet's stages end, and its options."""

from __future__ import annotations

import pytest
import torch_reference

from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.graph import Graph


def test_stages_end_where_timm_takes_features() -> None:
    torch = pytest.importorskip("torch")
    options = {"growth_rate": 8, "block_config": (1, 2)}
    reference = torch_reference.randomised("densenet121", **options)
    network = torch_reference.ported("densenet121", reference, **options)
    images = torch_reference.images(64)
    with torch.no_grad():
        expected = reference.forward_intermediates(torch_reference.torch_images(images), intermediates_only=True)[1:]
    taken = ("features.denseblock1", "features.norm5")
    x = images
    for stage in network.stages[:-1]:
        x = network.run_stage(stage, x)
        if stage in taken:
            maps = expected[taken.index(stage)].permute(0, 2, 3, 1)
            assert torch_reference.difference(x, maps) < 1e-5, stage


def test_blocks_are_dense_layers_with_the_transition_before_them() -> None:
    graph = Graph("densenet121", block_config=(2, 1))
    assert graph.blocks == (
        "stem",
        "features.denseblock1.denselayer1",
        "features.denseblock1.denselayer2",
        "features.denseblock2.denselayer1",
        "features.norm5",
        "classifier",
    )
    assert graph.depth_of("features.transition1.conv.kernel") == 2


@pytest.mark.parametrize("option", [{"stem_type": "depe"}, {"aa_layer": "avg"}, {"act_layer": "rleu"}])
def test_unknown_options(option: dict[str, str]) -> None:
    with pytest.raises(InputError, match=next(iter(option.values()))):
        registry.build("densenet121", **option)
