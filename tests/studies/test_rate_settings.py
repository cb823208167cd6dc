"""What a range test suggests can be set: changing these fields changes the rates."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtl.finetune.phases import span_of, trained_groups
from jaxtl.finetune.strategies import expand
from jaxtl.models.graph import Graph
from jaxtl.recipe import Recipe
from jaxtl.studies.lr_finder import RangeTest
from jaxtl.studies.rate_settings import rate_settings

GRAPH = Graph("cifar_resnet20")


def peaks(recipe: Recipe, phase: int) -> dict[str, float]:
    recipe = expand(recipe, GRAPH)
    return {group: span_of(recipe, group, phase).peak for group in trained_groups(recipe, recipe.all_phases[phase])}


@pytest.mark.parametrize(
    ("fields", "phase", "settings"),
    [
        ({"strategy": "gradual"}, 1, {"optimizer.slow.lr": 1e-4, "optimizer.fast.lr": 1e-3}),
        ({"strategy": "fine-tune"}, 1, {"optimizer.fast.lr": 2e-3}),
        ({"strategy": "lp-ft"}, 0, {"optimizer.slow.lr": 1e-4, "optimizer.fast.lr": 1e-4}),
        ({"strategy": "scratch"}, 0, {"optimizer.fast.lr": 1e-3}),
        (
            {"groups": {"head": "fast", "layer1": "mine", "*": "frozen"}, "optimizer.mine.lr": 1e-2},
            0,
            {"optimizer.fast.lr": 1e-3, "optimizer.mine.lr": 1e-2},
        ),
    ],
)
def test_what_it_suggests_can_be_set(fields, phase, settings) -> None:
    recipe = Recipe.from_keywords(**fields)
    assert rate_settings(recipe, expand(recipe, GRAPH), phase) == settings
    before = peaks(recipe, phase)
    found = RangeTest(np.ones(3), np.ones(3), before, settings, {"valley": 3.0})
    words = str(found).splitlines()[1].split()[1:]
    changed = recipe.replace(**{name: float(value) for name, value in (word.split("=") for word in words)})
    assert peaks(changed, phase) == pytest.approx({group: 3 * rate for group, rate in before.items()}, rel=0.01)


def test_rates_of_phases_are_to_be_written_into_the_recipe() -> None:
    phases = [{"epochs": 1, "train": ["fast"], "rates": {"fast": 0.1}}, {"epochs": 1}]
    recipe = Recipe.from_keywords(phases=phases)
    settings = rate_settings(recipe, recipe, 1)
    assert settings == {"phases, number 1, rates.fast": 0.1, "optimizer.slow.lr": 1e-4}
    lines = str(RangeTest(np.ones(3), np.ones(3), peaks(recipe, 1), settings, {"valley": 3.0})).splitlines()
    assert lines[1:] == [
        "valley      optimizer.slow.lr=3.00e-04; phases, number 1, rates.fast: 3.00e-01",
        "rates of phases have no override: write them into the recipe",
    ]
