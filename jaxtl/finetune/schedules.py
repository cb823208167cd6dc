"""Learning rates as functions of the step, from a recipe's schedule."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import optax

from jaxtl.recipe import Constant, Cosine, OneCycle


def make_schedule(
    schedule: Cosine | Constant | OneCycle, peak: float, steps: int, steps_per_epoch: int
) -> optax.Schedule:
    """``rate(step)`` for steps 0 to ``steps - 1``.

    A warm-up of n steps rises linearly from ``peak / n`` and reaches the peak at its last step. The cosine then falls
    to ``final * peak`` at the last step: only with ``final=0`` has a step the rate 0. ``one_cycle`` is torch's
    ``OneCycleLR`` with cosine annealing.

    >>> rate = make_schedule(Cosine(warmup_epochs=1, final=0.0), peak=1.0, steps=9, steps_per_epoch=4)
    >>> [round(float(rate(step)), 3) for step in (0, 3, 6, 8)]
    [0.25, 1.0, 0.345, 0.0]
    """
    if isinstance(schedule, OneCycle):
        start = peak / schedule.div_factor
        top = schedule.pct_start * steps - 1
        return _cosine_pieces([(start, 0.0), (peak, top), (start / schedule.final_div, steps - 1.0)])
    warmup = min(round(schedule.warmup_epochs * steps_per_epoch), steps - 1)
    last = peak if isinstance(schedule, Constant) else schedule.final * peak
    after = _cosine_pieces([(peak, max(warmup - 1.0, 0.0)), (last, steps - 1.0)])
    if not warmup:
        return after
    rise = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return lambda step: jnp.where(step < warmup, rise(step), after(step))


def _cosine_pieces(points: list[tuple[float, float]]) -> optax.Schedule:
    """Half cosines from each (value, step) to the next."""

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step)
        value = jnp.asarray(points[0][0], jnp.float32)
        for (before, begin), (after, end) in pairwise(points):
            done = jnp.clip((step - begin) / max(end - begin, 1e-9), 0.0, 1.0)
            piece = after + (before - after) * (1 + jnp.cos(jnp.pi * done)) / 2
            value = jnp.where(step >= begin, piece, value)
        return value

    return rate
