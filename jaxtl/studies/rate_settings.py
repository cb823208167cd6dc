"""Where a recipe's rates are set: the fields that a suggestion has to change."""

from __future__ import annotations

from jaxtl.finetune.phases import trained_groups
from jaxtl.recipe import Recipe


def rate_settings(recipe: Recipe, expanded: Recipe, phase: int) -> dict[str, float]:
    """The fields that decide the rates of a phase, with their values: dotted names, which can be overridden, and rates
    of the recipe's phases, "phases, number 2, rates.fast", which can only be written into it.

    Args:
        recipe: as it was given.
        expanded: the same with its strategy written out. A strategy's own groups learn at the rate of ``slow``, and
            all rates of ``fine-tune`` follow that of the head.
        phase: from 0.

    >>> recipe = Recipe.from_keywords(phases=[{"epochs": 1, "train": ["fast"], "rates": {"fast": 0.1}}, {"epochs": 4}])
    >>> rate_settings(recipe, recipe, 1)
    {'phases, number 1, rates.fast': 0.1, 'optimizer.slow.lr': 0.0001}
    """
    if recipe.strategy == "fine-tune":
        return {"optimizer.fast.lr": expanded.optimizer["fast"].lr}
    phases = expanded.all_phases
    found = {}
    for group in trained_groups(expanded, phases[phase]):
        giving = next((number for number in range(phase, -1, -1) if group in phases[number].rates), None)
        if giving is not None:
            found[f"phases, number {giving + 1}, rates.{group}"] = phases[giving].rates[group]
        else:
            name = group if recipe.strategy is None or group == "fast" else "slow"
            found[f"optimizer.{name}.lr"] = expanded.optimizer[group].lr
    return found


def is_override(setting: str) -> bool:
    """Whether a setting's name is a dotted one, for the command line.

    >>> is_override("optimizer.fast.lr"), is_override("phases, number 2, rates.fast")
    (True, False)
    """
    return " " not in setting
