"""What a loop of one's own asks of its steps, checked as a recipe's fields are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.recipe import AnyLoss, Recipe
from jaxtl.recipe.recipe import checked
from jaxtl.train.losses import PerImage, Task, make_task, own_task
from jaxtl.train.task import LOSS_OF_TASK

GivenLoss = PerImage | Task | AnyLoss | Mapping[str, Any] | str | None


def settings_of(step: str, model: Model, loss: GivenLoss, **fields: Any) -> tuple[Task, Recipe]:
    """The task, and the other settings as fields of a recipe.

    Args:
        step: the function that they are given to, for messages.
        model: whose ``task`` says which loss it is where none is given.
        loss: a task, a function, or what a recipe's ``loss`` may be.
        fields: of the recipe.

    Raises:
        InputError: what a recipe would be refused for; label smoothing beside a task or a function.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> settings_of("my_step", model.replace(task="regression"), None)[0].name
    'mse'
    >>> settings_of("my_step", model, "sigmoid", ema=1.5)
    Traceback (most recent call last):
    jaxtl.errors.InputError: my_step: ema must be less than 1, not 1.5
    """
    fields = {name: value.item() if isinstance(value, np.generic) else value for name, value in fields.items()}
    own = isinstance(loss, Task) or callable(loss)
    given = fields if own else {**fields, "loss": LOSS_OF_TASK[model.task] if loss is None else loss}
    parts = fields.get("accumulate")
    recipe = checked({**given, "batch_size": parts if isinstance(parts, int) and parts > 0 else 1}, step)
    if own and recipe.label_smoothing:
        raise InputError(
            f"{step}: label_smoothing is for losses that are named; smooth the labels in the loss you give"
        )
    if isinstance(loss, Task):
        return loss, recipe
    if callable(loss):
        return own_task(loss), recipe
    return replace(make_task(recipe.loss, label_smoothing=recipe.label_smoothing), assumed=loss is None), recipe
