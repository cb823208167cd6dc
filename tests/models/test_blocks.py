"""Blocks and depth: what layer-wise rates and "the last N blocks" count."""

from __future__ import annotations

import pytest

from jaxtl.models import registry
from jaxtl.models.cifar_resnet import ARCHITECTURES as CIFAR
from jaxtl.models.graph import Graph
from jaxtl.models.layers import Conv, Linear, Stack
from jaxtl.models.network import Network
from jaxtl.models.resnet import ARCHITECTURES as RESNETS


def blocks_by_table(options: dict) -> list[str]:
    layers = options["layers"] if "layers" in options else (options["blocks"],) * 3
    return ["stem", *(f"layer{i + 1}.{j}" for i, count in enumerate(layers) for j in range(count)), "fc"]


BY_BLOCKS = {tuple(blocks_by_table(options)): name for name, options in sorted({**RESNETS, **CIFAR}.items())}


@pytest.mark.parametrize("name", BY_BLOCKS.values())
def test_blocks_of_resnets_of_every_depth(name: str) -> None:
    graph = Graph(name)
    assert list(graph.blocks) == blocks_by_table({**RESNETS, **CIFAR}[name])
    depths = {name: depth for depth, name in enumerate(reversed(graph.blocks))}
    for path in (*graph.params, *graph.batch_stats):
        stage, number, *_ = path.split(".")
        block = f"{stage}.{number}" if stage.startswith("layer") else "fc" if stage == "fc" else "stem"
        assert graph.depth_of(path) == depths[block], path


def test_numbers_with_two_digits_are_in_order() -> None:
    graph = Graph("cifar_resnet110")
    assert [graph.depth_of(f"layer3.{block}.conv1.kernel") for block in (17, 10, 9, 2, 1)] == [1, 8, 9, 16, 17]


def test_cut_and_headless_networks_count_from_their_own_end() -> None:
    cut = Graph("resnet18", until="layer2", num_classes=3)
    assert cut.blocks[-2:] == ("layer2.1", "fc")
    assert cut.depth_of("layer2.1.bn1.scale") == 1
    headless = Graph("resnet18", num_classes=0)
    assert headless.depth_of("layer4.1.bn1.scale") == 1
    assert {headless.depth_of(path) for path in headless.params} == set(range(1, 10))


def test_what_is_in_no_block() -> None:
    with pytest.raises(KeyError, match=r"layer9.0.conv1 belongs to no block of resnet18"):
        Graph("resnet18").depth_of("layer9.0.conv1")


def test_an_mlp_head_and_stages_of_plain_layers_are_one_block() -> None:
    assert registry.build("cifar_resnet20", head=(8, 8)).block_steps[-1] == ("fc", ("fc",))
    assert registry.build("resnet18d").block_steps[0] == ("stem", ("conv1", "bn1", "maxpool"))

    class Plain(Network):
        def __init__(self) -> None:
            self.stages = ("body", "empty", "fc")
            self.num_features, self.num_classes = 4, 2
            self.body = Stack(Conv(3, 4, 3), Conv(4, 4, 3))
            self.fc = Linear(4, 2)

    assert Plain().block_steps == (("body", ("body",)), ("empty", ()), ("fc", ("fc",)))
