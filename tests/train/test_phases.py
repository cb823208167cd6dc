"""Runs of several phases: what moves when, what ends a phase, and that a killed run ends with the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_models import bits

import jaxtl
from jaxtl.compiled import compiled
from jaxtl.recipe import Recipe
from jaxtl.train import loop as loop_module
from jaxtl.train import phase_steps
from jaxtl.train.state import TrainState

ROOT = Path(jaxtl.__file__).parents[1]
GRADUAL = Recipe.from_keywords(
    groups={"head": "fast", "layer2": "slow", "layer1": "deep", "*": "frozen"},
    optimizer={name: {"lr": rate} for name, rate in (("fast", 1e-2), ("slow", 1e-3), ("deep", 1e-3))},
    phases=[
        {"epochs": 1, "train": ["fast"]},
        {"epochs": 2, "train": ["fast", "slow"]},
        {"epochs": 1, "schedule": {"name": "constant"}},
    ],
    batch_size=10,
    eval_batch_size=40,
    ema=0.9,
)
OPEN = {0: ("fc",), 1: ("fc", "layer2"), 2: ("fc", "layer2", "layer1")}


def _model() -> jaxtl.Model:
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, until="layer2", drop_path_rate=0.2)
    return model.replace(preprocess=model.preprocess.replace(size=8))


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    return _model()


@pytest.fixture(scope="module")
def data(model):
    return jaxtl.open_data("digits", model, samples_per_class=4, val_fraction=0.05)


@pytest.fixture(scope="module")
def run(model, data, tmp_path_factory):
    """An uninterrupted run, with every state between two phases."""
    switches = []
    original = TrainState.advance

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainState, "advance", lambda *a: _copied(switches, original(*a), a[0]))
        result = jaxtl.fine_tune(model, data, GRADUAL, output=tmp_path_factory.mktemp("runs") / "whole", progress=False)
    return result, switches


def _copied(switches: list, after: TrainState, before: TrainState) -> TrainState:
    """Keeps copies, because the next step takes the arrays."""
    import jax

    copy = lambda state: jax.tree.map(lambda leaf: leaf if leaf.dtype.name.startswith("key") else leaf + 0, state)  # noqa: E731
    switches.append((copy(before), copy(after)))
    return after


def _named(state: TrainState) -> dict[str, np.ndarray]:
    import jax

    flat = jax.tree_util.tree_flatten_with_path(state.opt_state)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def test_the_history_names_phases_and_the_rates_of_the_groups_that_train(run) -> None:
    result, _ = run
    assert [record["phase"] for record in result.history] == [1, 2, 2, 3]
    assert [sorted(record["learning_rate"]) for record in result.history] == [
        ["fast"],
        ["fast", "slow"],
        ["fast", "slow"],
        ["deep", "fast", "slow"],
    ]
    assert result.history[-1]["learning_rate"] == pytest.approx({"fast": 1e-2, "slow": 1e-3, "deep": 1e-3})


def test_at_a_switch_continuing_groups_keep_their_optimizer_state_and_others_start_at_zero(run) -> None:
    _, switches = run
    assert len(switches) == 2
    for number, (before, after) in enumerate(switches):
        old, new = _named(before), _named(after)
        entering = {1: "'slow'", 2: "'deep'"}[number + 1]
        assert old
        assert all(new[path].tobytes() == leaf.tobytes() for path, leaf in old.items())
        fresh = {path: leaf for path, leaf in new.items() if path not in old}
        assert fresh
        assert all(entering in path and not leaf.any() for path, leaf in fresh.items())


def test_parameters_and_statistics_move_exactly_in_the_phases_that_train_them(model, run) -> None:
    result, switches = run
    states = [(model.params, model.batch_stats)]
    states += [(before.all_params, before.batch_stats) for before, _ in switches]
    states += [(result.model.params, result.model.batch_stats)]
    for number in range(2):  # the result holds averages, so the last phase is not compared with live weights
        for kind in (0, 1):
            earlier, later = bits(states[number][kind]), bits(states[number + 1][kind])
            moved = {path for path in earlier if earlier[path] != later[path]}
            assert bool(moved) == (kind == 0 or number > 0), "the head has no statistics"
            assert {path.split(".")[0] for path in moved} <= set(OPEN[number])
            still = {path for path in earlier if path.split(".")[0] not in OPEN[number]}
            assert not moved & still
    stem = {path: value for path, value in bits(model.params).items() if path.startswith(("conv1", "bn1"))}
    assert stem
    assert {path: bits(result.model.params)[path] for path in stem} == stem


def test_phase_one_moves_no_statistics(model, run) -> None:
    _, switches = run
    assert bits(switches[0][0].batch_stats) == bits(model.batch_stats)


@pytest.mark.parametrize("patience", [1, 2])
def test_patience_unfreezes_the_next_stage(model, data, monkeypatch, patience) -> None:
    accuracies = iter([0.3, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4])
    monkeypatch.setattr(
        loop_module,
        "finished_evaluation",
        lambda *a: {"loss": 1.0, "accuracy": next(accuracies), "correct": 0, "count": 1},
    )
    phases = [{"epochs": 5, "train": ["fast"], "patience": patience}, {"epochs": 1}]
    groups = {"head": "fast", "*": "slow"}
    recipe = Recipe.from_keywords(groups=groups, phases=phases, batch_size=20, eval_batch_size=40)
    result = jaxtl.fine_tune(model, data, recipe, progress=False)
    assert [record["phase"] for record in result.history] == [1] * (2 + patience) + [2]


_RUN = """
import sys
import jaxtl
from jaxtl.recipe import load_recipe
model = jaxtl.load(sys.argv[1], drop_path_rate=0.2)
data = jaxtl.open_data("digits", model, samples_per_class=4, val_fraction=0.05)
jaxtl.fine_tune(model, data, load_recipe(sys.argv[2]), output=sys.argv[3], resume=True, progress=False)
"""


def test_killed_in_phase_two_it_continues_to_the_same_bits(model, data, run, tmp_path) -> None:
    whole, _ = run
    jaxtl.save(model, tmp_path / "start")
    (tmp_path / "recipe.yaml").write_text(GRADUAL.to_yaml())
    output = tmp_path / "run"
    command = [sys.executable, "-c", _RUN, str(tmp_path / "start"), str(tmp_path / "recipe.yaml"), str(output)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(_history(output)) < 2:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert _history(output)[-1]["phase"] == 2

    start = jaxtl.load(tmp_path / "start", drop_path_rate=0.2)
    resumed = jaxtl.fine_tune(start, data, GRADUAL, output=output, resume=True, progress=False)
    assert bits(resumed.model.params) == bits(whole.model.params)
    assert bits(resumed.model.batch_stats) == bits(whole.model.batch_stats)
    timeless = [
        [{k: v for k, v in record.items() if k not in ("seconds", "images_per_second")} for record in history]
        for history in (resumed.history, whole.history)
    ]
    assert timeless[0] == timeless[1]


def _history(output: Path) -> list[dict]:
    path = output / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_next_phase_is_compiled_while_the_current_one_trains(model, data, monkeypatch) -> None:
    import threading

    threads = []

    def noting(usual):
        return lambda *given: (threads.append(threading.current_thread().name), usual(*given))[1]

    monkeypatch.setattr(loop_module.PhaseSteps, "_lowered", noting(loop_module.PhaseSteps._lowered))
    monkeypatch.setattr(phase_steps, "compiled", noting(compiled))
    phases = [{"epochs": 1, "train": ["fast"]}, {"epochs": 1}]
    recipe = Recipe.from_keywords(phases=phases, batch_size=13, eval_batch_size=40)
    jaxtl.fine_tune(model, data, recipe, progress=False)
    assert threads[:2] == [threading.main_thread().name] * 2
    assert all(name.startswith("compile-ahead") for name in threads[2:])
    jaxtl.fine_tune(model, data, recipe.replace(seed=1, **{"optimizer.fast.lr": 5e-4}), progress=False)
    assert len(threads) == 4, "other rates and another seed compile nothing anew"
