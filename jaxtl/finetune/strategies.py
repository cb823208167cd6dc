"""The known ways to adapt a network, by name: each is a few fields of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from jaxtl.models.graph import Graph
from jaxtl.notices import say
from jaxtl.recipe import DEFAULT_GROUPS, FROZEN, AnyOptimizer, Focal, Phase, Recipe
from jaxtl.recipe.changes import as_given
from jaxtl.recipe.recipe import SLOW_LR, strategy_optimizer
from jaxtl.recipe.schedules import OneCycle

Fields = dict[str, Any]

HEAD_ONLY = {"head": "fast", "*": FROZEN}


def expand(recipe: Recipe, graph: Graph) -> Recipe:
    """The recipe with its strategy written out as groups, rates and phases for one network; others as they are.

    ==============  ====================================================================================================
    scratch         nothing of the pretrained weights is kept; everything trains at the fast rate
    features        the head alone (feature extraction)
    linear-probe    no training: the head that fits the features best, by logistic regression
    last-stage      the head and the last stage before it
    full            everything: head fast, body slow
    layerwise       everything, each block at 0.75 times the rate of the block after it (Clark 2020, Bao 2022)
    norm-and-bias   the head, and of the body normalisation parameters and biases alone (Frankle 2021; BitFit)
    fine-tune       one epoch for the head, then everything at rates from 1/200 of the first rate at the stem to 1/2 at
                    the head: ``fine_tune(epochs - 1, base_lr)`` of fastai (Howard 2020)
    gradual         the head, then one stage more in each phase, from the last to the first (ULMFiT, Howard 2018)
    lp-ft           the head fitted as in linear-probe, then everything at the slow rate (Kumar 2022)
    l2-sp           everything, the body pulled towards its pretrained weights (Li 2018)
    ==============  ====================================================================================================

    ``fine-tune`` has all its rates from the fast one, and its own schedules; ``linear-probe`` has no epochs, no mixed
    images, and no loss but the cross entropy, without smoothing. Where the recipe sets others, it is said that they are
    not used; a comparison of strategies shares one recipe, so they are not refused.

    >>> expanded = expand(Recipe.from_keywords(strategy="last-stage"), Graph("resnet18"))
    >>> expanded.groups
    {'head': 'fast', 'layer4': 'slow', '*': 'frozen'}
    """
    if recipe.strategy is None:
        return recipe
    given = recipe.optimizer if "optimizer" in recipe.model_fields_set else {}
    for sentence in _not_used(recipe, given):
        graph.remember(sentence, partial(say, sentence))
    entries = strategy_optimizer(recipe.strategy, given)
    fields = _fields(recipe, graph, entries["slow"], entries["fast"])
    kept = {name: value for name, value in as_given(recipe).items() if name not in {"strategy", "optimizer", *fields}}
    if "phases" in fields:
        kept.pop("epochs", None)
    return Recipe.model_validate({**kept, **fields})


def _not_used(recipe: Recipe, given: Mapping[str, AnyOptimizer]) -> list[str]:
    if recipe.strategy == "linear-probe":
        epochs = ["epochs"] if "epochs" in recipe.model_fields_set else []
        others = [name for name in ("label_smoothing", "mixup", "cutmix") if getattr(recipe, name)]
        others += ["loss"] if isinstance(recipe.loss, Focal) else []
        return [
            f"strategy 'linear-probe' fits the head and trains for 0 epochs: {field} is not used; lp-ft trains"
            for field in epochs + others
        ]
    if recipe.strategy != "fine-tune":
        return []
    schedules = ["schedule"] if "schedule" in recipe.model_fields_set else []
    schedules += [f"optimizer.{group}.schedule" for group, entry in given.items() if entry.schedule is not None]
    said = ["strategy 'fine-tune' has all its rates from optimizer.fast.lr: optimizer.slow.lr is not used"]
    other_rate = "slow" in given and given["slow"].lr != SLOW_LR
    return said * other_rate + [
        f"strategy 'fine-tune' has its own schedules: {field} is not used" for field in schedules
    ]


def _fields(recipe: Recipe, graph: Graph, slow: AnyOptimizer, fast: AnyOptimizer) -> Fields:
    both = {"slow": slow, "fast": fast}
    match recipe.strategy:
        case "scratch":
            fields = {"groups": {"*": "fast"}, "optimizer": {"fast": fast}}
            random = {} if recipe.model is None else {"model": recipe.model.model_copy(update={"weights": None})}
            return {**fields, **random}
        case "features":
            return {"groups": HEAD_ONLY, "optimizer": {"fast": fast}}
        case "linear-probe":
            return {"groups": HEAD_ONLY, "optimizer": {"fast": fast}, "linear_probe": True, "epochs": 0}
        case "last-stage":
            last = dict.fromkeys(graph.counted_stages[-1], "slow")
            return {"groups": {"head": "fast", **last, "*": FROZEN}, "optimizer": both}
        case "layerwise":
            return {"groups": DEFAULT_GROUPS, "optimizer": both, "layer_decay": 0.75}
        case "norm-and-bias":
            return {
                "groups": {"head": "fast", "norms": "slow", "biases": "slow", "*": FROZEN},
                "optimizer": {"slow": slow.model_copy(update={"weight_decay": 0.0}), "fast": fast},
            }
        case "fine-tune":
            return _head_then_all(graph, recipe.epochs, slow, fast)
        case "gradual":
            return _gradual(graph, recipe.epochs, slow, fast)
        case "lp-ft":
            return {"groups": DEFAULT_GROUPS, "optimizer": both, "linear_probe": True}
        case "l2-sp":
            pulled = slow if slow.l2_sp else slow.model_copy(update={"l2_sp": 0.01, "weight_decay": 0.0})
            return {"groups": DEFAULT_GROUPS, "optimizer": {"slow": pulled, "fast": fast}}
    return {"groups": DEFAULT_GROUPS, "optimizer": both}


def _head_then_all(graph: Graph, epochs: int, slow: AnyOptimizer, fast: AnyOptimizer) -> Fields:
    body = graph.stages[:-1]
    low, high = fast.lr / 200, fast.lr / 2
    rates = {_group(stage): low * (high / low) ** (place / len(body)) for place, stage in enumerate(body)}
    phases = [Phase(epochs=epochs, rates={**rates, "fast": high}, schedule=OneCycle(div_factor=5.0, final_div=2e4))]
    if epochs > 1:
        warm = Phase(epochs=1, train=("fast",), schedule=OneCycle(pct_start=0.99))
        phases = [warm, phases[0].model_copy(update={"epochs": epochs - 1})]
    entries = {_group(stage): slow.model_copy(update={"lr": rates[_group(stage)]}) for stage in body}
    return {
        "groups": {**{stage: _group(stage) for stage in body}, "head": "fast"},
        "optimizer": {**entries, "fast": fast},
        "phases": tuple(phases),
    }


def _gradual(graph: Graph, epochs: int, slow: AnyOptimizer, fast: AnyOptimizer) -> Fields:
    """One epoch for each stage more, the last phase the rest; the stem comes with the first stage after it."""
    body = graph.stages[:-1]
    steps = [("fast",), *((_group(stage),) for stage in body[:1:-1]), tuple(_group(stage) for stage in body[:2])]
    if epochs < len(steps):
        steps = [*steps[: epochs - 1], tuple(group for step in steps[epochs - 1 :] for group in step)]
    trained: tuple[str, ...] = ()
    phases = []
    for number, step in enumerate(steps):
        trained += step
        last = number == len(steps) - 1
        phases.append(Phase(epochs=epochs - number if last else 1, train=trained))
    return {
        "groups": {**{stage: _group(stage) for stage in body}, "head": "fast"},
        "optimizer": {**{_group(stage): slow for stage in body}, "fast": fast},
        "phases": tuple(phases),
    }


def _group(stage: str) -> str:
    return stage.replace(".", "-")
