"""Which phases of a run train on cached features, and how."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxtl import backend, cache
from jaxtl.backend import on_cpu
from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.finetune.batch_norm import modes_of
from jaxtl.finetune.frozen_prefix import frozen_prefix
from jaxtl.finetune.optimizer import Optimizer, groups_in
from jaxtl.host_memory import free_memory, total_memory
from jaxtl.model import Model
from jaxtl.models.graph import POOLED, Graph
from jaxtl.notices import say
from jaxtl.recipe import Recipe
from jaxtl.train.feature_cache import FixedPart
from jaxtl.train.features_kept import lack
from jaxtl.train.precision import computed_in

VIEWS = 5
"""Random variants of each image where the recipe does not say: with so many, every image still comes in another form in
every epoch of a short run."""

RESIDENT = 0.25  # of the device's memory
IN_MEMORY = 0.25  # of the host's free memory, for features that have no room on the disk


@dataclass(frozen=True)
class CachedPhase:
    """How a phase trains on features.

    Attributes:
        after: the stage whose output is cached, or ``POOLED``.
        views: variants of each training image.
        row: shape and type of one image's features.
        whole: an epoch is one dispatch over features on the device; else each batch is gathered by the host.
        place: where they are kept: ``disk``, ``memory``, or ``both``.
    """

    after: str
    views: int
    row: jax.ShapeDtypeStruct
    whole: bool
    place: str

    @property
    def identity(self) -> list[Any]:
        """What the bits of a run depend on, as JSON."""
        return [self.after, self.views, self.whole]


Features = Sequence[list[Any] | None]
"""Of each phase of a run its `CachedPhase.identity`."""


def cached_phases(
    model: Model,
    data: Data,
    recipe: Recipe,
    optimizer: Callable[[int], Optimizer],
    begun_with: Features | None = None,
) -> tuple[CachedPhase | None, ...]:
    """For each phase how it trains on cached features, None for those that train on images.

    A phase does where the part in front of what it trains is fixed (``frozen_prefix``), nothing mixes images, and there
    are more epochs than variants of an image, so that something would be computed twice. Says what it has found.

    Args:
        model: of the run.
        data: of the run.
        recipe: with its strategy written out.
        optimizer: of each phase, from 0.
        begun_with: of a run that goes on, what it began with: that stays, whatever there is room for by now.

    Raises:
        InputError: neither the disk nor the whole memory holds any more what a run that goes on began with.
    """
    phases = range(len(recipe.all_phases))
    if begun_with is not None and len(begun_with) != len(phases):
        begun_with = None  # of another recipe
    found = tuple(
        _cached(model, data, recipe, number, optimizer, None if begun_with is None else (begun_with[number],))
        for number in phases
    )
    used = {number: phase for number, phase in enumerate(found, 1) if phase}
    if used:
        parts = [
            f"what comes up to {phase.after}{f' in phase {number}' if len(found) > 1 else ''}"
            for number, phase in used.items()
        ]
        views = max(phase.views for phase in used.values())
        times = f"for {views} variants of each image" if views > 1 else "once for each image"
        say(
            f"{' and '.join(parts)} stays as it is: computed {times} and kept "
            f"{_where({phase.place for phase in used.values()})}; feature_cache: false computes it in every epoch"
        )
    return found


def _where(places: set[str]) -> str:
    if places == {"memory"}:
        return "in memory, for this run alone"
    return f"in {cache.cache_folder()}{'' if places == {'disk'} else ', and in memory what has no room there'}"


def _cached(
    model: Model,
    data: Data,
    recipe: Recipe,
    number: int,
    optimizer: Callable[[int], Optimizer],
    then: tuple[list[Any] | None] | None,
) -> CachedPhase | None:
    """``then``: what a run that goes on began with; None for one that begins."""
    epochs = recipe.all_phases[number].epochs
    views = (recipe.views or VIEWS) if data.augment.is_random else 1
    if not recipe.feature_cache or recipe.mixup or recipe.cutmix or epochs <= views:
        return None
    after = _fixed(model, recipe, optimizer(number))
    if after is None:
        return None
    part = FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, after, computed_in(recipe))
    row = part.shape(data.train_preprocess.size, data.preprocess.channels)
    row_size = math.prod(row.shape) * row.dtype.itemsize
    needed = (views * len(data.train) + len(data.val)) * row_size
    resident = needed <= RESIDENT * device_memory()
    whole = resident and not _slow_in_a_loop(model.graph, after)
    if then is not None:
        if then[0] is None:
            return None
        whole = then[0][2]
    room, memory = cache.room(), IN_MEMORY * free_memory() if then is None else total_memory()
    look = needed > room and _as_given(model, recipe, optimizer, number, after)
    lacking = lack(part, data, recipe, views, row_size, look=look)
    if lacking.size > max(room, memory):
        sizes = (
            f"take {needed / 2**30:.1f} GB, and there is room for {room / 2**30:.1f} GB in {cache.cache_folder()} "
            f"(JAXTL_CACHE, JAXTL_CACHE_LIMIT) and for {memory / 2**30:.1f} GB in memory"
        )
        if then is not None:
            raise InputError(
                f"the run began with cached features of {after}, which {sizes}: free some space, name another "
                "folder, or use a machine with more memory, to continue it"
            )
        say(f"the output of {after} would {sizes}: it is computed in every epoch")
        return None
    return CachedPhase(after, views, row, whole, lacking.place(room))


def _fixed(model: Model, recipe: Recipe, optimizer: Optimizer) -> str | None:
    groups = groups_in(optimizer, model)
    return frozen_prefix(model.graph, groups, modes_of(model.graph, groups, recipe.batch_norm))


def _as_given(model: Model, recipe: Recipe, optimizer: Callable[[int], Optimizer], number: int, after: str) -> bool:
    """Whether a phase finds the part up to a stage as the model has it, so that its features can be looked for."""
    places = [None, *model.graph.stages[:-1], POOLED]
    before = [places.index(_fixed(model, recipe, optimizer(earlier))) for earlier in range(number)]
    return not recipe.recalibrate and all(place >= places.index(after) for place in before)


def device_memory() -> int:
    """Bytes of the default device; of a CPU those that the process may take, and 0 where a device does not tell."""
    return total_memory() if on_cpu() else backend.device_memory() or 0


def _slow_in_a_loop(graph: Graph, after: str) -> bool:
    """Whether a convolution lies behind a stage and the device is a CPU, where XLA's loops run them slowly."""
    if not on_cpu() or after == POOLED:
        return False
    behind = graph.stages[graph.stages.index(after) + 1 :]
    return any(
        leaf.ndim == 4 and leaf.shape[:2] != (1, 1) and graph.stage_of(path) in behind
        for path, leaf in graph.params.items()
    )
