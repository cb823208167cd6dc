"""What a phase trains on and is validated with: images, or cached features of its fixed part."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.data.dataset import Data
from jaxtl.model import Model
from jaxtl.recipe import Recipe
from jaxtl.train.cached_phases import CachedPhase
from jaxtl.train.feature_cache import FixedPart, features_of, variant
from jaxtl.train.phase_steps import StepInputs, abstract
from jaxtl.train.precision import computed_in
from jaxtl.train.state import TrainState

Batch = Mapping[str, Any]


class ImageInputs:
    """Endless batches of images, from a step on."""

    after: str | None = None

    def __init__(self, data: Data, recipe: Recipe, start: int):
        self._data = data
        self._recipe = recipe
        self._batches: Generator[Batch, None, None] = data.train_batches(
            recipe.batch_size, seed=recipe.seed, start=start, views=recipe.views
        )
        self._to_validate: list[Batch] | None = None

    def __next__(self) -> Batch:
        return next(self._batches)

    @property
    def validation_stays(self) -> bool:
        """Whether the validation images stay on the device: where the training images do and these are no more."""
        return self._data.storage.kind == "device" and len(self._data.val) <= len(self._data.train)

    def validation(self) -> Iterable[Batch]:
        """Once an epoch."""
        batches = self._data.eval_batches(self._recipe.eval_batch_size)
        if not self.validation_stays:
            return batches
        if self._to_validate is None:
            self._to_validate = jax.device_put(list(batches))
        return self._to_validate

    def close(self) -> None:
        self._batches.close()


class FeatureInputs:
    """The same of cached features: the images of each batch, and their variants, are those that `ImageInputs` gives
    with as many views.

    Args:
        model: of the run.
        data: of the run.
        recipe: of the run.
        phase: how the phase is cached.
        state: gives the run's current state, of which the fixed part is taken.
        start: the step to begin with.
    """

    def __init__(
        self,
        model: Model,
        data: Data,
        recipe: Recipe,
        phase: CachedPhase,
        state: Callable[[], TrainState],
        start: int,
    ):
        self.after: str | None = phase.after
        self.validation_stays = False
        self.whole = phase.whole
        self._data = data
        self._recipe = recipe
        self._views = phase.views
        self._step = start
        self._per_epoch = data.steps_per_epoch(recipe.batch_size)
        self._model = model
        self._state = state
        self._found: dict[int | None, Any] = {}
        self._part_key: str | None = None

    def __next__(self) -> Batch:
        epoch, place = divmod(self._step, self._per_epoch)
        rows = self.order(epoch)[place]
        self._step += 1
        return {"image": self.features(epoch)[rows], "label": self._data.train.labels[rows]}

    def order(self, epoch: int) -> np.ndarray:
        """(steps, batch): which images each step of an epoch takes."""
        order = self._data.train_order(epoch, self._recipe.seed)
        size = min(self._recipe.batch_size, len(order))
        return order[: self._per_epoch * size].reshape(self._per_epoch, size)

    def features(self, epoch: int) -> Any:
        """(N, ...): those of all training images in an epoch; on the device where an epoch is one dispatch."""
        view = epoch % self._views
        if view not in self._found:
            found = self._computed("train", variant(self._data, view))
            self._found[view] = jnp.asarray(found) if self.whole else found
        return self._found[view]

    def validation(self) -> Iterator[Batch]:
        if None not in self._found:
            self._found[None] = self._computed("val", None)
        return padded_batches(self._found[None], self._data.val.labels, self._recipe.eval_batch_size)

    def _computed(self, split: str, view: int | None) -> np.ndarray:
        state, model, recipe = self._state(), self._model, self._recipe
        assert self.after is not None
        part = FixedPart(
            model.graph, state.all_params, state.batch_stats, model.preprocess, self.after, computed_in(recipe)
        )
        self._part_key = self._part_key or part.key()  # of weights that a phase leaves as they are
        how: dict[str, Any] = {"seed": recipe.seed, "batch_size": recipe.eval_batch_size, "part_key": self._part_key}
        return features_of(part, self._data, split, view=view, **how)

    def close(self) -> None:
        self._found.clear()


def padded_batches(features: np.ndarray, labels: np.ndarray, batch_size: int) -> Iterator[Batch]:
    """All rows once, in order; the last batch is filled up with zeros, and ``mask`` is False there.

    >>> [batch["mask"].tolist() for batch in padded_batches(np.ones((3, 4)), np.zeros(3), 2)]
    [[True, True], [True, False]]
    """
    for start in range(0, len(labels), batch_size):
        batch = {"image": features[start : start + batch_size], "label": labels[start : start + batch_size]}
        count = len(batch["label"])
        missing = batch_size - count
        if missing:
            batch = {key: np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1)) for key, rows in batch.items()}
        yield {**batch, "mask": np.arange(batch_size) < count}


def step_inputs(data: Data, recipe: Recipe, phase: CachedPhase | None) -> StepInputs:
    """Shapes and types of what a phase's step takes."""
    size = min(recipe.batch_size, len(data.train))
    labels = data.train.labels
    label = jax.ShapeDtypeStruct((size, *labels.shape[1:]), labels.dtype)
    if phase is None:
        shape = (size, *data.train_preprocess.size, data.preprocess.channels)
        return StepInputs(abstract({"image": jax.ShapeDtypeStruct(shape, np.uint8), "label": label}))
    image = jax.ShapeDtypeStruct((size, *phase.row.shape), phase.row.dtype)
    images = (len(data.train), data.steps_per_epoch(recipe.batch_size)) if phase.whole else None
    return StepInputs(abstract({"image": image, "label": label}), phase.after, images)
