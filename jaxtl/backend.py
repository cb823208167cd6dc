"""What JAX computes on, as far as forms and precision depend on it."""

from __future__ import annotations

import jax


def on_cpu() -> bool:
    """Whether layers take their forms for a CPU."""
    return jax.default_backend() == "cpu"


def on_gpu() -> bool:
    """Whether layers take their forms for a GPU."""
    return jax.default_backend() == "gpu"


def from_ampere_on() -> bool:
    """Whether it is an NVIDIA GPU of the generation Ampere (2020) or a newer one, fast in bfloat16."""
    generation = str(getattr(jax.devices()[0], "compute_capability", "")).partition(".")[0]
    return generation.isdecimal() and int(generation) >= 8
