"""The first update that a transform makes, at the peak of its schedule."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtl.finetune.optimizer import holds

STEPS = np.unique(np.geomspace(1, 100_000, 4000).astype(np.int32)) - 1
"""Where a schedule's peak is looked for."""

_SCHEDULED = (optax.ScaleByScheduleState, optax.InjectStatefulHyperparamsState)
_MOST_PARTS = 100_000


def first_updates(transform: optax.GradientTransformation, like: Any, given: Any, **extra: Any) -> Any:
    """The first updates (N, ...) for some gradients and parameters.

    Gradients that are accumulated are given until they make an update. With schedules of optax's it is the update at
    the step at which that for the first pair is largest.

    Args:
        transform: of optax.
        like: a tree of ones for the parameters.
        given: gradients (N,) and parameters (N,), each for all of the tree.
        extra: what the transform takes besides.

    >>> rising = optax.sgd(optax.linear_schedule(0.0, 0.1, 10))
    >>> first_updates(rising, {"bias": jnp.ones(1)}, (jnp.array([1.0, 2.0]), jnp.zeros(2)))["bias"].round(3).tolist()
    [[-0.10000000149011612], [-0.20000000298023224]]
    """
    update = partial(optax.with_extra_args_support(transform).update, **extra)

    def begun(pair: Any) -> tuple[Any, optax.OptState, Any]:
        gradients, values = (jax.tree.map(lambda one, number=number: one * number, like) for number in pair)
        return gradients, _about_to_update(update, gradients, transform.init(values), values), values

    peak = jnp.int32(0)
    if any(holds(transform.init(like), kind) for kind in _SCHEDULED):
        peak = _peak_step(update, *begun([numbers[0] for numbers in given]))

    def first(pair: Any) -> Any:
        gradients, state, values = begun(pair)
        return update(gradients, _at_step(state, peak), values)[0]

    return jax.lax.map(first, given)


def _about_to_update(update: Any, gradients: Any, state: optax.OptState, values: Any) -> optax.OptState:
    """The state before the first update of a transform that accumulates gradients; of any other as it is."""
    if not holds(state, optax.MultiStepsState):
        return state

    def given_one_more(state: optax.OptState) -> optax.OptState:
        return update(gradients, state, values)[1]

    def waits(carry: Any) -> Any:
        _, after, count = carry
        made = jnp.array([step for _, step in optax.tree.get_all_with_path(after, "gradient_step")])
        return (made == 0).all() & (count < _MOST_PARTS)

    begin = (state, given_one_more(state), 1)
    return jax.lax.while_loop(waits, lambda carry: (carry[1], given_one_more(carry[1]), carry[2] + 1), begin)[0]


def _peak_step(update: Any, gradients: Any, state: optax.OptState, values: Any) -> jax.Array:
    def size(step: jax.Array) -> jax.Array:
        updates = update(gradients, _at_step(state, step), values)[0]
        return jnp.max(jnp.array([abs(leaf).max() for leaf in jax.tree.leaves(updates)]))

    return jnp.asarray(STEPS)[jnp.argmax(jax.vmap(size)(jnp.asarray(STEPS)))]


def _at_step(state: optax.OptState, step: jax.Array) -> optax.OptState:
    """The state with all of optax's schedules at a step, and all else as it is."""

    def moved(node: Any) -> Any:
        if isinstance(node, optax.ScaleByScheduleState):
            return node._replace(count=step)
        if isinstance(node, optax.InjectStatefulHyperparamsState):
            schedules = jax.tree.map(
                lambda leaf: step if jnp.issubdtype(leaf.dtype, jnp.integer) else leaf, node.hyperparams_states
            )
            return node._replace(hyperparams_states=schedules, inner_state=_at_step(node.inner_state, step))
        return node

    return jax.tree.map(moved, state, is_leaf=lambda node: isinstance(node, _SCHEDULED))
