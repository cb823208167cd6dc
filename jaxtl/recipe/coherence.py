"""What has to fit together in a recipe beyond each field's own type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from jaxtl.errors import nearest
from jaxtl.recipe.training import MSE, Sigmoid

if TYPE_CHECKING:
    from jaxtl.recipe.recipe import Recipe

FROZEN = "frozen"
STRATEGY_FIELDS = ("groups", "layer_decay", "phases", "linear_probe")


class Contradictions(ValueError):
    """Everything that contradicts itself in a recipe, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def group_problems(groups: Mapping[str, str], optimizer: Iterable[str]) -> list[str]:
    """Groups without an optimizer, optimizers without a group, and rules that nothing can reach."""
    used = [group for group in dict.fromkeys(groups.values()) if group != FROZEN]
    entries = [entry for entry in optimizer if isinstance(entry, str)]
    problems = []
    for group in used:
        if group not in entries:
            put = ", ".join(repr(rule) for rule, its in groups.items() if its == group)
            problems.append(
                f"groups puts {put} in {group!r}, which has no entry under optimizer"
                + nearest(group, [*entries, FROZEN])
            )
    for entry in entries:
        if entry == FROZEN:
            problems.append(f"optimizer.{FROZEN}: {FROZEN!r} is reserved for what never changes and takes no optimizer")
        elif entry not in used:
            near = nearest(entry, used)
            problems.append(
                f"optimizer.{entry} is used by no rule under groups{near or f'; optimizer.{entry}=null takes it out'}"
            )
    if not used:
        problems.append("groups freezes everything, so nothing would be trained")
    rules = list(groups)
    if "*" in rules[:-1]:
        behind = ", ".join(map(repr, rules[rules.index("*") + 1 :]))
        problems.append(f"groups: nothing reaches {behind} behind '*', which matches everything; put '*' last")
    return problems


def training_problems(recipe: Recipe) -> list[str]:
    """Phases, batches, losses and strategies that contradict each other."""
    problems = _strategy_problems(recipe) + _phase_problems(recipe)
    if recipe.epochs == 0 and not recipe.linear_probe:
        problems.append("epochs is 0, and nothing but linear_probe does anything then; give at least 1")
    if recipe.batch_size % recipe.accumulate:
        problems.append(f"accumulate {recipe.accumulate} does not divide batch_size {recipe.batch_size}")
    if isinstance(recipe.loss, MSE):
        given = [name for name in ("label_smoothing", "class_weights") if getattr(recipe, name)]
        problems += [f"{name} has no meaning for the loss 'mse'; remove it" for name in given]
    if isinstance(recipe.loss, Sigmoid) and recipe.class_weights == "balanced":
        problems.append("class_weights 'balanced' needs one class an image; give the loss 'sigmoid' numbers")
    return problems


def _strategy_problems(recipe: Recipe) -> list[str]:
    if recipe.strategy is None:
        return []
    own = [name for name in STRATEGY_FIELDS if name in recipe.model_fields_set]
    problems = [
        f"strategy {recipe.strategy!r} sets {name} itself; take one of them out ({name}=null or strategy=null)"
        for name in own
    ]
    for group in recipe.optimizer:
        if group not in ("slow", "fast"):
            problems.append(
                f"optimizer.{group}: a strategy's groups are 'slow' (the body) and 'fast' (the head); "
                f"optimizer.{group}=null takes it out"
            )
    return problems


def _phase_problems(recipe: Recipe) -> list[str]:
    if not recipe.phases:
        return []
    groups = [group for group in dict.fromkeys(recipe.groups.values()) if group != FROZEN]
    problems = []
    for number, phase in enumerate(recipe.phases, 1):
        if phase.epochs == 0:
            problems.append(f"phases, number {number}: it has 0 epochs; remove it or give it some")
        trained = groups if phase.train is None else phase.train
        problems += [
            f"phases, number {number}: {group!r} is no group{nearest(group, groups)}; there are {', '.join(groups)}"
            for group in trained
            if group not in groups
        ]
        problems += [
            f"phases, number {number}: rates.{group} is for a group that this phase does not train"
            for group in phase.rates
            if group not in trained
        ]
    idle = [group for group in groups if not any(p.train is None or group in p.train for p in recipe.phases)]
    problems += [f"no phase trains the group {group!r}; name it under train, or freeze it in groups" for group in idle]
    total = sum(phase.epochs for phase in recipe.phases)
    if recipe.epochs != total:
        problems.append(
            f"epochs is {recipe.epochs} and the phases' epochs add up to {total}; change the phases' epochs"
        )
    return problems
