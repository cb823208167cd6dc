"""Compiled steps are those of the run's device and of JAX's settings; of many runs' only the latest stay in memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

import jax
import pytest

import jaxtl
from jaxtl.recipe import Recipe
from jaxtl.train import phase_steps
from jaxtl.train.inputs import step_inputs
from jaxtl.train.losses import make_task
from jaxtl.train.phase_steps import KEPT, PhaseSteps


class _Program:
    """In place of a compiled step."""


@pytest.fixture
def steps(monkeypatch):
    """Asks for the step of a run with a weight decay."""
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, until="layer1")
    data = jaxtl.open_data("digits", model, samples_per_class=4)
    monkeypatch.setattr(PhaseSteps, "_lowered", lambda *_: None)
    monkeypatch.setattr(phase_steps, "compiled", lambda _: _Program())

    def step(decay: float):
        recipe = Recipe.from_keywords(**{"optimizer.fast.weight_decay": decay})
        with PhaseSteps(model, recipe, make_task(recipe.loss), 1) as compiled:
            return compiled.step(0, step_inputs(data, recipe, None))

    return step


def test_a_sweep_keeps_the_latest(steps) -> None:
    every = [weakref.ref(steps(decay)) for decay in range(KEPT + 5)]
    gc.collect()
    assert [step() is None for step in every] == [True] * 5 + [False] * KEPT


def test_what_is_asked_for_again_stays(steps) -> None:
    first = weakref.ref(steps(0.1))
    for decay in range(1, KEPT + 5):
        steps(decay)
        assert steps(0.1) is first()


def test_each_step_is_made_under_the_settings_of_its_run(monkeypatch) -> None:
    monkeypatch.setattr(phase_steps, "compiled", lambda lowered: lowered.as_text())
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, until="layer1")
    data = jaxtl.open_data("digits", model, samples_per_class=4)
    recipe = Recipe.from_keywords(groups={"head": "fast", "*": "frozen"}, phases=[{"epochs": 1}, {"epochs": 1}])
    inputs = step_inputs(data, recipe, None)

    def text(*, ahead: bool) -> str:
        with PhaseSteps(model, recipe, make_task(recipe.loss), 4) as steps:
            if ahead:
                steps.prepare(1, inputs)
            return steps.step(1, inputs)

    lowered, lower = [], PhaseSteps._lowered
    monkeypatch.setattr(PhaseSteps, "_lowered", lambda *given: (lowered.append(given), lower(*given))[1])
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" in text(ahead=True)
        assert "HIGHEST" in text(ahead=True)
        assert len(lowered) == 1
    assert "HIGHEST" not in text(ahead=False)
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" in text(ahead=False)


_ON_THE_SECOND_DEVICE = """
import jax, jaxtl
from jaxtl.train.loop import Loop

seen, advance = set(), Loop.advance

def noting(self, bar):
    advance(self, bar)
    seen.update(*(leaf.devices() for leaf in jax.tree.leaves(self.state)))

Loop.advance = noting
first, second = jax.devices()
loaded = lambda: jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, until="layer1")
model = loaded()
data = jaxtl.open_data("digits", model, samples_per_class=2)
fields = {"groups": {"fc.bias": "bias", "head": "fast", "*": "frozen"}}
fields |= {"optimizer": {"fast": {"lr": 1e-3}, "bias": {"lr": 1e-3}}, "batch_size": 20, "eval_batch_size": 400}
fields |= {"phases": [{"epochs": 1, "train": ["fast"]}, {"epochs": 1}], "progress": False}

with jax.default_device(second):
    jaxtl.fine_tune(loaded(), data, **fields)
assert seen == {second}, seen
seen.clear()
jaxtl.fine_tune(model, data, **fields)
assert seen == {first}, seen
seen.clear()
moved = jax.device_put((model.params, model.batch_stats), second)
jaxtl.fine_tune(model.replace(params=moved[0], batch_stats=moved[1]), data, **fields)
assert seen == {second}, seen
"""


def test_a_run_stays_on_its_device() -> None:
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", _ON_THE_SECOND_DEVICE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
