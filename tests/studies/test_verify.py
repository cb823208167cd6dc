"""The same network as timm's, and the stage from which on it is not."""

from __future__ import annotations

import jax
import pytest
from families import rotating
from timm_guest import import_timm

import jaxtl
from jaxtl import cli
from jaxtl.errors import InputError
from jaxtl.models.graph import Graph
from jaxtl.studies import verify as module
from jaxtl.studies.verify import TOLERANCE, verify

import_timm()


def test_all_stages_of_a_resnet_are_timms() -> None:
    found = verify("test_resnet", size=64)
    stages = ["stem", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert list(found.evaluation) == stages
    assert list(found.training) == [*stages, "statistics"]
    assert 0 < max(found.evaluation.values()) < TOLERANCE
    assert found.first_difference is None
    assert found.parameters == 469_688
    assert "the same as timm's" in str(found)


@pytest.mark.parametrize("stage", rotating(["layer2", "layer4", "fc"], 1))
def test_the_first_stage_that_differs_is_named(monkeypatch, stage: str) -> None:
    def damaged(*arguments):
        reference = untouched(*arguments)
        next(getattr(reference, stage).parameters()).data.mul_(1.01)
        return reference

    untouched = module._reference
    monkeypatch.setattr(module, "_reference", damaged)
    found = verify("test_resnet", size=64)
    assert found.first_difference == f"{stage} in evaluation mode"
    assert f"the first to differ is {stage} in evaluation mode" in str(found)


def test_a_wrong_momentum_shows_in_the_statistics_alone(monkeypatch) -> None:
    def damaged(*arguments):
        reference = untouched(*arguments)
        reference.layer3[0].bn1.momentum = 0.9
        return reference

    untouched = module._reference
    monkeypatch.setattr(module, "_reference", damaged)
    assert verify("test_resnet", size=64).first_difference == "statistics in training mode"


def test_a_network_without_batch_norm_has_one_mode() -> None:
    assert verify("resnet50_gn", size=64).training == {}


@pytest.mark.parametrize(
    ("name", "options"), rotating([("resnet10t", {"output_stride": 8}), ("vit_tiny_patch16_224", {"img_size": 64})], 1)
)
def test_weights_of_a_network_built_otherwise(name: str, options: dict, tmp_path) -> None:
    jaxtl.save(jaxtl.load(name, weights=None, num_classes=4, **options), tmp_path)
    assert verify(name, tmp_path).first_difference is None


def test_products_are_float32_on_any_device(monkeypatch) -> None:
    def seen(graph, *arguments):
        used.append(jax.config.jax_default_matmul_precision)
        return untouched(graph, *arguments)

    used: list[str | None] = []
    untouched = Graph.stages_with
    monkeypatch.setattr(Graph, "stages_with", seen)
    verify("test_resnet", size=64)
    assert used == ["highest", "highest"]
    assert jax.config.jax_default_matmul_precision is None


def test_what_timm_cannot_build(tmp_path) -> None:
    jaxtl.save(jaxtl.load("resnet10t", weights=None, num_classes=4, until="layer1"), tmp_path)
    with pytest.raises(InputError, match="timm cannot build resnet10t cut after 'layer1'"):
        verify("resnet10t", tmp_path)


def test_what_timm_does_not_have() -> None:
    with pytest.raises(InputError, match="timm has no network called 'cifar_resnet20'"):
        verify("cifar_resnet20")


def test_the_command_says_so_by_its_exit_code(monkeypatch, capsys) -> None:
    assert cli.main(["verify", "test_resnet", "--size", "64"]) == 0
    assert "the same as timm's" in capsys.readouterr().out
    monkeypatch.setattr(module, "TOLERANCE", 1e-9)
    assert cli.main(["verify", "test_resnet", "--size", "64"]) == 1
    assert "the first to differ is stem in evaluation mode" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", rotating(["deit_tiny_distilled_patch16_224", "test_convnext3", "mobilenetv3_small_050"], 1)
)
def test_other_kinds_of_stages_and_heads(name: str) -> None:
    found = verify(name, size=32)
    assert found.first_difference is None
    assert len(found.evaluation) >= 5
