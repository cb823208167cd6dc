"""The loop of a run: batches through the step of the phase it is in, a validation, a record."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Mapping
from typing import Any

import jax
import numpy as np

from jaxtl.data.dataset import Data
from jaxtl.finetune.from_recipe import make_groups
from jaxtl.finetune.phases import Position, Rates, position
from jaxtl.model import Model
from jaxtl.recipe import Recipe
from jaxtl.train.checkpoint import Checkpoints, Records
from jaxtl.train.class_weights import class_weights
from jaxtl.train.diagnose import first_non_finite
from jaxtl.train.evaluate import run_evaluation
from jaxtl.train.losses import make_task
from jaxtl.train.phase_steps import PhaseSteps, Step
from jaxtl.train.progress import LATE, Progress
from jaxtl.train.state import TrainState
from jaxtl.train.step import make_eval_step


class Loop:
    """One run in the making; a context manager that ends its threads.

    ``start`` or ``restore`` first, then ``advance`` until ``position(recipe, loop.history)`` is None.

    Attributes:
        state: after the last whole step.
        history: the records so far.
    """

    def __init__(self, model: Model, data: Data, recipe: Recipe):
        self._model = model
        self._data = data
        self._recipe = recipe
        self._task = make_task(
            recipe.loss,
            label_smoothing=recipe.label_smoothing,
            class_weights=class_weights(recipe.class_weights, data),
        )
        self._per_epoch = data.steps_per_epoch(recipe.batch_size)
        self._scales = make_groups(recipe, model).scales
        self._steps = PhaseSteps(model, recipe, self._task, self._per_epoch)
        key = ("eval_step", recipe.loss.model_dump_json(), model.preprocess)
        self._eval_step = model.graph.remember(key, lambda: make_eval_step(model, loss=make_task(recipe.loss)))
        self._batches: Generator[Mapping[str, Any], None, None] | None = None
        self._phase: int | None = None
        self._step: Step | None = None
        self.state: TrainState = None  # type: ignore[assignment]
        self.history: Records = []

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *error: object) -> None:
        self._steps.__exit__(*error)
        if self._batches is not None:
            self._batches.close()

    @property
    def most_steps(self) -> int:
        """Steps of the whole run, if no phase ends early."""
        return self._recipe.epochs * self._per_epoch

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return self.history[-1]["step"] if self.history else 0

    def like(self, phase: int) -> TrainState:
        """A state with the shapes of one phase."""
        optimizer = self._steps.optimizer(phase)
        return TrainState.create(self._model, optimizer, self._recipe.seed, ema=self._recipe.ema is not None)

    def start(self, model: Model, fitted_since: float | None = None) -> None:
        """Begins with a model's weights.

        Args:
            model: with these weights.
            fitted_since: the time (``time.perf_counter``) at which fitting them to the images began, where something
                was fitted; a record of epoch 0 then says how good they are.
        """
        optimizer = self._steps.optimizer(0)
        self.state = TrainState.create(model, optimizer, self._recipe.seed, ema=self._recipe.ema is not None)
        if fitted_since is not None:
            measured = self._validate()
            seconds = time.perf_counter() - fitted_since
            self.history.append({"epoch": 0, "step": 0, "phase": 0, **measured, "seconds": seconds})

    def restore(self, checkpoints: Checkpoints) -> None:
        """Continues after the latest checkpoint."""
        epoch = checkpoints.latest
        assert epoch is not None
        records = checkpoints.records(epoch)
        self._phase = records[-1]["phase"] - 1
        self.state, self.history = checkpoints.restore(epoch, self.like(self._phase))

    def advance(self, bar: Progress) -> None:
        """Trains until the next validation, validates, and adds a record."""
        recipe = self._recipe
        at = position(recipe, self.history)
        assert at is not None
        if self._batches is None:
            self._batches = self._data.train_batches(recipe.batch_size, seed=recipe.seed, start=self.steps)
        rates = Rates(recipe, at.phase, self._per_epoch, self._scales, self.history)
        epochs = min(recipe.eval_every, recipe.all_phases[at.phase].epochs - at.epochs)
        epoch = (self.history[-1]["epoch"] if self.history else 0) + epochs
        bar.epoch(epoch, recipe.epochs)
        begun = time.perf_counter()
        metrics: list[dict[str, Any]] = []
        late: deque[tuple[Mapping[str, Any], dict[str, Any]]] = deque()
        for done in range(epochs * self._per_epoch):
            batch = next(self._batches)
            now = rates(at.epochs * self._per_epoch + done)
            self.state, found = self._step_of(at, batch)(self.state, batch, now)
            late.append((batch, found))
            if len(late) > LATE:
                metrics.append(self._checked(*late.popleft(), epoch, len(metrics)))
                bar.step(metrics[-1], now)
            else:
                bar.step(None, now)
        while late:
            metrics.append(self._checked(*late.popleft(), epoch, len(metrics)))
        trained = time.perf_counter()
        measured = self._validate()
        if not np.isfinite(measured["val_loss"]):
            raise FloatingPointError(f"the validation loss is not finite after epoch {epoch}: {_REMEDY}")
        names = [name for name in ("loss", self._task.score_name) if name in ("loss", "accuracy")]
        self.history.append(
            {
                "epoch": epoch,
                "step": self.steps + len(metrics),
                "phase": at.phase + 1,
                **{f"train_{name}": float(np.mean([m[name] for m in metrics])) for name in names},
                **measured,
                "learning_rate": {group: float(rate) for group, rate in now.items()},
                "images_per_second": len(metrics) * min(recipe.batch_size, len(self._data.train)) / (trained - begun),
                "seconds": time.perf_counter() - begun,
            }
        )

    def _step_of(self, at: Position, batch: Mapping[str, Any]) -> Step:
        """The step of a phase; entering the phase, its state is made from the last one's."""
        if self._step is None or self._phase != at.phase:
            if self._phase is not None and self._phase != at.phase:
                self.state = self.state.advance(self._model, self._steps.optimizer(at.phase))
            self._phase = at.phase
            self._step = self._steps.step(at.phase, batch)
            self._steps.prepare(at.phase + 1, batch)
        return self._step

    def _validate(self) -> dict[str, float]:
        found = run_evaluation(self._eval_step, self.state, self._data, self._recipe.eval_batch_size)
        return {f"val_{name}": found[name] for name in ("loss", "accuracy") if name in found}

    def _checked(self, batch: Mapping[str, Any], found: dict[str, Any], epoch: int, done: int) -> dict[str, Any]:
        """The metrics of a step, fetched; raises where they are not finite."""
        metrics = jax.device_get(found)
        if metrics["finite"]:
            return metrics
        assert self._phase is not None
        optimizer = self._steps.optimizer(self._phase)
        where = first_non_finite(self._model, optimizer, self._recipe, self._task, self.state, batch)
        raise FloatingPointError(
            f"the loss or a gradient is not finite in epoch {epoch} (step {self.steps + done + 1}); "
            f"first: {where}: {_REMEDY}"
        )


_REMEDY = "lower the learning rates, or set clip_norm; checkpoints of earlier epochs, where there are any, are whole"
