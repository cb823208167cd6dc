"""What JAX is told beside a program, by ``jax.config`` and context managers, that may make another program of it."""

from __future__ import annotations

from typing import Any

import jax


def jax_settings() -> tuple[Any, ...]:
    """JAX's settings in this thread, but for those of its cache; alike where programs are.

    >>> before = jax_settings()
    >>> with jax.default_matmul_precision("highest"):
    ...     jax_settings() == before
    False
    >>> jax_settings() == before
    True
    """
    config: Any = jax.config
    values = tuple((name, repr(value)) for name, value in config.values.items() if "cache" not in name)
    return jax.sharding.get_mesh(), values


def matmul_precision() -> str | None:
    """What ``jax.default_matmul_precision`` says; None where that is the device's own.

    >>> with jax.default_matmul_precision("highest"):
    ...     matmul_precision()
    'highest'
    """
    config: Any = jax.config
    found = config.jax_default_matmul_precision
    return None if found in (None, "default") else str(found)


def place_of(arrays: Any) -> jax.sharding.Sharding | None:
    """Where arrays of a tree were put; None where JAX may move them.

    >>> here = jax.devices()[0]
    >>> place_of([jax.numpy.ones(2)]), place_of([jax.device_put(1, here)]).device_set == {here}
    (None, True)
    """
    leaves = (leaf for leaf in jax.tree.leaves(arrays) if isinstance(leaf, jax.Array))
    return next((leaf.sharding for leaf in leaves if leaf.committed), None)
