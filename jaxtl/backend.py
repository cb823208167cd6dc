"""What JAX computes on, as far as forms and precision depend on it."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax

from jaxtl.notices import say


def device() -> jax.Device:
    """What programs run on whose arrays lie nowhere in particular: ``jax.default_device``, or the first device.

    >>> with jax.default_device("cpu"):
    ...     device().platform
    'cpu'
    """
    config: Any = jax.config
    chosen = config.jax_default_device
    return jax.local_devices(backend=chosen)[0] if chosen is None or isinstance(chosen, str) else chosen


def on_cpu() -> bool:
    """Whether layers take their forms for a CPU."""
    return device().platform == "cpu"


def on_gpu() -> bool:
    """Whether layers take their forms for a GPU."""
    return device().platform == "gpu"


def device_memory() -> int | None:
    """Bytes of the device's memory; None where it does not tell."""
    return (device().memory_stats() or {}).get("bytes_limit")


def from_ampere_on() -> bool:
    """Whether it is an NVIDIA GPU of the generation Ampere (2020) or a newer one, fast in bfloat16."""
    generation = str(getattr(device(), "compute_capability", "")).partition(".")[0]
    return generation.isdecimal() and int(generation) >= 8


def several_devices() -> bool:
    """Whether there are others of its kind, among which arrays may be divided."""
    return jax.device_count(device().platform) > 1


@cache
def say_which_is_used(place: jax.sharding.Sharding | None) -> None:
    """Says, once in a process, that a run uses one of several GPUs or TPUs: the one where its model was put, or the
    default one."""
    used, *others = [device()] if place is None else place.device_set
    if others:
        return
    here = len(jax.local_devices(backend=used.platform))
    if here > 1 and used.platform != "cpu":
        say(
            f"{here} devices are here, and one is used, {used}: jax.default_device names another, and steps of "
            "jaxtl.make_train_step take batches that are divided among several"
        )
