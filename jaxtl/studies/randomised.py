"""Weights that hide nothing: every number drawn at random, and statistics that fit them.

Networks start with branches that are switched off: zero scales behind residual branches, layer scales of 1e-5. On such
weights two networks that differ can give equal outputs.
"""

from __future__ import annotations

import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.model import Model
from jaxtl.models.graph import Modes
from jaxtl.trees import flatten, map_with_path


def randomise(model: Model, images: jax.Array, seed: int = 0) -> Model:
    """The same network with all parameters random, of sizes that keep activations in bounds, and with statistics near
    those of some images (B, H, W, C).

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=3)
    >>> wild = randomise(model, jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 3)), jnp.float32))
    >>> bool(jnp.isfinite(wild(np.zeros((2, 8, 8, 3), np.float32))).all())
    True
    """
    norms = sum(path.endswith(".scale") for path in flatten(model.params))

    def drawn(path: str, leaf: jax.Array) -> jax.Array:
        generator = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(path.encode())]))
        values = generator.standard_normal(leaf.shape, np.float32)
        name = path.rpartition(".")[2]
        if name == "scale":  # the deeper, the smaller the branches: rounding errors must not grow with depth
            return jnp.asarray((1.3 + 0.2 * values) * min(1.0, 50 / norms) ** 0.75)
        fan_in = math.prod(leaf.shape[:-1]) if name == "kernel" else 1
        return jnp.asarray(values * np.float32(math.sqrt(2 / fan_in) if fan_in > 1 else 0.2))

    model = model.replace(params=map_with_path(drawn, model.params))
    batch_norms = frozenset(model.graph.batch_norms)
    if not batch_norms:
        return model
    modes = Modes(adapt=batch_norms, observe=batch_norms)
    _, stats = jax.jit(lambda p, s, x: model.apply(p, s, x, modes))(model.params, model.batch_stats, images)

    def moved(path: str, leaf: jax.Array) -> jax.Array:
        values = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(path.encode())])).standard_normal(
            leaf.shape
        )
        if path.endswith(".var"):
            return leaf * jnp.exp(0.1 * jnp.asarray(values, jnp.float32))
        variance = flatten(stats)[f"{path.removesuffix('mean')}var"]
        return leaf + 0.1 * jnp.sqrt(variance) * jnp.asarray(values, jnp.float32)

    return model.replace(batch_stats=map_with_path(moved, stats))
