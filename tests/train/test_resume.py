"""What a run that is continued, or refused, finds and leaves."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from families import rotating
from PIL import Image
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


@pytest.mark.parametrize(
    "phases", rotating([[], [{"epochs": 1, "train": ["fast"]}, {"epochs": 2}]], 1), ids=["one", "two"]
)
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


def test_features_for_which_there_is_no_room_any_more(model, tmp_path, monkeypatch) -> None:
    """With crops at random the images would be others from here on."""
    data = _data(model, augment="light")
    fields = {"epochs": 4, "views": 2, "output": tmp_path / "run"}
    _stopped_after(3, monkeypatch, model, data, RECIPE, **fields)
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("jaxtl.train.cached_phases.total_memory", lambda: 1000)
    monkeypatch.setattr(cache, "room", lambda: 0)
    remedy = "free some space, name another folder, or use a machine with more memory"
    with pytest.raises(InputError, match=f"began with cached features of stem, which take .* in memory: {remedy}"):
        jaxtl.fine_tune(model, data, RECIPE, resume=True, progress=False, **fields)


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)], ids=["little room", "much room"])
def test_features_are_used_as_when_the_run_began(before, after, model, tmp_path, monkeypatch) -> None:
    """Whatever the disk and the memory have room for by now."""
    data = _data(model, augment="light")
    fields = {"epochs": 3, "views": 2}
    resident = {True: 0.25, False: 0}
    for share in ("RESIDENT", "IN_MEMORY"):
        monkeypatch.setattr(f"jaxtl.train.cached_phases.{share}", resident[before])
    monkeypatch.setattr(cache, "room", lambda: 0)
    monkeypatch.setattr("jaxtl.train.cached_phases._slow_in_a_loop", lambda *_: False)
    whole = jaxtl.fine_tune(model, data, RECIPE, progress=False, **fields)
    _stopped_after(1, monkeypatch, model, data, RECIPE, output=tmp_path / "run", **fields)
    for share in ("RESIDENT", "IN_MEMORY"):
        monkeypatch.setattr(f"jaxtl.train.cached_phases.{share}", resident[after])
    continued = jaxtl.fine_tune(model, data, RECIPE, output=tmp_path / "run", resume=True, progress=False, **fields)
    assert bits(continued.model.params) == bits(whole.model.params)


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> str:
    """Large ones, which are kept reduced on disk, and then have other pixels."""
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("jaxtl.data.keeping.SMALL", 0)
    generator = np.random.default_rng(0)
    for place, count in {"train/a": 10, "train/b": 10, "val/a": 3, "val/b": 3}.items():
        folder = tmp_path / "pictures" / place
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (64, 64), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return f"folder:{tmp_path / 'pictures'}"


@pytest.mark.parametrize(
    ("limits", "kinds"),
    [(("1000000000", "0"), ("disk", "stream")), (("0", "1000000000"), ("stream", "disk"))],
    ids=["less room", "more room"],
)
def test_images_are_kept_as_when_the_run_began(limits, kinds, pictures, model, tmp_path, monkeypatch) -> None:
    network = jaxtl.load("cifar_resnet20", weights=None, num_classes=2, in_chans=1, until="layer1")
    network = network.replace(preprocess=model.preprocess)
    recipe = RECIPE.replace(groups={"head": "fast", "*": "slow"})

    def opened() -> jaxtl.data.Data:
        return jaxtl.open_data(pictures, network, augment="light")

    monkeypatch.setenv("JAXTL_CACHE_LIMIT", limits[0])
    whole = jaxtl.fine_tune(network, opened(), recipe, progress=False)
    _stopped_after(1, monkeypatch, network, opened(), recipe, output=tmp_path / "run")
    if kinds[0] == "disk":
        monkeypatch.setattr("jaxtl.data.keeping.read", lambda key: None)
    monkeypatch.setenv("JAXTL_CACHE_LIMIT", limits[1])
    data = opened()
    assert data.storage.kind == kinds[1]
    if kinds[0] == "disk":
        with pytest.raises(InputError, match=r"images kept as 'disk', .*: .* where 0 kB may be used: free some space"):
            jaxtl.fine_tune(network, data, recipe, output=tmp_path / "run", resume=True, progress=False)
        monkeypatch.setenv("JAXTL_CACHE_LIMIT", limits[0])
    continued = jaxtl.fine_tune(network, data, recipe, output=tmp_path / "run", resume=True, progress=False)
    assert bits(continued.model.params) == bits(whole.model.params)
    other = jaxtl.open_data(pictures, network, augment="light", storage=kinds[1])
    with pytest.raises(InputError, match=rf"data: .*; storage: '{kinds[0]}' then, '{kinds[1]}' now"):
        jaxtl.fine_tune(network, other, recipe, output=tmp_path / "run", resume=True, progress=False)


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
    monkeypatch.setattr("jaxtl.train.fine_tune.fitted", None)
    continued = jaxtl.fine_tune(*given, output=tmp_path / "stopped", resume=True, progress=False)
    assert bits(continued.model.params) == bits(found.model.params)


def test_two_at_once_are_refused_and_the_second_may_follow(model, tmp_path, monkeypatch) -> None:
    given = model, _data(model), RECIPE.replace(output=str(tmp_path / "run"))
    advance = Loop.advance
    refused: list[str] = []

    def beside(loop: Loop, bar) -> None:
        if len(loop.history) == 1:
            for resume in (True, False):
                with pytest.raises(InputError) as error:
                    jaxtl.fine_tune(*given, resume=resume, progress=False)
                refused.append(str(error.value))
            raise _StoppedError
        advance(loop, bar)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", beside)
        with pytest.raises(_StoppedError):
            jaxtl.fine_tune(*given, progress=False)
    assert len(refused) == 2
    assert all(f"another process is training into {tmp_path / 'run'}" in sentence for sentence in refused)
    assert len(jaxtl.fine_tune(*given, resume=True, progress=False).history) == 3


_TRAINING = """
import sys, time
from pathlib import Path
from jaxtl.train.written import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("there", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_nothing(model, tmp_path) -> None:
    command = [sys.executable, "-c", _TRAINING, str(tmp_path / "run")]
    fields = {"epochs": 1, "output": tmp_path / "run"}
    with subprocess.Popen(command, cwd=jaxtl.__path__[0] + "/..", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        with pytest.raises(InputError, match="another process"):
            jaxtl.fine_tune(model, _data(model), RECIPE, progress=False, **fields)
        process.kill()
    assert len(jaxtl.fine_tune(model, _data(model), RECIPE, progress=False, **fields).history) == 1


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
