"""Strategies by name are plain recipes: each trains what it says, in a network of any family."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest

from jaxtl.finetune.from_recipe import make_optimizer
from jaxtl.finetune.strategies import expand
from jaxtl.models.graph import Graph
from jaxtl.recipe import AdamW, Recipe, load_recipe
from jaxtl.recipe.training import StrategyName
from jaxtl.trees import unflatten

GRAPH = Graph("resnet18")
NAMES = get_args(StrategyName)


class _Shapes:
    """As much of a model as labels need."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.params = unflatten(graph.params)


def _trained(recipe: Recipe, phase: int) -> set[str]:
    groups = make_optimizer(recipe, _Shapes(GRAPH), 10, phase).groups(_Shapes(GRAPH).params)
    return {GRAPH.stage_of(path) for path, group in groups.items() if group != "frozen"}


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_is_a_whole_recipe_that_reads_back(name: str, tmp_path) -> None:
    from jaxtl.recipe import load_recipe

    given = Recipe.from_keywords(strategy=name, epochs=4, batch_size=16, label_smoothing=0.1)
    recipe = expand(given, GRAPH)
    assert recipe.strategy is None
    assert (recipe.batch_size, recipe.label_smoothing) == (16, 0.1)
    assert recipe.epochs == (0 if name == "linear-probe" else 4)
    for written in (given, recipe):
        (tmp_path / "recipe.yaml").write_text(written.to_yaml())
        assert load_recipe(tmp_path / "recipe.yaml") == written
    for phase in range(len(recipe.all_phases)):
        assert "fc" in _trained(recipe, phase)
    assert expand(recipe, GRAPH) is recipe


def test_from_scratch_is_written_down_as_without_weights() -> None:
    given = Recipe.from_keywords(strategy="scratch", model={"name": "resnet18", "until": "layer2"})
    model = expand(given, GRAPH).require("model")
    assert (model.name, model.weights, model.until) == ("resnet18", None, "layer2")
    assert expand(given.replace(strategy="full"), GRAPH).require("model").weights == "default"


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("scratch", set(GRAPH.stages)),
        ("features", {"fc"}),
        ("linear-probe", {"fc"}),
        ("last-stage", {"layer4", "fc"}),
        ("full", set(GRAPH.stages)),
        ("layerwise", set(GRAPH.stages)),
        ("norm-and-bias", set(GRAPH.stages)),
        ("lp-ft", set(GRAPH.stages)),
        ("l2-sp", set(GRAPH.stages)),
    ],
)
def test_strategies_of_one_phase_train_their_stages(name: str, stages: set[str]) -> None:
    recipe = expand(Recipe.from_keywords(strategy=name), GRAPH)
    assert len(recipe.all_phases) == 1
    assert _trained(recipe, 0) == stages


def test_norm_and_bias_trains_no_kernel_of_the_body() -> None:
    recipe = expand(Recipe.from_keywords(strategy="norm-and-bias"), GRAPH)
    groups = make_optimizer(recipe, _Shapes(GRAPH), 10).groups(_Shapes(GRAPH).params)
    trained = {path for path, group in groups.items() if group == "slow"}
    assert trained
    assert not any(path.endswith("kernel") for path in trained)


def test_gradual_unfreezing_adds_a_stage_a_phase() -> None:
    recipe = expand(Recipe.from_keywords(strategy="gradual", epochs=7), GRAPH)
    assert [phase.epochs for phase in recipe.all_phases] == [1, 1, 1, 1, 3]
    order = [{"fc"}, {"layer4"}, {"layer3"}, {"layer2"}, {"stem", "layer1"}]
    for phase in range(5):
        assert _trained(recipe, phase) == set().union(*order[: phase + 1])


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_gradual_unfreezing_in_few_epochs_ends_with_everything(epochs: int) -> None:
    recipe = expand(Recipe.from_keywords(strategy="gradual", epochs=epochs), GRAPH)
    assert [phase.epochs for phase in recipe.all_phases] == [1] * epochs
    assert _trained(recipe, epochs - 1) == set(GRAPH.stages)
    assert _trained(recipe, 0) == (set(GRAPH.stages) if epochs == 1 else {"fc"})


def test_fine_tune_has_the_rates_of_fastai() -> None:
    """fine_tune(4, base_lr=2e-3): a head epoch at 2e-3, then 1e-3 down to 1e-5 over the body."""
    recipe = expand(Recipe.from_keywords(strategy="fine-tune", epochs=5), GRAPH)
    head, everything = recipe.all_phases
    assert (head.epochs, head.train, recipe.optimizer["fast"].lr) == (1, ("fast",), 2e-3)
    assert (everything.epochs, everything.train) == (4, None)
    assert everything.rates["fast"] == pytest.approx(1e-3)
    assert everything.rates["stem"] == pytest.approx(1e-5)
    body = [everything.rates[stage] for stage in GRAPH.stages[:-1]]
    ratios = {round(later / earlier, 6) for earlier, later in pairwise(body)}
    assert len(ratios) == 1
    assert body[-1] * ratios.pop() == pytest.approx(1e-3)


def test_epochs_of_a_linear_probe_are_said_to_be_not_used(caplog, tmp_path) -> None:
    (tmp_path / "probe.yaml").write_text(Recipe(strategy="linear-probe").to_yaml())
    with caplog.at_level("INFO", "jaxtl"):
        written = load_recipe(tmp_path / "probe.yaml")
        assert expand(written, Graph("cifar_resnet20")).epochs == 0
        assert not caplog.messages
        expand(written.replace(epochs=2), Graph("cifar_resnet20"))
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "strategy 'linear-probe' fits the head and trains for 0 epochs: epochs is not used"
    ]


def test_what_a_linear_probe_has_no_use_for_is_said(caplog) -> None:
    unused = {"label_smoothing": 0.1, "mixup": 0.2, "loss": "focal"}
    recipe = Recipe.from_keywords(strategy="linear-probe", class_weights="balanced", **unused)
    with caplog.at_level("INFO", "jaxtl"):
        expand(recipe, Graph("cifar_resnet20"))
    assert [message.partition(": ")[2].partition(";")[0] for message in caplog.messages] == [
        "label_smoothing is not used",
        "mixup is not used",
        "loss is not used",
    ]


def test_what_fine_tune_has_no_use_for_is_said_once(caplog) -> None:
    rates = {"slow": {"lr": 1e-5, "schedule": {"name": "constant"}}, "fast": {"lr": 1e-2}}
    fields = {"optimizer": rates, "schedule": {"name": "step"}, "epochs": 3}
    with caplog.at_level("INFO", "jaxtl"):
        graph = Graph("cifar_resnet20")
        for name in ("fine-tune", "fine-tune", "full", "gradual"):
            recipe = expand(Recipe.from_keywords(strategy=name, **fields), graph)
    assert recipe.optimizer["layer3"].lr == 1e-5
    assert caplog.messages == [
        "strategy 'fine-tune' has all its rates from optimizer.fast.lr: optimizer.slow.lr is not used",
        "strategy 'fine-tune' has its own schedules: schedule is not used",
        "strategy 'fine-tune' has its own schedules: optimizer.slow.schedule is not used",
    ]
    caplog.clear()
    with caplog.at_level("INFO", "jaxtl"):
        expand(Recipe.from_keywords(strategy="fine-tune", optimizer={"fast": {"lr": 1e-2}}), graph)
    assert not caplog.messages


def test_given_optimizers_are_kept() -> None:
    optimizer = {"slow": {"name": "sgd", "lr": 0.01}, "fast": {"name": "sgd", "lr": 0.1}}
    recipe = expand(Recipe.from_keywords(strategy="gradual", optimizer=optimizer), GRAPH)
    assert {entry.name for entry in recipe.optimizer.values()} == {"sgd"}
    assert recipe.optimizer["layer3"].lr == 0.01
    assert recipe.optimizer["fast"].lr == 0.1
    slow = expand(Recipe.from_keywords(strategy="lp-ft"), GRAPH).optimizer
    assert slow["fast"].lr == slow["slow"].lr == AdamW(lr=1e-4).lr


@pytest.mark.parametrize(
    ("strategy", "overrides", "slow", "fast"),
    [
        ("lp-ft", ["optimizer.slow.lr=1e-5"], 1e-5, 1e-5),
        ("lp-ft", ["optimizer.fast.weight_decay=0", "optimizer.slow.lr=1e-5"], 1e-5, 1e-5),
        ("lp-ft", ["optimizer.slow.weight_decay=0"], 1e-4, 1e-4),
        ("lp-ft", ["optimizer.fast.lr=1e-3"], 1e-4, 1e-3),
        ("full", ["optimizer.slow.name=sgd"], 1e-4, 1e-3),
        ("full", ["optimizer.fast.lr=1e-2"], 1e-4, 1e-2),
    ],
)
def test_fields_that_are_set_leave_a_strategys_other_rates(strategy, overrides, slow, fast, tmp_path) -> None:
    (tmp_path / "recipe.yaml").write_text(f"strategy: {strategy}")
    read = load_recipe(tmp_path / "recipe.yaml", overrides)
    changed = Recipe.from_keywords(strategy=strategy).replace(
        **{name: value if value == "sgd" else float(value) for name, value in (word.split("=") for word in overrides)}
    )
    for recipe in (read, changed):
        optimizer = expand(recipe, GRAPH).optimizer
        assert (optimizer["slow"].lr, optimizer["fast"].lr) == (slow, fast)


def test_a_rate_that_nobody_set_is_not_said_to_be_unused(caplog) -> None:
    caplog.set_level("INFO", logger="jaxtl")
    graph = Graph("resnet18", num_classes=3)
    expand(Recipe.from_keywords(strategy="fine-tune", **{"optimizer.slow.weight_decay": 0.1}), graph)
    assert not caplog.messages


def test_fine_tunes_rates_stay_fastais_where_another_field_is_set() -> None:
    plain = Recipe.from_keywords(strategy="fine-tune")
    rates = expand(plain, GRAPH).all_phases[-1].rates
    for field in ("optimizer.fast.weight_decay", "optimizer.slow.weight_decay"):
        assert expand(plain.replace(**{field: 0.0}), GRAPH).all_phases[-1].rates == rates


@pytest.mark.parametrize("strategy", NAMES)
def test_a_strategy_that_is_written_and_read_is_the_same(strategy: str, tmp_path) -> None:
    recipe = Recipe.from_keywords(strategy=strategy, epochs=4)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == recipe
    assert expand(again, GRAPH) == expand(recipe, GRAPH)
