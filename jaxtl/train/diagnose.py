"""Where a number stopped being finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.errors import InputError
from jaxtl.finetune.batch_norm import modes_of
from jaxtl.finetune.optimizer import Optimizer, groups_in
from jaxtl.model import Model
from jaxtl.models.graph import Modes
from jaxtl.recipe import Recipe
from jaxtl.train.losses import Task, no_classes
from jaxtl.train.precision import computed_in
from jaxtl.train.state import TrainState
from jaxtl.train.step import make_objective, prepared
from jaxtl.trees import combine, flatten


def first_non_finite(
    model: Model, optimizer: Optimizer, recipe: Recipe, task: Task, state: TrainState, batch: Mapping[str, Any]
) -> str:
    """The first tensor that is not finite when a step is computed once more, in the order in which they arise, in the
    precision and the parts of the recipe.

    Looked at: images, labels, parameters and statistics (in the network's order), the output of each stage, the loss,
    the gradients (from the head down).

    Raises:
        InputError: labels that are no classes, of which the loss has no number.
    """
    if task.name in ("softmax", "focal") and (wrong := no_classes(batch["label"], model.num_classes)):
        raise InputError(
            f"the batch has the label {wrong[0]}, and {model.name} has {model.num_classes} classes, from 0: correct "
            "the labels, or load it with as many classes as there are"
        )
    parts, precision = _parts(batch, recipe.accumulate), computed_in(recipe)
    for part in parts:
        images = prepared(jnp.asarray(part["image"]), model.preprocess, precision)
        if found := _first({"the batch's images": images, "the batch's labels": part["label"]}):
            return found
    if found := _first(_in_order(model, state.all_params) | _in_order(model, state.batch_stats)):
        return found
    modes = modes_of(model.graph, groups_in(optimizer, model), recipe.batch_norm)
    for part in parts:
        images = prepared(jnp.asarray(part["image"]), model.preprocess, precision)
        if found := _computed(model, task, state, modes, images, jnp.asarray(part["label"])):
            return found
    return "no single tensor when computed once more"


def _parts(batch: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """A batch in parts as the step took it, each of which needs no more memory than the step's."""
    size = len(batch["label"]) // count
    return [{name: array[i * size : (i + 1) * size] for name, array in batch.items()} for i in range(count)]


def _computed(
    model: Model, task: Task, state: TrainState, modes: Modes, images: jax.Array, labels: jax.Array
) -> str | None:
    """The first of what the network computes of some images; None where all of it is finite."""
    if found := _first(_outputs(model, state, images, modes)):
        return found
    objective = make_objective(model.graph, task, modes, state.frozen, state.batch_stats, images, labels, state.rng)
    (value, _), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(state.params)
    backwards = {f"the gradient of {path}": leaf for path, leaf in reversed(_in_order(model, gradients).items())}
    return _first({"the loss": value, **backwards})


def _outputs(model: Model, state: TrainState, images: jax.Array, modes: Modes) -> dict[str, jax.Array]:
    params = combine(state.params, state.frozen)
    run = jax.jit(lambda p, s, x: model.graph.stages_with(p, s, x, modes, state.rng)[0])
    return {f"the output of {stage}": out for stage, out in run(params, state.batch_stats, images).items()}


def _in_order(model: Model, tree: Mapping[str, Any]) -> dict[str, Any]:
    flat = flatten(tree)
    place = {path: number for number, path in enumerate([*model.graph.params, *model.graph.batch_stats])}
    stages = {stage: number for number, stage in enumerate(model.stages)}
    return {
        path: flat[path] for path in sorted(flat, key=lambda path: (stages[model.graph.stage_of(path)], place[path]))
    }


def _first(tensors: Mapping[str, Any]) -> str | None:
    return next((name for name, tensor in tensors.items() if not np.isfinite(np.asarray(tensor)).all()), None)
