"""A run: what it writes, what it refuses, and that continuing it gives the bits it would have had."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from small_models import bits

import jaxtl
from jaxtl.errors import InputError
from jaxtl.finetune.from_recipe import make_optimizer
from jaxtl.recipe import Recipe, load_recipe
from jaxtl.train import loop as module
from jaxtl.train.checkpoint import Checkpoints
from jaxtl.train.interrupts import AtOnceError
from jaxtl.train.run import train
from jaxtl.train.written import read_history, sole_writer

ROOT = Path(jaxtl.__file__).parents[1]
EPOCHS = 3


def _model(**options) -> jaxtl.Model:
    return jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, until="layer1", **options)


def _data(model: jaxtl.Model, **options) -> jaxtl.data.Data:
    ours = model.replace(preprocess=model.preprocess)
    return jaxtl.open_data("digits", ours, **({"samples_per_class": 4, "val_fraction": 0.05} | options))


def _small(model: jaxtl.Model) -> jaxtl.Model:
    return model.replace(preprocess=model.preprocess.replace(size=8))


RECIPE = Recipe.from_keywords(
    groups={"layer1": "slow", "head": "fast", "*": "frozen"}, epochs=EPOCHS, batch_size=10, eval_batch_size=40
)


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    return _small(_model(drop_path_rate=0.2))


@pytest.fixture(scope="module")
def data(model):
    return _data(model)


@pytest.fixture(scope="module")
def whole(model, data, tmp_path_factory) -> jaxtl.train.fine_tune.Result:
    """A run that nothing interrupted."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    return jaxtl.fine_tune(model, data, RECIPE, output=output, progress=False)


def _comparable(history: list[dict]) -> list[dict]:
    """What of a history does not tell the time."""
    return [{k: v for k, v in record.items() if k not in ("seconds", "images_per_second")} for record in history]


def _read(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]


def test_the_history_is_one_valid_record_an_epoch(model, data, whole) -> None:
    steps = data.steps_per_epoch(RECIPE.batch_size)
    assert _read(whole.output) == whole.history
    assert [record["epoch"] for record in whole.history] == [1, 2, 3]
    assert [record["step"] for record in whole.history] == [steps, 2 * steps, 3 * steps]
    rates = make_optimizer(RECIPE, model, steps).rates
    for record in whole.history:
        expected = {group: pytest.approx(float(rates[group](record["step"] - 1))) for group in ("slow", "fast")}
        assert record["learning_rate"] == expected
        assert np.isfinite([record["train_loss"], record["val_loss"], record["images_per_second"]]).all()
        assert 0 <= record["train_accuracy"] <= 1
        assert 0 <= record["val_accuracy"] <= 1


def test_the_folder_holds_what_the_result_says(model, data, whole) -> None:
    tuned = jaxtl.load(whole.output / "model")
    assert bits(tuned.params) == bits(whole.model.params)
    assert bits(tuned.batch_stats) == bits(whole.model.batch_stats)
    assert tuned.classes == whole.model.classes == data.classes
    measured = jaxtl.evaluate(tuned, data, batch_size=RECIPE.eval_batch_size)
    assert measured["accuracy"] == whole.history[-1]["val_accuracy"]
    assert measured["loss"] == pytest.approx(whole.history[-1]["val_loss"], rel=1e-5)
    assert load_recipe(whole.output / "recipe.yaml").replace(output=None) == RECIPE.replace(
        output=None, precision="f32"
    )
    assert (whole.output / "curves.png").stat().st_size > 1000
    assert not list(whole.output.rglob("*unfinished*"))


def test_the_given_model_is_unchanged_and_what_is_frozen_too(model, whole) -> None:
    before, after = bits(model.params), bits(whole.model.params)
    assert {path for path in before if before[path] != after[path]} == {
        path for path in before if path.startswith(("layer1", "fc"))
    }
    assert model.classes is None


def test_best_is_the_epoch_with_the_highest_accuracy(model, data, tmp_path, monkeypatch) -> None:
    """Not the last: of the accuracies 0.2, 0.9, 0.5, 0.1 the second is kept, with its weights."""
    kept = {}
    accuracies = iter([0.2, 0.9, 0.5, 0.1])

    def measured(state, loss) -> dict:
        accuracy = next(accuracies)
        kept[accuracy] = bits(state.all_params)
        return {"accuracy": accuracy, "loss": 1.0, "correct": 1, "count": 10}

    monkeypatch.setattr(module, "begun_evaluation", lambda eval_step, state, batches: state)
    monkeypatch.setattr(module, "finished_evaluation", measured)
    result = jaxtl.fine_tune(model, data, RECIPE, output=tmp_path / "run", epochs=4, progress=False)
    assert result.best["epoch"] == 2
    assert bits(jaxtl.load(tmp_path / "run" / "best").params) == kept[0.9]
    assert bits(jaxtl.load(tmp_path / "run" / "model").params) == kept[0.1]
    epochs = {int(entry.name) for entry in (tmp_path / "run" / "checkpoints").iterdir()}
    assert epochs == {2, 4}


@pytest.mark.parametrize("storage", ["device", "stream"])
def test_validation_begins_before_the_last_steps_are_waited_for(model, monkeypatch, storage) -> None:
    """Where its images are on the device; the time to bring others there is not the training's."""
    data = jaxtl.open_data("digits", model, samples_per_class=8, val_fraction=0.02, storage=storage, augment="light")
    fetched, then = [], []
    fetch, begin = module.jax.device_get, module.begun_evaluation
    monkeypatch.setattr(module.jax, "device_get", lambda tree: fetched.append(tree) or fetch(tree))
    monkeypatch.setattr(module, "begun_evaluation", lambda *given: then.append(len(fetched)) or begin(*given))
    result = jaxtl.fine_tune(model, data, epochs=1, batch_size=16, eval_batch_size=40, progress=False)
    assert result.history[0]["step"] == 5
    assert then == [5 - module.LATE if storage == "device" else 5 - module.LATE + 1]


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize("how", [KeyboardInterrupt, _StoppedError])
def test_an_interrupted_run_continues_to_the_same_bits(model, data, whole, tmp_path, monkeypatch, how) -> None:
    output = tmp_path / "run"
    steps = data.steps_per_epoch(RECIPE.batch_size)
    _interrupt_after(monkeypatch, 2 * steps + 1, how)
    with pytest.raises(how):
        jaxtl.fine_tune(model, data, RECIPE, output=output, progress=False)
    monkeypatch.undo()
    assert _comparable(_read(output)) == _comparable(whole.history[:2])
    assert (output / "model").exists() == (how is KeyboardInterrupt)
    resumed = jaxtl.fine_tune(model, data, RECIPE, output=output, resume=True, progress=False)
    _assert_same(resumed, whole)


def test_a_run_that_stops_leaves_the_models_of_its_epochs(model, data, whole, tmp_path, monkeypatch, caplog) -> None:
    steps = data.steps_per_epoch(RECIPE.batch_size)
    for how, done in ((KeyboardInterrupt, 0), (KeyboardInterrupt, 2), (FloatingPointError, 2)):
        output = tmp_path / f"{how.__name__}-{done}"
        caplog.clear()
        _interrupt_after(monkeypatch, done * steps + 1, how)
        with caplog.at_level("INFO", logger="jaxtl"), pytest.raises(how):
            jaxtl.fine_tune(model, data, RECIPE, output=output, progress=False)
        monkeypatch.undo()
        assert (output / "model").exists() == (output / "best").exists() == bool(done)
        assert ("holds the model after epoch 2" in caplog.text) == bool(done)
        if done:
            best = max(whole.history[:2], key=lambda record: (record["val_accuracy"], record["epoch"]))
            measured = jaxtl.evaluate(jaxtl.load(output / "best", drop_path_rate=0.2), data, batch_size=40)
            assert measured["accuracy"] == best["val_accuracy"]
            said = json.loads((output / "model" / "config.json").read_text())["jaxtl"]["training"]["result"]
            assert said["epoch"] == 2


def test_an_interrupt_during_a_checkpoint_is_after_its_epoch(model, data, tmp_path, monkeypatch) -> None:
    def pressed(usual, presses: int):
        def save(self, epoch, *rest) -> None:
            if epoch == 2 and presses > 1:
                raise AtOnceError
            usual(self, epoch, *rest)
            if epoch == 2:
                raise KeyboardInterrupt

        return save

    for presses, epochs in ((1, [1, 2]), (2, [1])):
        output = tmp_path / str(presses)
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", pressed(Checkpoints.save, presses))
            with pytest.raises(KeyboardInterrupt):
                jaxtl.fine_tune(model, data, RECIPE, output=output, progress=False)
        assert [record["epoch"] for record in read_history(output)] == epochs
        assert (output / "model").exists() == (presses == 1)


@pytest.mark.parametrize("presses", [1, 2])
def test_an_interrupt_behind_the_last_epoch_is_after_the_writing(model, data, tmp_path, monkeypatch, presses) -> None:
    def pressed(usual):
        def save(*args, **options) -> Path:
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)
            monkeypatch.undo()
            return usual(*args, **options)

        return save

    output = tmp_path / "run"
    monkeypatch.setattr("jaxtl.train.written.save", pressed(jaxtl.save))
    with pytest.raises(KeyboardInterrupt) as found:
        jaxtl.fine_tune(model, data, RECIPE, epochs=1, output=output, progress=False)
    assert isinstance(found.value, AtOnceError) == (presses == 2)
    assert all((output / name).exists() == (presses == 1) for name in ("model", "best", "curves.png"))


def test_what_cannot_be_written_does_not_hide_the_interrupt(model, data, tmp_path, monkeypatch, caplog) -> None:
    def full(*_) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("jaxtl.train.fine_tune.write_results", full)
    _interrupt_after(monkeypatch, data.steps_per_epoch(RECIPE.batch_size) + 1, KeyboardInterrupt)
    with caplog.at_level("INFO", logger="jaxtl"), pytest.raises(KeyboardInterrupt):
        jaxtl.fine_tune(model, data, RECIPE, output=tmp_path / "run", progress=False)
    assert "could not be written" in caplog.text


def test_the_last_model_is_written_before_the_best_is_read(model, data, tmp_path, monkeypatch) -> None:
    def full(self, epoch, like) -> None:
        assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(like)), (
            "it takes no memory itself"
        )
        raise MemoryError

    monkeypatch.setattr(Checkpoints, "restore", full)
    with pytest.raises(MemoryError):
        jaxtl.fine_tune(model, data, RECIPE, epochs=1, output=tmp_path / "run", progress=False)
    assert jaxtl.load(tmp_path / "run" / "model", drop_path_rate=0.2).classes == data.classes


def _interrupt_after(monkeypatch, steps: int, how: type[BaseException]) -> None:
    original = module.PhaseSteps.step
    taken = iter(range(steps))

    def step(self, phase, batch):
        train_step = original(self, phase, batch)

        def stopping(*arguments):
            if next(taken, None) is None:
                raise how
            return train_step(*arguments)

        return stopping

    monkeypatch.setattr(module.PhaseSteps, "step", step)


def _assert_same(result, whole) -> None:
    assert bits(result.model.params) == bits(whole.model.params)
    assert bits(result.model.batch_stats) == bits(whole.model.batch_stats)
    assert _comparable(result.history) == _comparable(whole.history)
    assert _comparable(_read(result.output)) == _comparable(whole.history)


def test_continuing_a_finished_run_changes_nothing(model, data, whole) -> None:
    _assert_same(jaxtl.fine_tune(model, data, RECIPE, output=whole.output, resume=True, progress=False), whole)


def test_another_recipe_model_or_data_is_refused_by_name(model, data, whole) -> None:
    other_weights = _small(_model(drop_path_rate=0.2, seed=1))
    other_groups = {"head": "fast", "layer1": "slow", "*": "frozen"}
    cases = [
        (model, data, {"batch_size": 5}, r"batch_size: 10 then, 5 now"),
        (model, data, {"epochs": 9, "seed": 3}, r"epochs: 3 then, 9 now; seed: 0 then, 3 now"),
        (model, data, {"optimizer.fast.lr": 0.5}, r"optimizer: .*0.001.* then, .*0.5.* now"),
        (model, data, {"groups": other_groups}, r"groups: \[\['layer1', 'slow'\].* then, \[\['head', 'fast'\]"),
        (other_weights, data, {}, r"weights: '\w+' then, '\w+' now"),
        (model, _data(model, seed=1), {}, r"images: '\w+' then, '\w+' now\."),
        (model, _data(model, augment="none"), {}, r"data: '\w+' then, '\w+' now"),
    ]
    for network, images, changes, message in cases:
        with pytest.raises(InputError, match=message):
            jaxtl.fine_tune(network, images, RECIPE, output=whole.output, resume=True, progress=False, **changes)
    assert _read(whole.output) == whole.history


def test_a_second_run_into_the_same_output_is_refused(model, data, whole) -> None:
    with pytest.raises(InputError, match="holds a run already: --resume"):
        jaxtl.fine_tune(model, data, RECIPE, output=whole.output, progress=False)


def test_results_without_their_checkpoints_are_not_overwritten(model, data, tmp_path) -> None:
    (tmp_path / "model").mkdir()
    for resume, message in ((False, "holds a run already"), (True, "not its checkpoints")):
        with pytest.raises(InputError, match=message):
            jaxtl.fine_tune(model, data, RECIPE, output=tmp_path, resume=resume, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_outputs_that_cannot_be(model, data, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        jaxtl.fine_tune(model, data, RECIPE, output=tmp_path / "file", progress=False)
    with pytest.raises(InputError, match="continued from its output"):
        jaxtl.fine_tune(model, data, RECIPE, resume=True, progress=False)


def test_an_output_is_refused_before_an_image_is_read(model, data, tmp_path, monkeypatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("images are read, or the network is loaded")

    recipe = RECIPE.replace(model={"name": "cifar_resnet20"}, data={"source": "digits"})
    monkeypatch.setattr(jaxtl.data.Data, "train", property(read))
    monkeypatch.setattr("jaxtl.train.run.prepare", read)
    (tmp_path / "held" / "best").mkdir(parents=True)
    (tmp_path / "file").touch()
    with sole_writer(tmp_path / "training"):
        for output, message in (
            (tmp_path / "held", "holds a run already: --resume"),
            (tmp_path / "file", "is a file; name a folder"),
            (tmp_path / "file" / "run", r"is a file, and .* cannot be in it"),
            (tmp_path / "training", "another process is training into"),
        ):
            with pytest.raises(InputError, match=message):
                jaxtl.fine_tune(model, data, RECIPE, output=output, progress=False)
            with pytest.raises(InputError, match=message):
                train(recipe.replace(output=output))
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "best", "file", "held", "training"]


def test_a_model_that_does_not_fit_the_data_is_refused(model, data) -> None:
    wrong_classes = model.replace(classes=tuple("abcdefghij"))
    other_size = model.replace(preprocess=model.preprocess.replace(size=16, mean=(0.1,)))
    three = jaxtl.load("cifar_resnet20", weights=None, num_classes=3, in_chans=1).replace(preprocess=model.preprocess)
    cases = [
        (wrong_classes, r"its classes are not the data's \('a' against '0', 'b' against '1'"),
        (other_size, r"its preprocessing is not the data's \(input_size .*\[1, 16, 16\] against \[1, 8, 8\]; mean"),
        (three, r"it has 3 classes and the data has 10: load it with num_classes=10"),
    ]
    for network, message in cases:
        with pytest.raises(InputError, match=message):
            jaxtl.fine_tune(network, data, RECIPE, progress=False)
        with pytest.raises(InputError, match=message):
            jaxtl.evaluate(network, data)


def test_batches_that_cannot_be_computed_in_parts_are_refused_at_once(model, data) -> None:
    count = len(data.train)
    parts = next(number for number in range(2, 9) if count % number)
    with pytest.raises(InputError, match=rf"has {count} training images, all of them a batch, and accumulate {parts} "):
        jaxtl.fine_tune(model, data, RECIPE, batch_size=parts * count, accumulate=parts, progress=False)


def test_what_belongs_to_a_loop_of_ones_own_is_refused(model, data) -> None:
    for fields, what in (
        ({"groups": lambda path, leaf: "fast"}, "a label function"),
        ({"groups": jaxtl.labels.head_only()}, "a label function"),
        ({"optimizer": jaxtl.multi_transform({"fast": optax.sgd(1.0)}, jaxtl.labels.head_only())}, "an optimizer of o"),
        ({"optimizer": {"fast": optax.sgd(1.0)}}, "an optimizer of optax's"),
    ):
        with pytest.raises(InputError, match=f"does not take {what}.*make_train_step; write .*groups={{'head'"):
            jaxtl.fine_tune(model, data, progress=False, **fields)


def test_a_loss_that_is_not_finite_stops_the_run(model, data, tmp_path) -> None:
    broken = model.replace(params={**model.params, "fc": jax.tree.map(lambda leaf: leaf * np.nan, model.params["fc"])})
    message = r"not finite in epoch 1 \(step 1\); first: fc\.bias: lower the learning rates"
    with pytest.raises(FloatingPointError, match=message):
        jaxtl.fine_tune(broken, data, RECIPE, output=tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "history.jsonl").read_text() == ""


_RUN = """
import sys
import jaxtl
from jaxtl.recipe import load_recipe
model = jaxtl.load(sys.argv[1], drop_path_rate=0.2)
data = jaxtl.open_data("digits", model, samples_per_class=4, val_fraction=0.05)
print("ready", flush=True)
jaxtl.fine_tune(model, data, load_recipe(sys.argv[2]), output=sys.argv[3], resume=True, progress=False)
print("done", flush=True)
"""


def test_killed_at_any_moment_it_continues_to_the_same_bits(model, data, whole, tmp_path) -> None:
    """The first kill falls into the saving of a checkpoint, the second anywhere."""
    jaxtl.save(model, tmp_path / "start")
    recipe, output = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(RECIPE.to_yaml())
    command = [sys.executable, "-c", _RUN, str(tmp_path / "start"), str(recipe), str(output)]

    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    checkpoints = output / "checkpoints"
    _wait_until(lambda: list(checkpoints.glob("*tmp*")) or list(checkpoints.glob("1/*")), killed)
    _kill(killed)

    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert killed.stdout.readline() == "ready\n"
    time.sleep(random.uniform(0.0, 6.0))
    _kill(killed)

    start = jaxtl.load(tmp_path / "start", drop_path_rate=0.2)
    _assert_same(jaxtl.fine_tune(start, data, RECIPE, output=output, resume=True, progress=False), whole)
    assert not list(output.rglob("*unfinished*"))
    assert not list(output.rglob("*tmp*"))


def _wait_until(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_arguments_of_other_types_are_one_sentence(model, data, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("epoch: 1")
    for recipe in (tmp_path / "mine.yaml", {"epoch": 1}):
        with pytest.raises(InputError, match="unknown field 'epoch' at top level; did you mean 'epochs'"):
            jaxtl.fine_tune(model, data, recipe)
    with pytest.raises(InputError, match=r"must be data, as jaxtl\.open_data\('folder:f3', model\) gives it"):
        jaxtl.fine_tune(model, "folder:f3")
    with pytest.raises(InputError, match="must be a model"):
        jaxtl.fine_tune("resnet18", data)
