"""A normalisation, an activation, and what may be added between them."""

from __future__ import annotations

from typing import Any

import jax

from jaxtl.backend import on_gpu
from jaxtl.models.layers import Activation, BatchNorm


def norm_act(norm: Any, act: Activation, x: jax.Array, shortcut: jax.Array | None = None) -> jax.Array:
    """``act(norm(x) + shortcut)``, in training on a GPU as one operation where there is one.

    >>> import jax.numpy as jnp
    >>> from jaxtl.models.layers import Identity
    >>> norm_act(Identity(), Activation("relu"), jnp.array([-1.0, 2.0]), jnp.array([3.0, -4.0])).tolist()
    [2.0, 0.0]
    """
    if rectifies(norm, act):
        return norm.rectified(x, shortcut)
    y = norm(x)
    return act(y if shortcut is None else y + shortcut)


def rectifies(norm: Any, act: Activation) -> bool:
    """Whether there is one."""
    return on_gpu() and isinstance(norm, BatchNorm) and not norm.use_running_average and act.name == "relu"
