"""What a run that is continued, or refused, finds and leaves."""

from __future__ import annotations

import json

import pytest
from small_models import bits

import jaxtl
from jaxtl import cache
from jaxtl.errors import InputError
from jaxtl.recipe import Recipe
from jaxtl.train.loop import Loop

RECIPE = Recipe.from_keywords(
    groups={"layer1": "slow", "head": "fast", "*": "frozen"}, epochs=3, batch_size=10, eval_batch_size=40
)


class _StoppedError(Exception):
    pass


def _data(model: jaxtl.Model, **options) -> jaxtl.data.Data:
    return jaxtl.open_data("digits", model, **({"samples_per_class": 4, "val_fraction": 0.05} | options))


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    found = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, until="layer1")
    return found.replace(preprocess=found.preprocess.replace(size=8))


def _stopped_after(done: int, monkeypatch: pytest.MonkeyPatch, *given, **fields) -> None:
    """Runs, and stops before the next epoch."""
    with monkeypatch.context() as patch:
        advance = Loop.advance

        def stops(loop: Loop, bar) -> None:
            if len([record for record in loop.history if record["epoch"]]) == done:
                raise _StoppedError
            advance(loop, bar)

        patch.setattr(Loop, "advance", stops)
        with pytest.raises(_StoppedError):
            jaxtl.fine_tune(*given, progress=False, **fields)


@pytest.mark.parametrize("phases", [(), ({"epochs": 1, "train": ["fast"]}, {"epochs": 2})], ids=["one", "two"])
def test_averages_of_a_network_without_batch_norms(phases, tmp_path, monkeypatch) -> None:
    network = jaxtl.load("test_vit", weights=None, num_classes=10, in_chans=1, img_size=32)
    recipe = RECIPE.replace(groups={"head": "fast", "*": "slow"}, ema=0.9, phases=phases)
    given = network, _data(network), recipe
    whole = jaxtl.fine_tune(*given, output=tmp_path / "whole", progress=False)
    _stopped_after(1, monkeypatch, *given, output=tmp_path / "stopped")
    continued = jaxtl.fine_tune(*given, output=tmp_path / "stopped", resume=True, progress=False)
    assert bits(continued.model.params) == bits(whole.model.params)


def test_a_refusal_leaves_the_recipe_and_the_split_of_the_run(model, tmp_path) -> None:
    phases = [{"epochs": 1, "train": ["fast"]}, {"epochs": 1}]
    run = {"phases": phases, "epochs": 2, "output": tmp_path / "run"}
    jaxtl.fine_tune(model, _data(model), RECIPE, progress=False, **run)
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir() if file.is_file()}
    other = RECIPE.replace(epochs=1, output=str(tmp_path / "run"))  # of one phase alone
    with pytest.raises(InputError, match=r"epochs: 2 then, 1 now; phases: .*Restore these settings"):
        jaxtl.fine_tune(model, _data(model, seed=1), other, resume=True, progress=False)
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir() if file.is_file()} == before
    assert {"recipe.yaml", "split.json"} <= set(before)


def test_features_that_were_cached_and_are_not_any_more(model, tmp_path, monkeypatch) -> None:
    """With crops at random the images would be others from here on."""
    data = _data(model, augment="light")
    fields = {"epochs": 4, "views": 2, "output": tmp_path / "run"}
    _stopped_after(3, monkeypatch, model, data, RECIPE, **fields)
    monkeypatch.setattr("jaxtl.train.cached_phases.RESIDENT", 0)
    monkeypatch.setattr(cache, "room", lambda: 0)
    with pytest.raises(InputError, match=r"features: \[\['stem', 2, \w+\]\] then, \[None\] now"):
        jaxtl.fine_tune(model, data, RECIPE, resume=True, progress=False, **fields)


def test_a_fitted_start_that_stays_the_best_is_kept(model, tmp_path, monkeypatch) -> None:
    rates = {"slow": {"lr": 1e-9}, "fast": {"lr": 10.0}}
    recipe = RECIPE.replace(linear_probe=True, optimizer=rates, schedule={"name": "constant"}, epochs=2)
    given = model, _data(model, samples_per_class=12), recipe
    found = jaxtl.fine_tune(*given, output=tmp_path / "run", progress=False)
    best = jaxtl.load(tmp_path / "run" / "best")
    assert found.best["epoch"] == 0
    measured = jaxtl.evaluate(best.replace(classes=found.model.classes), given[1], batch_size=40)
    assert measured["accuracy"] == found.best["val_accuracy"]
    said = json.loads((tmp_path / "run" / "best" / "config.json").read_text())["jaxtl"]["training"]["result"]
    assert said["epoch"] == 0
    _stopped_after(0, monkeypatch, *given, output=tmp_path / "stopped")
    monkeypatch.setattr("jaxtl.train.fitted.linear_probe", None)
    continued = jaxtl.fine_tune(*given, output=tmp_path / "stopped", resume=True, progress=False)
    assert bits(continued.model.params) == bits(found.model.params)


@pytest.mark.parametrize("fields", [{"views": 2}, {"feature_cache": False, "recalibrate": True}])
def test_other_batches_of_features_or_statistics_are_another_run(model, tmp_path, monkeypatch, fields) -> None:
    """They would have other bits."""
    given = model, _data(model), RECIPE.replace(**fields, output=str(tmp_path / "run"))
    _stopped_after(1, monkeypatch, *given)
    with pytest.raises(InputError, match="another run, so it cannot be continued: eval_batch_size: 40 then, 20 now"):
        jaxtl.fine_tune(*given, resume=True, progress=False, eval_batch_size=20)


def test_other_batches_in_validation_alone_are_none(model, tmp_path, monkeypatch) -> None:
    given = model, _data(model), RECIPE.replace(epochs=2, feature_cache=False, output=str(tmp_path / "run"))
    _stopped_after(1, monkeypatch, *given)
    continued = jaxtl.fine_tune(*given, resume=True, progress=False, eval_batch_size=20)
    assert len(continued.history) == 2
