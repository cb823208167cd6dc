"""From a recipe's groups, optimizers and phases to an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import optax

from jaxtl.finetune.labels import FROZEN, Label, base_group, check_all_reached, from_groups, groups_of, with_depth
from jaxtl.finetune.optimizer import Optimizer, multi_transform
from jaxtl.finetune.phases import span_of, trained_groups
from jaxtl.finetune.schedules import make_schedule
from jaxtl.finetune.strategies import expand
from jaxtl.finetune.transforms import make_transform
from jaxtl.model import Model
from jaxtl.recipe import Recipe


@dataclass(frozen=True)
class Groups:
    """What a recipe's groups come to in one network.

    Attributes:
        label: the group of each parameter; with ``layer_decay`` one for each block.
        scales: for each of these groups the recipe's group, and the factor on its rate.
    """

    label: Label
    scales: Mapping[str, tuple[str, float]]


def make_groups(recipe: Recipe, model: Model) -> Groups:
    """The groups of a recipe in a network.

    Raises:
        InputError: groups that match no parameter of this model, or whose parameters others take first; or parameters
            that no group matches.
    """
    label = from_groups(recipe.groups, model.graph)
    check_all_reached(recipe.groups, model.graph)
    factors: Mapping[str, float] = {}
    if recipe.layer_decay != 1:
        label, factors = with_depth(label, model.graph, recipe.layer_decay)
    used = dict.fromkeys(groups_of(model.params, label).values())
    return Groups(label, {group: (base_group(group), factors.get(group, 1.0)) for group in used if group != FROZEN})


def make_optimizer(recipe: Recipe, model: Model, steps_per_epoch: int, phase: int = 0) -> Optimizer:
    """The optimizer of one phase of a recipe, with ``optimizer.rates`` set: group -> rate as a function of the step.

    ``optimizer.update(..., rates={group: rate})`` takes rates from outside instead, without another compilation.

    Raises:
        InputError: as ``make_groups``.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> optimizer = make_optimizer(Recipe(epochs=2), model, steps_per_epoch=10)
    >>> round(float(optimizer.rates["fast"](4)), 6)
    0.001
    """
    recipe = expand(recipe, model.graph)
    groups = make_groups(recipe, model)
    active = trained_groups(recipe, recipe.all_phases[phase])

    def label(path: str, leaf: object) -> str:
        group = groups.label(path, leaf)
        return group if group == FROZEN or groups.scales[group][0] in active else FROZEN

    rates = {}
    transforms = {}
    for group, (base, factor) in groups.scales.items():
        if base in active:
            rates[group] = _schedule(recipe, base, phase, steps_per_epoch, factor)
            transforms[group] = make_transform(recipe.optimizer[base], group, rates[group])
    optimizer = multi_transform(transforms, label, clip_norm=recipe.clip_norm)
    optimizer.rates = rates
    return optimizer


def _schedule(recipe: Recipe, group: str, phase: int, steps_per_epoch: int, factor: float) -> optax.Schedule:
    span = span_of(recipe, group, phase)
    return make_schedule(span.schedule, factor * span.peak, max(span.epochs, 1) * steps_per_epoch, steps_per_epoch)
