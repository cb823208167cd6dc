"""Learning rates as functions of the step, from a recipe's schedule."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtl.recipe import AnySchedule, Constant, Cosine, Linear, OneCycle, Plateau, Step


def make_schedule(schedule: AnySchedule, peak: float, steps: int, steps_per_epoch: int) -> optax.Schedule:
    """``rate(step)`` for steps 0 to ``steps - 1``; the step may be an array of steps.

    A warm-up of n steps rises linearly from ``peak / n`` and reaches the peak at its last step; it never takes the last
    step of the run. From there:

    - ``cosine`` and ``linear`` fall to ``final * peak`` at the last step: only with ``final=0`` has a step the rate 0.
    - ``constant`` keeps the peak, and so does ``plateau``, whose drops depend on validation: ``plateau_factor``.
    - ``step`` is torch's ``StepLR`` counted in steps: from the start of the run, warm-up included, each
      ``every_epochs`` (fractions allowed) end with a drop.

    ``one_cycle`` is torch's ``OneCycleLR`` with cosine annealing.

    >>> rate = make_schedule(Cosine(warmup_epochs=1, final=0.0), peak=1.0, steps=9, steps_per_epoch=4)
    >>> [round(float(rate(step)), 3) for step in (0, 3, 6, 8)]
    [0.25, 1.0, 0.345, 0.0]
    """
    last = steps - 1.0
    if isinstance(schedule, OneCycle):
        start = peak / schedule.div_factor
        top = schedule.pct_start * steps - 1
        return _pieces([(start, 0.0), (peak, top), (start / schedule.final_div, last)], _half_cosine)
    warmup = min(round(schedule.warmup_epochs * steps_per_epoch), steps - 1)
    after: optax.Schedule
    match schedule:
        case Cosine() | Linear():
            shape = _half_cosine if isinstance(schedule, Cosine) else _straight
            after = _pieces([(peak, max(warmup - 1.0, 0.0)), (schedule.final * peak, last)], shape)
        case Step():
            after = _drops(peak, schedule.factor, schedule.every_epochs * steps_per_epoch, steps)
        case Constant() | Plateau():
            after = _pieces([(peak, 0.0)], _straight)
    if not warmup:
        return after
    return lambda step: after(step) * jnp.minimum((jnp.asarray(step, jnp.float32) + 1) / warmup, 1)


@functools.lru_cache(maxsize=256)  # a run asks in every epoch, and XLA takes a tenth of a second to compile it
def rate_table(schedule: AnySchedule, peak: float, steps: int, steps_per_epoch: int) -> np.ndarray:
    """The rates of all steps, float32 (steps,), not to be written to: ``make_schedule`` in one call.

    >>> rate_table(Linear(warmup_epochs=0, final=0.5), peak=1.0, steps=3, steps_per_epoch=1).tolist()
    [1.0, 0.75, 0.5]
    """
    rate = jax.jit(make_schedule(schedule, peak, steps, steps_per_epoch))
    table = np.array(rate(jnp.arange(steps)), np.float32)
    table.flags.writeable = False
    return table


def plateau_factor(schedule: Plateau, scores: Iterable[float]) -> float:
    """What the rate is multiplied by after these validation scores, the first first; higher is better.

    ``schedule.patience`` validations in a row may pass without a score above the best so far; the next such one
    multiplies the rate by ``schedule.factor`` and the count begins anew. This is torch's ``ReduceLROnPlateau`` with
    ``mode="max"`` and ``threshold=0``. A score that is not a number is no better one.

    >>> plateau_factor(Plateau(patience=1, factor=0.5), [0.6, 0.7, 0.7, 0.65])
    0.5
    """
    best, waiting, drops = -math.inf, 0, 0
    for score in scores:
        if score > best:
            best, waiting = score, 0
        else:
            waiting += 1
        if waiting > schedule.patience:
            waiting, drops = 0, drops + 1
    return schedule.factor**drops


def _drops(peak: float, factor: float, period: float, steps: int) -> optax.Schedule:
    """The peak times the factor for each full period of steps; a period need not be a whole number of steps."""
    count = int((steps - 1) / period + 1e-6)
    first_steps = jnp.asarray(np.ceil(np.arange(1, count + 1) * period - 1e-6), jnp.float32)

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        passed = jnp.searchsorted(first_steps, jnp.asarray(step, jnp.float32), side="right")
        return peak * jnp.asarray(factor, jnp.float32) ** passed

    return rate


def _half_cosine(done: jax.Array) -> jax.Array:
    return (1 + jnp.cos(jnp.pi * done)) / 2


def _straight(done: jax.Array) -> jax.Array:
    return 1 - done


def _pieces(points: list[tuple[float, float]], shape: Callable[[jax.Array], jax.Array]) -> optax.Schedule:
    """Curves from each (value, step) to the next; ``shape`` goes from 1 to 0 as its argument goes from 0 to 1."""

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step)
        value = jnp.full(step.shape, points[0][0], jnp.float32)
        for (before, begin), (after, end) in pairwise(points):
            done = jnp.clip((step - begin) / max(end - begin, 1e-9), 0.0, 1.0)
            value = jnp.where(step >= begin, after + (before - after) * shape(done), value)
        return value

    return rate
