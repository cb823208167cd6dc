"""From a recipe's groups, optimizers and schedule to an optimizer."""

from __future__ import annotations

from typing import Any

import jax
import optax

from jaxtl.finetune.labels import from_groups
from jaxtl.finetune.optimizer import Optimizer, multi_transform
from jaxtl.finetune.schedules import make_schedule
from jaxtl.model import Model
from jaxtl.recipe import SGD, AdamW, Recipe


def make_optimizer(recipe: Recipe, model: Model, steps_per_epoch: int) -> Optimizer:
    """The optimizer that a recipe describes, with ``optimizer.rates`` set: group -> rate as a function of the step.

    Raises:
        InputError: groups that match no parameter of this model, or parameters that no group matches.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> optimizer = make_optimizer(Recipe(epochs=2), model, steps_per_epoch=10)
    >>> round(float(optimizer.rates["fast"](4)), 6)
    0.001
    """
    label = from_groups(recipe.groups, model.graph)
    rates = {
        group: make_schedule(recipe.schedule, entry.lr, recipe.epochs * steps_per_epoch, steps_per_epoch)
        for group, entry in recipe.optimizer.items()
    }
    transforms = {group: _transform(entry, rates[group]) for group, entry in recipe.optimizer.items()}
    optimizer = multi_transform(transforms, label, clip_norm=recipe.clip_norm)
    optimizer.rates = rates
    return optimizer


def _transform(entry: AdamW | SGD, rate: optax.Schedule) -> optax.GradientTransformation:
    mask = None if entry.decay_norm_and_bias else _kernels
    if isinstance(entry, AdamW):
        return optax.adamw(rate, weight_decay=entry.weight_decay, mask=mask)
    sgd = optax.sgd(rate, momentum=entry.momentum or None, nesterov=entry.nesterov)
    return optax.chain(optax.add_decayed_weights(entry.weight_decay, mask), sgd)


def _kernels(params: Any) -> Any:
    """True for what is no norm's parameter and no bias: all arrays with more than one axis."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
