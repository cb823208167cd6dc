"""ReLU, in a form that XLA computes rightly on a CPU in bfloat16 too."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxtl.backend import on_cpu


def relu(x: jax.Array) -> jax.Array:
    """``max(x, 0)``, with the gradient 0 at 0 as in PyTorch.

    >>> relu(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    if on_cpu() and x.dtype == jnp.bfloat16:
        # XLA of jaxlib 0.10 compares in float32 itself. That of 0.11 does not, and gives NaN or any number for two
        # maxima of bfloat16 with the same scalar that YNNPACK computes in one program with a sum, as the ReLUs of
        # resnet18's first stage with the pooling behind it: jnp.maximum(jnp.maximum(x, 0) - 1, 0).sum(0).
        return jax.nn.relu(x.astype(jnp.float32)).astype(x.dtype)
    return jax.nn.relu(x)
