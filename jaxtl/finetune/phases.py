"""Phases of a run: which groups train when, at which rates, and what the optimizer remembers from one to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from jaxtl.finetune.schedules import plateau_factor, rate_table
from jaxtl.judged import score
from jaxtl.recipe import FROZEN, AnySchedule, Phase, Plateau, Recipe

Record = Mapping[str, Any]


def trained_groups(recipe: Recipe, phase: Phase) -> tuple[str, ...]:
    """The groups that train in a phase, in the recipe's order."""
    groups = [group for group in dict.fromkeys(recipe.groups.values()) if group != FROZEN]
    return tuple(group for group in groups if phase.train is None or group in phase.train)


@dataclass(frozen=True)
class Position:
    """Where a run stands: the phase that comes next (0 is the first), and the epochs of it that are done."""

    phase: int
    epochs: int


def position(recipe: Recipe, history: Sequence[Record]) -> Position | None:
    """Where a run continues after some records; None: it is over. A function of the records alone.

    A phase is over when its epochs are, or when its patience is: when that many validations in a row were not better
    than the best of the phase before them.

    >>> recipe = Recipe.from_keywords(phases=[{"epochs": 2, "train": ["fast"], "patience": 1}, {"epochs": 3}])
    >>> position(recipe, [{"epoch": 1, "phase": 1, "val_accuracy": 0.5}])
    Position(phase=0, epochs=1)
    >>> position(recipe, [{"epoch": 2, "phase": 1, "val_accuracy": 0.5}])
    Position(phase=1, epochs=0)
    """
    phases = recipe.all_phases
    trained = [record for record in history if record["epoch"]]
    if not trained:
        return Position(0, 0)
    current = trained[-1]["phase"] - 1
    before = max((record["epoch"] for record in trained if record["phase"] - 1 < current), default=0)
    done = trained[-1]["epoch"] - before
    scores = [score(record) for record in trained if record["phase"] - 1 == current]
    if done < phases[current].epochs and not _out_of_patience(scores, phases[current].patience):
        return Position(current, done)
    return Position(current + 1, 0) if current + 1 < len(phases) else None


def _out_of_patience(scores: Sequence[float], patience: int | None) -> bool:
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])


@dataclass(frozen=True)
class Span:
    """One schedule of one group: from the phase in which it begins, for so many epochs at most.

    A group's schedule runs from its first step to its last over the consecutive phases that train it. It begins anew
    in a phase that gives the group a rate, and after a phase whose end is not known beforehand (``patience``). A phase
    with a schedule of its own is a span by itself.
    """

    schedule: AnySchedule
    peak: float
    first: int
    epochs: int

    def rates(self, steps_per_epoch: int) -> np.ndarray:
        """The rate of each step, float32, before any plateau."""
        return rate_table(self.schedule, self.peak, self.epochs * steps_per_epoch, steps_per_epoch)


def span_of(recipe: Recipe, group: str, number: int) -> Span:
    """The schedule that a group follows in a phase that trains it.

    >>> recipe = Recipe.from_keywords(phases=[{"epochs": 1, "train": ["fast"]}, {"epochs": 4}])
    >>> span_of(recipe, "fast", 1).epochs, span_of(recipe, "slow", 1).epochs
    (5, 4)
    """
    phases = recipe.all_phases
    entry = recipe.optimizer[group]
    peak = next((phase.rates[group] for phase in phases[number::-1] if group in phase.rates), entry.lr)
    own = phases[number].schedule
    if own is not None:
        return Span(own, peak, number, phases[number].epochs)
    first = last = number
    while first > 0 and _continues(recipe, group, first):
        first -= 1
    while last + 1 < len(phases) and _continues(recipe, group, last + 1):
        last += 1
    epochs = sum(phase.epochs for phase in phases[first : last + 1])
    return Span(entry.schedule or recipe.schedule, peak, first, epochs)


def _continues(recipe: Recipe, group: str, number: int) -> bool:
    """Whether a group's schedule goes on from the phase before into this one."""
    before, phase = recipe.all_phases[number - 1 : number + 1]
    both = group in trained_groups(recipe, before) and group in trained_groups(recipe, phase)
    alone = before.schedule is not None or phase.schedule is not None or before.patience is not None
    return both and not alone and group not in phase.rates


class Rates:
    """The rates of one phase of a run, as the host gives them to the train step.

    Args:
        recipe: of the run.
        number: the phase, from 0.
        steps_per_epoch: of the run.
        scales: factor and recipe group of each of the optimizer's groups, where blocks have rates of their own.
        history: records up to now, for plateaus.
    """

    def __init__(
        self,
        recipe: Recipe,
        number: int,
        steps_per_epoch: int,
        scales: Mapping[str, tuple[str, float]],
        history: Sequence[Record],
    ):
        self._scales = scales
        self._tables: dict[str, np.ndarray] = {}
        phases = recipe.all_phases
        for group in trained_groups(recipe, phases[number]):
            span = span_of(recipe, group, number)
            begun = sum(phase.epochs for phase in phases[span.first : number]) * steps_per_epoch
            table = span.rates(steps_per_epoch)[begun:]
            if isinstance(span.schedule, Plateau):
                scores = [score(record) for record in history if record["epoch"] and record["phase"] - 1 >= span.first]
                table = table * np.float32(plateau_factor(span.schedule, scores))
            self._tables[group] = table

    def __call__(self, step: int) -> dict[str, np.float32]:
        """The rate of each of the optimizer's groups at a step of the phase."""
        return {
            group: self._tables[base][step] * np.float32(scale)
            for group, (base, scale) in self._scales.items()
            if base in self._tables
        }


def carried(before: optax.OptState, fresh: optax.OptState) -> optax.OptState:
    """A new phase's optimizer state in which the groups that were already training keep theirs.

    ``fresh`` is what the new phase's optimizer makes of the parameters. Moments and their counts are taken from
    ``before`` wherever the same leaf of the same group exists there, so that a group that was training goes on and any
    other starts from zero. What is around the groups, such as clipping, may differ. What belongs to the new optimizer
    and to no parameter begins anew: the steps of optax's schedules, injected settings, gradients accumulated so far.

    >>> import jax.numpy as jnp
    >>> carried({"slow": jnp.ones(1)}, {"slow": jnp.zeros(1), "fast": jnp.zeros(1)})
    {'fast': Array([0.], dtype=float32), 'slow': Array([1.], dtype=float32)}
    """
    old = {_from_groups_on(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(before)[0]}

    def of(at: tuple[Any, ...], state: Any) -> Any:
        def taken(path: tuple[Any, ...], node: Any) -> Any:
            path = (*at, *path)
            if type(node) not in _OF_THE_OPTIMIZER:
                return old.get(_from_groups_on(path), node)
            goes_on = [name for name in node._fields if name not in _OF_THE_OPTIMIZER[type(node)]]
            return node._replace(
                **{name: of((*path, jax.tree_util.GetAttrKey(name)), getattr(node, name)) for name in goes_on}
            )

        return jax.tree_util.tree_map_with_path(taken, state, is_leaf=lambda node: type(node) in _OF_THE_OPTIMIZER)

    return of((), fresh)


_OF_THE_OPTIMIZER: dict[type, tuple[str, ...]] = {
    optax.ScaleByScheduleState: ("count",),
    optax.InjectStatefulHyperparamsState: ("count", "hyperparams", "hyperparams_states"),
    optax.MultiStepsState: ("mini_step", "gradient_step", "acc_grads", "skip_state"),
    optax.contrib.ReduceLROnPlateauState: optax.contrib.ReduceLROnPlateauState._fields,
}
"""What of optax's states does not depend on the parameters' past, by the names of fields."""


def _from_groups_on(path: tuple[Any, ...]) -> str:
    """The part of a path that begins at the states by group, which optax calls ``inner_states``; else all of it."""
    names = [getattr(key, "name", None) for key in path]
    return jax.tree_util.keystr(path[names.index("inner_states") :] if "inner_states" in names else path)
