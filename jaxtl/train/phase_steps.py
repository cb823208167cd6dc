"""The compiled step of each phase of a run; that of the next phase is compiled while the current one trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxtl.compiled import compiled
from jaxtl.finetune.from_recipe import make_optimizer
from jaxtl.finetune.optimizer import Optimizer
from jaxtl.finetune.phases import trained_groups
from jaxtl.jax_settings import jax_settings, place_of
from jaxtl.jitted import jit
from jaxtl.model import Model
from jaxtl.recipe import Recipe
from jaxtl.train.losses import Task
from jaxtl.train.precision import computed_in
from jaxtl.train.state import TrainState
from jaxtl.train.step import train_step_function
from jaxtl.trees import Tree

Step = Callable[..., tuple[TrainState, dict[str, Any]]]

SHAPING = (
    "groups",
    "layer_decay",
    "clip_norm",
    "loss",
    "label_smoothing",
    "class_weights",
    "batch_norm",
    "accumulate",
    "mixup",
    "cutmix",
    "ema",
    "precision",
)

KEPT = 16
"""Compiled steps of a network that are kept: each takes tens of megabytes, and each run of a sweep may need another."""


@dataclass(frozen=True)
class StepInputs:
    """Shapes and types of what a step takes.

    Attributes:
        batch: of one batch.
        after: where ``batch["image"]`` is the output of a frozen stage: its name; see ``make_train_step``.
        epoch: (images, steps) where the step is a whole epoch: ``step(state, features, labels, order, rates)`` with the
            features and labels of all images, ``order`` (steps, batch) and a rate for each step.
    """

    batch: Mapping[str, jax.ShapeDtypeStruct]
    after: str | None = None
    epoch: tuple[int, int] | None = None


class PhaseSteps:
    """Optimizers and compiled train steps of a run's phases; a context manager that ends its thread.

    What was compiled is remembered with the network's graph: it serves every run that differs in weights, data, rates
    and seed alone, with the same settings of JAX's, as long as it is among the last `KEPT`.
    """

    def __init__(self, model: Model, recipe: Recipe, task: Task, steps_per_epoch: int):
        self._model = model
        self._recipe = recipe
        self._task = task
        self._steps_per_epoch = steps_per_epoch
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile-ahead")
        self._pending: dict[int, Future[Step]] = {}

    def __enter__(self) -> PhaseSteps:
        return self

    def __exit__(self, *_: object) -> None:
        self._ahead.shutdown(wait=True, cancel_futures=True)

    def optimizer(self, phase: int) -> Optimizer:
        """The optimizer of a phase."""
        return make_optimizer(self._recipe, self._model, self._steps_per_epoch, phase)

    def state(self, phase: int) -> TrainState:
        """Shapes and types of the state of a phase."""
        optimizer, ema = self.optimizer(phase), self._recipe.ema is not None
        return jax.eval_shape(lambda: TrainState.create(self._model, optimizer, ema=ema))

    def prepare(self, phase: int, inputs: StepInputs) -> None:
        """Begins to compile a phase's step."""
        if phase in self._pending:
            return
        key = self._key(phase, inputs)
        if (step := self._model.graph.remembered_lately(key)) is not None:
            self._pending[phase] = self._ahead.submit(lambda: step)
            return
        alike = self._ahead.submit(jax_settings).result() == jax_settings()  # context managers act on one thread
        lowered = None if alike else self._lowered(phase, inputs)
        self._pending[phase] = self._ahead.submit(self._compiled, key, phase, inputs, lowered)

    def step(self, phase: int, inputs: StepInputs) -> Step:
        """A phase's compiled step: ``step(state, batch, rates)``, or a whole epoch where the inputs say so."""
        if phase in self._pending:
            return self._pending.pop(phase).result()
        return self._compiled(self._key(phase, inputs), phase, inputs)

    def _compiled(self, key: tuple[Any, ...], phase: int, inputs: StepInputs, lowered: Any = None) -> Step:
        def compile() -> Step:
            return compiled(self._lowered(phase, inputs) if lowered is None else lowered)

        return self._model.graph.remember_lately(key, compile, KEPT)

    def _key(self, phase: int, inputs: StepInputs) -> tuple[Any, ...]:
        """Everything that the program depends on."""
        recipe = self._recipe
        active = trained_groups(recipe, recipe.all_phases[phase])
        entries = {group: recipe.optimizer[group].model_dump_json(exclude={"lr", "schedule"}) for group in active}
        shaping = recipe.model_dump_json(include=set(SHAPING))
        arrays = (self._model.params, self._model.batch_stats)
        return (
            "train_step",
            shaping,
            self._task.class_weights,
            str(list(recipe.groups.items())),
            str(entries),
            self._model.preprocess,
            str(inputs),
            tuple(jax.typeof(leaf) for leaf in jax.tree.leaves(arrays)),
            place_of(arrays),
            jax_settings(),
        )

    def _lowered(self, phase: int, inputs: StepInputs) -> Any:
        recipe = self._recipe
        optimizer = self.optimizer(phase)
        step = train_step_function(
            self._model,
            optimizer,
            task=self._task,
            batch_norm=recipe.batch_norm,
            accumulate=recipe.accumulate,
            mixup=recipe.mixup,
            cutmix=recipe.cutmix,
            ema=recipe.ema,
            precision=computed_in(recipe),
            after=inputs.after,
        )
        state = self.state(phase)
        if (place := place_of((self._model.params, self._model.batch_stats))) is not None:
            state = jax.tree.map(lambda leaf: leaf.update(sharding=place), state)
        steps = () if inputs.epoch is None else inputs.epoch[1:]
        rates = dict.fromkeys(optimizer.transforms, jax.ShapeDtypeStruct(steps, np.float32))
        if inputs.epoch is None:
            return jit(step, donate_argnums=0).lower(state, inputs.batch, rates)
        images = {
            name: jax.ShapeDtypeStruct((inputs.epoch[0], *leaf.shape[1:]), leaf.dtype)
            for name, leaf in inputs.batch.items()
        }
        order = jax.ShapeDtypeStruct((*steps, inputs.batch["label"].shape[0]), np.int32)
        epoch = jit(partial(_epoch, step), donate_argnums=0)
        return epoch.lower(state, images["image"], images["label"], order, rates)


def _epoch(
    step: Step, state: TrainState, features: jax.Array, labels: jax.Array, order: jax.Array, rates: Tree
) -> tuple[TrainState, Any]:
    def one(state: TrainState, now: tuple[jax.Array, Tree]) -> tuple[TrainState, Any]:
        rows, rates = now
        return step(state, {"image": features[rows], "label": labels[rows]}, rates)

    return jax.lax.scan(one, state, (order, rates))


def abstract(batch: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a batch, in an order of their own."""
    return {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in sorted(batch.items())}
