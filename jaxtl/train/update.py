"""What a step's gradients do to parameters and to the optimizer's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxtl.backend import on_cpu
from jaxtl.trees import Tree


def updated(
    update: Callable[..., tuple[Tree, Any]], gradients: Tree, opt_state: Any, params: Tree, finite: jax.Array
) -> tuple[Tree, Any]:
    """Parameters and optimizer state after ``update(gradients, opt_state, params)``, or the old ones where ``finite``
    is False.

    On a CPU the state follows when the parameters are done. Both come from the old state, and XLA would else copy all
    of it before it overwrites it, which takes 1 to 4 % of a training step.

    >>> import jax.numpy as jnp
    >>> params = {"kernel": jnp.ones(2)}
    >>> descent = optax.sgd(0.5)
    >>> updated(descent.update, params, descent.init(params), params, jnp.array(True))[0]["kernel"].tolist()
    [0.5, 0.5]
    """
    updates, state = update(gradients, opt_state, params)
    params_then = optax.tree.where(finite, optax.apply_updates(params, updates), params)
    if on_cpu():
        params_then, gradients, opt_state = jax.lax.optimization_barrier((params_then, gradients, opt_state))
        _, state = update(gradients, opt_state, params)
    return params_then, optax.tree.where(finite, state, opt_state)
