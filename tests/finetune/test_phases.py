"""Where a run stands, which schedule a group follows, and what an optimizer remembers between phases."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_models import batch, small_model

import jaxtl
from jaxtl.finetune.from_recipe import make_groups, make_optimizer
from jaxtl.finetune.phases import Position, Rates, carried, position, span_of
from jaxtl.finetune.schedules import rate_table
from jaxtl.judged import score
from jaxtl.recipe import Constant, Cosine, OneCycle, Recipe
from jaxtl.trees import partition

STEPS = 10


def _gradual(**fields) -> Recipe:
    return Recipe.from_keywords(
        **{
            "groups": {"head": "fast", "layer3": "slow", "*": "deep"},
            "optimizer": {name: {"lr": rate} for name, rate in (("fast", 1e-2), ("slow", 1e-3), ("deep", 1e-4))},
            "phases": [
                {"epochs": 1, "train": ["fast"]},
                {"epochs": 2, "train": ["fast", "slow"]},
                {"epochs": 3},
            ],
        }
        | fields
    )


def _records(*phases_and_scores: tuple[int, float]) -> list[dict]:
    return [
        {"epoch": epoch, "phase": phase, "val_accuracy": score}
        for epoch, (phase, score) in enumerate(phases_and_scores, 1)
    ]


def test_a_run_goes_through_its_phases_in_order() -> None:
    recipe, records, seen = _gradual(), [], []
    while (at := position(recipe, records)) is not None:
        seen.append(at)
        records = _records(*((place.phase + 1, 0.5) for place in seen))
    assert seen == [Position(0, 0), Position(1, 0), Position(1, 1), Position(2, 0), Position(2, 1), Position(2, 2)]
    assert recipe.epochs == 6


def test_patience_counts_validations_without_a_better_one() -> None:
    phases = [{"epochs": 5, "train": ["fast"], "patience": 2}, {"epochs": 5, "patience": 1}]
    recipe = Recipe.from_keywords(groups={"head": "fast", "*": "slow"}, phases=phases)
    assert position(recipe, _records((1, 0.5), (1, 0.6), (1, 0.6))) == Position(0, 3)
    assert position(recipe, _records((1, 0.5), (1, 0.6), (1, 0.6), (1, 0.4))) == Position(1, 0)
    assert position(recipe, _records((1, 0.5), (1, 0.6), (1, 0.5), (1, 0.7))) == Position(0, 4)
    # the first validation of a phase is compared with its own phase alone
    first = [(1, 0.9), (1, 0.8), (1, 0.8)]
    assert position(recipe, _records(*first, (2, 0.3))) == Position(1, 1)
    assert position(recipe, _records(*first, (2, 0.3), (2, 0.3))) is None


def test_without_phases_patience_stops_the_run() -> None:
    recipe = Recipe(epochs=10, patience=1)
    assert position(recipe, _records((1, 0.5), (1, 0.4))) is None
    assert position(Recipe(epochs=10), _records((1, 0.5), (1, 0.4))) == Position(0, 2)


def test_regression_is_better_where_the_loss_is_lower() -> None:
    recipe = Recipe.from_keywords(epochs=9, patience=1, loss={"name": "mse"})
    records = [{"epoch": 1, "phase": 1, "val_loss": 2.0}, {"epoch": 2, "phase": 1, "val_loss": 1.0}]
    assert position(recipe, records) == Position(0, 2)
    assert position(recipe, [*records, {"epoch": 3, "phase": 1, "val_loss": 1.5}]) is None


def test_several_labels_are_better_where_they_are_found_and_not_where_no_is_said_to_all() -> None:
    recipe = Recipe.from_keywords(loss="sigmoid", phases=[{"epochs": 5, "patience": 1}])
    history = [
        {"epoch": epoch, "phase": 1, "val_loss": 0.5, "val_accuracy": accuracy, "val_mean_average_precision": precision}
        for epoch, (accuracy, precision) in enumerate([(0.9, 0.2), (0.8, 0.4), (0.7, 0.6)], 1)
    ]
    assert [score(record) for record in history] == [0.2, 0.4, 0.6]
    assert position(recipe, history) == Position(0, 3)


def test_late_groups_start_a_schedule_of_their_own() -> None:
    recipe = _gradual()
    spans = {(group, number): span_of(recipe, group, number) for group in ("fast", "slow", "deep") for number in (2,)}
    assert {key: (span.first, span.epochs) for key, span in spans.items()} == {
        ("fast", 2): (0, 6),
        ("slow", 2): (1, 5),
        ("deep", 2): (2, 3),
    }


def test_given_rates_and_patience_begin_schedules_anew() -> None:
    phases = [{"epochs": 1, "train": ["fast"]}, {"epochs": 2, "rates": {"fast": 5e-4}}, {"epochs": 3}]
    recipe = Recipe.from_keywords(groups={"head": "fast", "*": "slow"}, phases=phases)
    assert [(span_of(recipe, "fast", n).first, span_of(recipe, "fast", n).epochs) for n in range(3)] == [
        (0, 1),
        (1, 5),
        (1, 5),
    ]
    assert span_of(recipe, "fast", 2).peak == 5e-4
    phases = [{"epochs": 2, "patience": 1}, {"epochs": 3}, {"epochs": 1, "schedule": {"name": "one_cycle"}}]
    recipe = Recipe.from_keywords(phases=phases)
    assert [span_of(recipe, "fast", n).epochs for n in range(3)] == [2, 3, 1]
    assert isinstance(span_of(recipe, "fast", 2).schedule, OneCycle)


def test_a_group_may_have_its_own_schedule() -> None:
    recipe = Recipe.from_keywords(**{"optimizer.fast.schedule": {"name": "constant"}})
    assert isinstance(span_of(recipe, "fast", 0).schedule, Constant)
    assert isinstance(span_of(recipe, "slow", 0).schedule, Cosine)


def test_rates_follow_each_groups_own_table() -> None:
    recipe, model = _gradual(layer_decay=0.5), small_model(until="layer3")
    scales = make_groups(recipe, model).scales
    rates = Rates(recipe, 2, STEPS, scales, [])(4)
    tables = {
        "fast": rate_table(recipe.schedule, 1e-2, 60, STEPS)[30:],
        "slow": rate_table(recipe.schedule, 1e-3, 50, STEPS)[20:],
        "deep": rate_table(recipe.schedule, 1e-4, 30, STEPS),
    }
    assert rates
    for group, rate in rates.items():
        base, factor = scales[group]
        np.testing.assert_allclose(rate, tables[base][4] * factor, rtol=1e-6, err_msg=group)
    assert rates["fast.d0"] == pytest.approx(tables["fast"][4])
    assert rates["slow.d3"] == pytest.approx(tables["slow"][4] / 8)
    assert set(rates) == set(make_optimizer(recipe, model, STEPS, phase=2).transforms)


def test_a_plateau_lowers_the_rate_of_the_groups_that_follow_it() -> None:
    schedule = {"name": "plateau", "patience": 1, "factor": 0.5}
    recipe = Recipe.from_keywords(epochs=9, schedule=schedule, **{"optimizer.slow.schedule": {"name": "constant"}})
    scales = {"fast": ("fast", 1.0), "slow": ("slow", 1.0)}
    before = Rates(recipe, 0, STEPS, scales, _records((1, 0.5), (1, 0.4)))(20)
    after = Rates(recipe, 0, STEPS, scales, _records((1, 0.5), (1, 0.4), (1, 0.4)))(30)
    assert (before["fast"], after["fast"]) == (pytest.approx(1e-3), pytest.approx(5e-4))
    assert before["slow"] == after["slow"] == pytest.approx(1e-4)


@pytest.mark.parametrize(("clip_norm", "then"), [(None, None), (1.0, 1.0), (None, 1.0), (1.0, None)])
def test_moments_and_counts_of_continuing_groups_are_carried_and_others_start_at_zero(clip_norm, then) -> None:
    model = small_model(until="layer3")

    def trained(phase: int, clip_norm: float | None):
        optimizer = make_optimizer(_gradual(clip_norm=clip_norm), model, STEPS, phase)
        groups = optimizer.groups(model.params)
        return optimizer, partition(model.params, lambda path: groups[path] != "frozen")[0]

    optimizer, params = trained(1, clip_norm)
    state = optimizer.init(params)
    for seed in range(3):
        gradients = jax.tree.map(lambda leaf, seed=seed: jnp.full_like(leaf, seed + 1.0), params)
        _, state = optimizer.update(gradients, state, params)
    later, wider = trained(2, then)
    fresh = later.init(wider)
    moved = carried(state, fresh)
    assert jax.tree.structure(moved) == jax.tree.structure(fresh)

    old, new, zero = (
        {
            jax.tree_util.keystr(path).partition(".inner_states")[2]: np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
        }
        for tree in (state, moved, fresh)
    )
    assert set(old) < set(new)
    for path, leaf in new.items():
        assert leaf.tobytes() == (old[path] if path in old else zero[path]).tobytes(), path
        assert ("'deep'" in path) == (path not in old)
    counts = {path: int(leaf) for path, leaf in new.items() if leaf.dtype == np.int32}
    assert {count for path, count in counts.items() if "'deep'" in path} == {0}
    assert {count for path, count in counts.items() if "'deep'" not in path} == {3}
    moments = [path for path, leaf in new.items() if leaf.ndim and leaf.any()]
    assert any("'fast'" in path for path in moments)
    assert any("'slow'" in path for path in moments)
    assert not any("'deep'" in path for path in moments)


@pytest.mark.parametrize(
    ("make", "anew"),
    [
        (lambda rate: optax.adamw(optax.linear_schedule(rate, 0.0, 3)), ["[2].count"]),
        (
            lambda rate: optax.inject_hyperparams(optax.adam)(optax.linear_schedule(rate, 0.0, 3)),
            [".count", ".hyperparams['learning_rate']", ".hyperparams_states['learning_rate'].count"],
        ),
        (lambda rate: optax.inject_hyperparams(optax.adam)(rate), [".count", ".hyperparams['learning_rate']"]),
        (
            lambda rate: optax.MultiSteps(optax.adam(rate), 2).gradient_transformation(),
            [".acc_grads", ".gradient_step", ".mini_step"],
        ),
        (
            lambda rate: optax.chain(
                optax.adam(rate), optax.contrib.reduce_on_plateau(patience=0, accumulation_size=1)
            ),
            ["[1].best_value", "[1].plateau_count", "[1].scale"],
        ),
    ],
    ids=["schedule", "scheduled setting", "setting", "accumulated", "plateau"],
)
def test_schedules_and_settings_of_the_new_optimizer_begin_anew_and_moments_go_on(make, anew: list[str]) -> None:
    weights = jnp.ones(2)
    before = optax.with_extra_args_support(make(1e-2))
    state = before.init(weights)
    for _ in range(3):
        _, state = before.update(jnp.ones(2), state, weights, value=1.0)
    fresh = make(1e-3).init(weights)
    old, new, began = (
        {jax.tree_util.keystr(path): leaf.tolist() for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}
        for tree in (state, carried(state, fresh), fresh)
    )
    differs = {path for path in new if old[path] != began[path]}
    assert {path for path in differs if new[path] == began[path]} == {
        path for path in differs if any(path.startswith(beginning) for beginning in anew)
    }
    assert all(any(path.startswith(beginning) for path in differs) for beginning in anew)
    kept = {path.rpartition(".")[2] for path in differs if new[path] == old[path]}
    assert kept == {"mu", "nu", "count"}


def test_the_second_phase_of_a_loop_of_ones_own_begins_its_schedule() -> None:
    model = small_model(until="stem")
    schedule = optax.cosine_decay_schedule(1e-2, 2)
    optimizer = jaxtl.multi_transform({"all": optax.adamw(schedule)}, lambda path, leaf: "all")
    step = jaxtl.make_train_step(model, optimizer)
    state = jaxtl.TrainState.create(model, optimizer)
    for _ in range(2):
        state, _ = step(state, batch())
    state = state.advance(model, optimizer)
    before = np.array(state.params["fc"]["kernel"])
    state, _ = step(state, batch())
    assert 1e-3 < np.abs(state.params["fc"]["kernel"] - before).max() < 2e-2
