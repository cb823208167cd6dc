"""Of the compiled steps of many runs only the latest stay in memory."""

from __future__ import annotations

import gc
import weakref

import pytest

import jaxtl
from jaxtl.recipe import Recipe
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
    monkeypatch.setattr(PhaseSteps, "_compile", lambda *_: _Program())

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
