"""The exact GELU, with a derivative that keeps nothing but the argument."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxtl.backend import on_cpu

_SCALE = math.sqrt(0.5)


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """``x * Phi(x)``, with the normal distribution's ``Phi``. Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415.

    >>> [round(value, 4) for value in gelu(jnp.array([-1.0, 0.0, 2.0])).tolist()]
    [-0.1587, 0.0, 1.9545]
    """
    if on_cpu() and x.dtype == jnp.bfloat16:
        # XLA of jaxlib 0.10 hands erf and a sum behind it to YNNPACK, and gets half of the value or none; not so erfc.
        wide = x.astype(jnp.float32)
        return (wide * (0.5 * jax.lax.erfc(wide * -_SCALE))).astype(x.dtype)
    return x * (0.5 + 0.5 * jax.lax.erf(x * _SCALE))


@gelu.defjvp
def _derivative(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    # The error function of -x: that of x XLA would find in the forward pass and keep until here, as large as x.
    normal = 0.5 - 0.5 * jax.lax.erf(x * -_SCALE)
    density = jnp.exp(jnp.square(x) * -0.5) * (1 / math.sqrt(2 * math.pi))
    return gelu(x), (normal + x * density) * tangent
