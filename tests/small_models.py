"""Small networks, labels and batches that training tests are made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxtl
from jaxtl.trees import flatten, map_with_path


@functools.cache
def small_model(name: str = "cifar_resnet20", **options: Any) -> jaxtl.Model:
    """A network whose every number is random: nothing that starts at zero or one can hide a mistake."""
    model = jaxtl.load(name, weights=None, **({"num_classes": 4} | options))
    generator = np.random.default_rng(0)

    def moved(path: str, leaf: jax.Array) -> jax.Array:
        noise = np.float32(0.1) * generator.standard_normal(leaf.shape, np.float32)
        return jnp.asarray(np.asarray(leaf) + (abs(noise) if path.endswith(".var") else noise))

    return model.replace(params=map_with_path(moved, model.params), batch_stats=map_with_path(moved, model.batch_stats))


def training(*stages: str, group: str = "all") -> Callable[[str, Any], str]:
    """A label function that trains what belongs to these path prefixes and freezes the rest."""
    return lambda path, leaf: group if path.split(".")[0] in stages else "frozen"


def batch(size: int = 16, count: int = 4, channels: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((count, size, size, channels), np.float32)
    return {"image": images, "label": generator.integers(0, 4, count)}


def bits(tree: Any) -> dict[str, bytes]:
    """The bytes of every leaf of a nested dict, by path."""
    return {path: np.asarray(leaf).tobytes() for path, leaf in flatten(tree).items()}


def leaf_bits(tree: Any) -> list[bytes]:
    """The bytes of every leaf of any pytree."""
    return [
        np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf).tobytes()
        for leaf in jax.tree.leaves(tree)
    ]
