"""The range test: ratios kept, nothing given is changed, and suggestions that follow from the curve."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import bits

import jaxtl
from jaxtl.finetune.strategies import expand
from jaxtl.recipe import Recipe
from jaxtl.studies.lr_finder import find_rates, suggestions
from jaxtl.train.fitted import fitted
from jaxtl.train.state import TrainState
from jaxtl.trees import map_with_path


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, until="layer1")
    return model.replace(preprocess=model.preprocess.replace(size=8))


@pytest.fixture(scope="module")
def data(model):
    return jaxtl.open_data("digits", model)


@pytest.fixture(scope="module")
def found(model, data):
    recipe = Recipe.from_keywords(batch_size=32, **{"optimizer.fast.lr": 1e-2})
    before = bits(model.params), bits(model.batch_stats)
    found = find_rates(model, data, recipe, lowest=1e-5, highest=1e4, steps=60)
    assert (bits(model.params), bits(model.batch_stats)) == before
    return found


def test_programs_are_kept(model, data, monkeypatch) -> None:
    kept: list[bool] = []
    monkeypatch.setattr("jaxtl.studies.lr_finder.keep_compiled", lambda: kept.append(True))
    find_rates(model, data, Recipe.from_keywords(batch_size=32), steps=10)
    assert kept == [True]


def test_rates_grow_exponentially_and_keep_their_ratios(found) -> None:
    assert found.rates == {"slow": 1e-4, "fast": 1e-2}
    growth = found.factors[1:] / found.factors[:-1]
    np.testing.assert_allclose(growth, growth[0], rtol=1e-9)
    assert found.factors[0] * found.rates["fast"] == pytest.approx(1e-5)
    for rule in found.suggestions:
        rates = found.rates_at(rule)
        assert rates["fast"] / rates["slow"] == pytest.approx(100)


def test_it_finds_rates_that_learn_and_stops_where_they_do_not(model, data, found) -> None:
    assert len(found.losses) < 60, "a rate of 10000 should have diverged"
    assert set(found.suggestions) == {"steepest", "minimum/10", "valley"}
    assert np.isfinite(found.losses).all()
    rates = found.rates_at("valley")
    fields = {f"optimizer.{group}.lr": rate for group, rate in rates.items()}
    tuned = jaxtl.fine_tune(model, data, epochs=2, progress=False, **fields)
    tiny = jaxtl.fine_tune(model, data, epochs=2, progress=False, **{name: rate / 1e3 for name, rate in fields.items()})
    assert tuned.history[-1]["train_loss"] < tiny.history[-1]["train_loss"]


def test_a_curve_that_only_rises_suggests_nothing() -> None:
    factors = np.geomspace(1e-3, 1e3, 7)
    assert suggestions(factors, [1, 2, 3, 4, 5, 6, 7]) == {}
    assert suggestions(factors[:2], [2, 1]) == {}


def test_the_rules() -> None:
    factors = np.geomspace(1e-3, 1e3, 7)
    found = suggestions(factors, [5.0, 4.9, 4.0, 2.0, 1.9, 3.0, 20.0])
    assert found == pytest.approx({"steepest": 1e-1, "minimum/10": 1.0, "valley": 1e-1})


def test_noise_between_the_first_batches_suggests_nothing() -> None:
    """The averages of the first steps are of one batch, of two, and so on."""
    falling = np.interp(range(50), [25, 40], [2.0, 1.0])
    factors = np.geomspace(1e-7, 1e1, 50)
    quiet = suggestions(factors, falling)
    assert suggestions(factors, np.r_[3.0, 2.1, falling[2:]]) == quiet, "a hard batch at first"
    assert suggestions(factors, np.r_[0.5, 1.6, falling[2:]]) == quiet, "an easy batch at first"
    assert suggestions(factors, np.r_[3.0, 2.1, np.linspace(2.0, 4.0, 48)]) == {}, "nothing falls behind them"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "from a lower to a higher rate"),
        ({"steps": 3}, "at least 10 steps, not 3"),
        ({"phase": 1}, "has 1 phases, counted from 0; there is none with the number 1"),
    ],
)
def test_ranges_that_are_none(model, data, options: dict, message: str) -> None:
    with pytest.raises(jaxtl.InputError, match=message):
        find_rates(model, data, Recipe(), **options)


@pytest.mark.parametrize("fields", [{"strategy": "lp-ft"}, {"recalibrate": True}])
def test_it_starts_where_training_starts(model, data, monkeypatch, fields) -> None:
    """From a head that was fitted, and from new statistics, where the recipe has them."""
    started: list[jaxtl.Model] = []
    create = TrainState.create

    def noted(model, *rest, **options):
        started.append(model)
        return create(model, *rest, **options)

    monkeypatch.setattr(TrainState, "create", noted)
    recipe = Recipe.from_keywords(batch_size=32, **fields)
    found = find_rates(model, data, recipe, steps=10)
    start = fitted(model, data, expand(recipe, model.graph))
    assert (bits(started[0].params), bits(started[0].batch_stats)) == (bits(start.params), bits(start.batch_stats))
    assert (bits(start.params), bits(start.batch_stats)) != (bits(model.params), bits(model.batch_stats))
    assert set(found.settings) == {"optimizer.slow.lr", "optimizer.fast.lr"}


def test_a_recipe_without_training_has_no_rates(model, data) -> None:
    with pytest.raises(jaxtl.InputError, match=r"trains for 0 epochs, so that no rate is used.*strategy=full"):
        find_rates(model, data, Recipe(strategy="linear-probe"))


def test_a_first_step_that_is_not_finite(model, data) -> None:
    broken = model.replace(params=map_with_path(lambda path, leaf: leaf * np.float32("nan"), model.params))
    with pytest.raises(FloatingPointError, match="not finite in the first step"):
        find_rates(broken, data, Recipe(batch_size=16))
