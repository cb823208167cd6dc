"""The compiled step of each phase of a run; that of the next phase is compiled while the current one trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxtl.finetune.from_recipe import make_optimizer
from jaxtl.finetune.optimizer import Optimizer
from jaxtl.finetune.phases import trained_groups
from jaxtl.model import Model
from jaxtl.recipe import Recipe
from jaxtl.train.losses import Task
from jaxtl.train.state import TrainState
from jaxtl.train.step import make_train_step

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
)


class PhaseSteps:
    """Optimizers and compiled train steps of a run's phases; a context manager that ends its thread.

    What was compiled is remembered with the network's graph: it serves every run that differs in weights, data, rates
    and seed alone.
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

    def prepare(self, phase: int, batch: Mapping[str, Any]) -> None:
        """Begins to compile a phase's step for batches of this shape; nothing to do behind the last phase."""
        if phase < len(self._recipe.all_phases) and phase not in self._pending:
            self._pending[phase] = self._ahead.submit(self._compiled, phase, _abstract(batch))

    def step(self, phase: int, batch: Mapping[str, Any]) -> Step:
        """A phase's compiled step, for batches of this shape: ``step(state, batch, rates)``."""
        if phase in self._pending:
            return self._pending.pop(phase).result()
        return self._compiled(phase, _abstract(batch))

    def _compiled(self, phase: int, batch: Any) -> Step:
        recipe = self._recipe
        active = trained_groups(recipe, recipe.all_phases[phase])
        entries = {group: recipe.optimizer[group].model_dump_json(exclude={"lr", "schedule"}) for group in active}
        shaping = recipe.model_dump_json(include=set(SHAPING))
        key = (
            "train_step",
            shaping,
            str(list(recipe.groups.items())),
            str(entries),
            self._model.preprocess,
            str(batch),
        )
        return self._model.graph.remember(key, lambda: self._compile(phase, batch))

    def _compile(self, phase: int, batch: Any) -> Step:
        recipe = self._recipe
        optimizer = self.optimizer(phase)
        step = make_train_step(
            self._model,
            optimizer,
            loss=self._task,
            batch_norm=recipe.batch_norm,
            accumulate=recipe.accumulate,
            mixup=recipe.mixup,
            cutmix=recipe.cutmix,
            ema=recipe.ema,
        )
        ema = recipe.ema is not None
        state = jax.eval_shape(lambda: TrainState.create(self._model, optimizer, ema=ema))
        rates = dict.fromkeys(optimizer.transforms, jax.ShapeDtypeStruct((), np.float32))
        return step.lower(state, batch, rates).compile()


def _abstract(batch: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in sorted(batch.items())}
