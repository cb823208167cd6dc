from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from local_files import shared
from small_models import small_model

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models.graph import Modes
from jaxtl.studies import distance as study
from jaxtl.studies.distance import domain_distance
from jaxtl.train.statistics import pooled_statistics

LAST = "layer1.2.bn2"


@pytest.fixture(scope="module")
def data():
    return jaxtl.open_data("digits", _model(), train_samples=60)


@pytest.fixture(scope="module")
def at_home(data) -> jaxtl.Model:
    """A network whose stored statistics are those of the data."""
    model = _model()
    for _ in model.graph.batch_norms:  # each pass puts one more BatchNorm right, in the order of the network
        modes = Modes(observe=frozenset(model.graph.batch_norms))
        model = model.replace(batch_stats=pooled_statistics(model, data, modes, 60, "train", None))
    return model


def _model() -> jaxtl.Model:
    model = small_model(until="layer1", in_chans=1, num_classes=10)
    return model.replace(preprocess=model.preprocess.replace(size=8))


def _with_last(model: jaxtl.Model, mean, var) -> jaxtl.Model:
    stage, block, norm = LAST.split(".")
    stats = {**model.batch_stats, stage: {**model.batch_stats[stage]}}
    stats[stage][block] = {**stats[stage][block], norm: {"mean": jnp.asarray(mean), "var": jnp.asarray(var)}}
    return model.replace(batch_stats=stats)


def _last(model: jaxtl.Model) -> tuple[np.ndarray, np.ndarray]:
    stage, block, norm = LAST.split(".")
    return tuple(np.asarray(model.batch_stats[stage][block][norm][name]) for name in ("mean", "var"))


def test_images_are_at_no_distance_from_their_own_statistics(at_home, data) -> None:
    found = domain_distance(at_home, data, batch_size=16)
    assert found.overall < 1e-3
    assert found.verdict == "near"
    assert found.images == 60
    assert list(found.by_stage) == ["stem", "layer1"]
    assert list(found.by_layer) == ["bn1", *(f"layer1.{block}.bn{norm}" for block in range(3) for norm in (1, 2))]


def test_a_known_shift_and_a_known_spread_come_out(at_home, data) -> None:
    mean, var = _last(at_home)
    shifted = domain_distance(_with_last(at_home, mean + 0.3 * np.sqrt(var), var), data)
    assert shifted.by_layer[LAST].shift == pytest.approx(0.3, rel=0.01)
    assert shifted.by_layer[LAST].spread == pytest.approx(0, abs=1e-3)
    assert shifted.by_layer[LAST].distance == pytest.approx(0.3, rel=0.01)
    assert shifted.by_stage["layer1"] == pytest.approx(0.3 / 6, rel=0.05)
    assert shifted.overall == pytest.approx(0.3 / 6 / 2, rel=0.05)
    for factor in (4.0, 0.25):
        spread = domain_distance(_with_last(at_home, mean, factor * var), data).by_layer[LAST]
        assert spread.spread == spread.distance == pytest.approx(np.log(2), rel=0.01)


def test_a_few_wild_or_dead_channels_do_not_count(at_home, data) -> None:
    mean, var = _last(at_home)
    wild_mean, wild_var = mean.copy(), var.copy()
    wild_mean[0] += 100.0
    wild_var[1:4] *= 1e-5
    found = domain_distance(_with_last(at_home, wild_mean, wild_var), data).by_layer[LAST]
    assert found.channels == len(mean) - 3
    assert found.distance < 0.01


def test_neither_batch_size_nor_chance_changes_it(data) -> None:
    model = _model()
    first, second = (domain_distance(model, data, batch_size=size, most=40) for size in (40, 9))
    assert first.images == second.images == 40
    assert first.overall == pytest.approx(second.overall, rel=1e-4)
    assert domain_distance(model, data, batch_size=9, most=40) == second


def test_the_table(data) -> None:
    found = domain_distance(_model(), data)
    text = str(found)
    assert text.splitlines()[0].strip() == (
        f"digits seen by {found.model}: {found.verdict} ({found.overall:.2f}, 60 images)"
    )
    for stage, distance in found.by_stage.items():
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [stage]]
        assert f"{distance:.3f}" in line


def test_what_has_no_distance(data) -> None:
    with pytest.raises(InputError, match="resnet50_gn has no BatchNorm"):
        domain_distance(jaxtl.load("resnet50_gn", weights=None, until="layer1"), data)
    with pytest.raises(InputError, match="the number of images must be at least 1, not 0"):
        domain_distance(_model(), data, most=0)
    with pytest.raises(InputError, match="split must be"):
        domain_distance(_model(), data, split="test")


def test_satellite_images_are_farther_from_imagenet_than_photographs() -> None:
    weights = shared("weights/resnet18_until_layer3.safetensors")
    model = jaxtl.load("resnet18", weights=weights, until="layer3", num_classes=2)
    model = model.replace(preprocess=model.preprocess.replace(size=160, crop_pct=0.91))
    found = {
        name: domain_distance(model, jaxtl.open_data(f"folder:{shared(f'data/{name}')}", model), batch_size=24, most=24)
        for name in ("hymenoptera", "flowers", "eurosat")
    }
    assert [found[name].verdict for name in found] == ["near", "near", "far"]
    assert found["hymenoptera"].overall < found["flowers"].overall < found["eurosat"].overall / 2
    for stage in found["flowers"].by_stage:
        assert found["flowers"].by_stage[stage] < found["eurosat"].by_stage[stage]
    assert study.NEAR < study.FAR
