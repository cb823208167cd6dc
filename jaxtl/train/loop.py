"""The loop of a run: batches through the step of the phase it is in, a validation, a record."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxtl.backend import on_cpu
from jaxtl.compiled import give_memory_back
from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.finetune.from_recipe import make_groups
from jaxtl.finetune.phases import Position, Rates, position
from jaxtl.jax_settings import place_of
from jaxtl.model import Model
from jaxtl.recipe import Recipe
from jaxtl.train.cached_phases import Features, cached_phases
from jaxtl.train.checkpoint import Checkpoints, Records
from jaxtl.train.class_weights import class_weights
from jaxtl.train.diagnose import first_non_finite
from jaxtl.train.evaluate import Answered, begun_evaluation, finished_evaluation
from jaxtl.train.inputs import FeatureInputs, ImageInputs, step_inputs
from jaxtl.train.losses import make_task
from jaxtl.train.phase_steps import PhaseSteps, Step
from jaxtl.train.precision import computed_in
from jaxtl.train.progress import LATE, Progress
from jaxtl.train.state import TrainState
from jaxtl.train.step import make_eval_step


class Loop:
    """One run in the making; a context manager that ends its threads.

    ``start`` or ``restore`` first, then ``advance`` until ``position(recipe, loop.history)`` is None.

    Args:
        model: of the run.
        data: of the run.
        recipe: of the run.
        features: of a run that goes on, what it began with, as ``cached_phases`` takes it.

    Attributes:
        state: after the last whole step.
        history: the records so far.
        cached: of each phase how it trains on cached features; None: on images.
    """

    def __init__(self, model: Model, data: Data, recipe: Recipe, features: Features | None = None):
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
        self.cached = cached_phases(model, data, recipe, self._steps.optimizer, features)
        self._inputs: ImageInputs | FeatureInputs | None = None
        self._phase: int | None = None
        self._step: Step | None = None
        self.state: TrainState = None  # type: ignore[assignment]
        self.history: Records = []

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *error: object) -> None:
        self._steps.__exit__(*error)
        if self._inputs is not None:
            self._inputs.close()

    @property
    def most_steps(self) -> int:
        """Steps of the whole run, if no phase ends early."""
        return self._recipe.epochs * self._per_epoch

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return self.history[-1]["step"] if self.history else 0

    def like(self, phase: int) -> TrainState:
        """Shapes and types of the state of one phase."""
        return self._steps.state(phase)

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
            measured = self._validated(self._begin_validation())
            seconds = time.perf_counter() - fitted_since
            self.history.append({"epoch": 0, "step": 0, "phase": 0, **measured, "seconds": seconds})

    def restore(self, checkpoints: Checkpoints) -> None:
        """Continues after the latest checkpoint."""
        epoch = checkpoints.latest
        assert epoch is not None
        checkpoints.check(epoch)
        self._phase = max(checkpoints.records(epoch)[-1]["phase"] - 1, 0)
        stored, self.history = checkpoints.restore(epoch, self.like(self._phase))
        place = place_of((self._model.params, self._model.batch_stats))
        self.state = jax.tree.map(lambda leaf: jax.device_put(leaf, place, may_alias=False), stored)

    def advance(self, bar: Progress) -> None:
        """Trains until the next validation, validates, and adds a record."""
        recipe = self._recipe
        at = position(recipe, self.history)
        assert at is not None
        begun = time.perf_counter()
        inputs, step = self._enter(at)
        rates = Rates(recipe, at.phase, self._per_epoch, self._scales, self.history)
        epochs = min(recipe.eval_every, recipe.all_phases[at.phase].epochs - at.epochs)
        epoch = (self.history[-1]["epoch"] if self.history else 0) + epochs
        bar.epoch(epoch, recipe.epochs)
        metrics: list[dict[str, Any]] = []
        validation = None
        if isinstance(inputs, FeatureInputs) and inputs.whole:
            for done in range(epochs):
                first = (at.epochs + done) * self._per_epoch
                metrics += self._whole_epoch(inputs, step, [rates(first + i) for i in range(self._per_epoch)], bar)
                self._check(metrics, epoch)
        else:
            late: deque[dict[str, Any]] = deque()
            for done in range(epochs * self._per_epoch):
                now = rates(at.epochs * self._per_epoch + done)
                self.state, found = step(self.state, next(inputs), now)
                late.append(found)
                if len(late) > LATE:
                    metrics.append(jax.device_get(late.popleft()))
                    self._check(metrics[-1:], epoch, len(metrics) - 1)
                bar.step(metrics[-1] if metrics else None, now)
            if inputs.validation_stays:  # before the last steps are waited for, so that the device never is
                validation = self._begin_validation()
            metrics += jax.device_get(list(late))
            self._check(metrics, epoch)
        now = rates((at.epochs + epochs) * self._per_epoch - 1)
        trained = time.perf_counter()
        measured = self._validated(self._begin_validation() if validation is None else validation)
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

    def _enter(self, at: Position) -> tuple[ImageInputs | FeatureInputs, Step]:
        """What a phase trains on, and its step; entering the phase, its state is made from the last one's."""
        if self._step is not None and self._inputs is not None and self._phase == at.phase:
            return self._inputs, self._step
        if self._phase is not None and self._phase != at.phase:
            self.state = self.state.advance(self._model, self._steps.optimizer(at.phase), self._recipe.batch_norm)
        self._phase = at.phase
        cached = self.cached[at.phase]
        if cached is not None:
            if self._inputs is not None:
                self._inputs.close()
            self._inputs = FeatureInputs(self._model, self._data, self._recipe, cached, lambda: self.state, self.steps)
        elif not isinstance(self._inputs, ImageInputs):
            self._inputs = ImageInputs(self._data, self._recipe, self.steps)
        self._step = self._steps.step(at.phase, step_inputs(self._data, self._recipe, cached))
        if at.phase + 1 < len(self.cached):
            coming = step_inputs(self._data, self._recipe, self.cached[at.phase + 1])
            self._steps.prepare(at.phase + 1, coming)
        return self._inputs, self._step

    def _whole_epoch(
        self, inputs: FeatureInputs, step: Step, rates: list[dict[str, np.float32]], bar: Progress
    ) -> list[dict[str, Any]]:
        """An epoch on cached features in one dispatch; the metrics of its steps."""
        number = int(self.state.step) // self._per_epoch
        stacked = {group: np.array([now[group] for now in rates]) for group in rates[0]}
        order = inputs.order(number).astype(np.int32)
        labels = self._data.train.labels
        self.state, found = step(self.state, inputs.features(number), labels, order, stacked)
        found = jax.device_get(found)
        metrics = [{name: values[i] for name, values in found.items()} for i in range(len(rates))]
        for now, fetched in zip(rates, metrics, strict=True):
            bar.step(fetched, now)
        return metrics

    def _begin_validation(self) -> Iterable[Answered]:
        after = None if self._inputs is None else self._inputs.after
        batches = (
            self._data.eval_batches(self._recipe.eval_batch_size) if self._inputs is None else self._inputs.validation()
        )
        return begun_evaluation(self._eval_step(after), self.state, batches)

    def _validated(self, begun: Iterable[Answered]) -> dict[str, float]:
        found = finished_evaluation(begun, self._recipe.loss.name)
        if on_cpu():
            give_memory_back()
        return {f"val_{name}": value for name, value in found.items() if name not in ("correct", "count")}

    def _eval_step(self, after: str | None) -> Any:
        model, recipe = self._model, self._recipe
        precision = computed_in(recipe)
        key = ("eval_step", recipe.loss.model_dump_json(), model.preprocess, precision, after)
        make = partial(make_eval_step, model, loss=make_task(recipe.loss), precision=precision, after=after)
        return model.graph.remember(key, make)

    def _check(self, metrics: list[dict[str, Any]], epoch: int, done: int = 0) -> None:
        """Raises where the metrics of a step are not finite; ``done`` steps of this record came before them."""
        wrong = next((number for number, found in enumerate(metrics, done) if not found["finite"]), None)
        if wrong is None:
            return
        step = self.steps + wrong
        where = self._first_wrong(step)
        raise FloatingPointError(
            f"the loss or a gradient is not finite in epoch {epoch} (step {step + 1}); first: {where}: {_REMEDY}"
        )

    def _first_wrong(self, step: int) -> str:
        """What of a step is not finite. A failure to find out must not hide that the run diverged."""
        assert self._phase is not None
        optimizer, recipe = self._steps.optimizer(self._phase), self._recipe
        try:
            with closing(self._data.train_batches(recipe.batch_size, recipe.seed, step, self._views)) as batches:
                return first_non_finite(self._model, optimizer, recipe, self._task, self.state, next(batches))
        except InputError:  # labels that are no classes: the cause itself
            raise
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "")
            return f"unknown, because looking for it failed ({type(error).__name__}: {reason})"

    @property
    def _views(self) -> int | None:
        """Variants of each image in the current phase."""
        cached = None if self._phase is None else self.cached[self._phase]
        return self._recipe.views if cached is None else cached.views


_REMEDY = "lower the learning rates, or set clip_norm; checkpoints of earlier epochs, where there are any, are whole"
