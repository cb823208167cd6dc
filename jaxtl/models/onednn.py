"""Convolutions of oneDNN, the library PyTorch computes them with on a CPU. jaxlib for x86-64 has it built in."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxlib.version import __version_info__

from jaxtl.jitted import for_this_machine, not_to_be_kept, nothing_kept

CHECKED = (0, 10), (0, 11)
"""Versions of jaxlib whose way to oneDNN this is. It is the one that XLA takes itself with its option
``xla_cpu_experimental_onednn_custom_call``, and is promised for no other version."""

MANY = 8  # images from which on it pays: what is compiled with oneDNN is compiled anew in every process


def for_onednn(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether oneDNN is to compute with ``x`` (images, ...) in the program that is being traced. If so, that is not
    kept in JAX's persistent compilation cache, which cannot hold it."""
    wanted = for_this_machine() and x.dtype == kernel.dtype == jnp.float32 and x.shape[0] >= MANY and has_onednn()
    if wanted:
        not_to_be_kept()
    return wanted


@cache
def has_onednn() -> bool:
    """Whether XLA reaches oneDNN on the default device: tried with a small convolution. With several devices it is not
    used, because XLA would gather all images on each of them.

    >>> has_onednn() in (True, False)
    True
    """
    if jax.default_backend() != "cpu" or jax.device_count() > 1 or __version_info__[:2] not in CHECKED:
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    x, kernel = np.arange(32, dtype=np.float32).reshape(1, 2, 2, 8), np.eye(8, dtype=np.float32)[None, None]
    try:
        with nothing_kept():
            found = jax.jit(lambda x, kernel: convolve(x, kernel, [(0, 0)] * 2)).lower(x, kernel).compile()(x, kernel)
    except jax.errors.JaxRuntimeError:
        return False
    return np.array_equal(found, x)


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    pads: Sequence[tuple[int, int]],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> jax.Array:
    """``x`` (batch, *places, in) convolved with ``kernel`` (*places, in / groups, out), over two or three kinds of
    places. Float32 only, without gradients."""
    kinds = len(pads)
    strides, dilations = strides or [1] * kinds, dilations or [1] * kinds
    sizes = [
        (size + sum(pad) - (taps - 1) * dilation - 1) // stride + 1
        for size, pad, taps, dilation, stride in zip(
            x.shape[1:-1], pads, kernel.shape[:-2], dilations, strides, strict=True
        )
    ]
    maps = {"dims": kinds + 2, "data": {"feature_dim": kinds + 1, "spatial_dims": list(range(1, kinds + 1))}}
    filters = {"input_feature_dim": kinds, "output_feature_dim": kinds + 1, "spatial_dims": list(range(kinds))}
    what = {
        "dims": kinds + 2,
        "input": maps,
        "kernel": {"dims": kinds + 2, "filter": filters},
        "output": maps,
        "window": {
            "size": kernel.shape[:-2],
            "pad_left": [before for before, _ in pads],
            "pad_right": [behind for _, behind in pads],
            "strides": strides,
            "window_dilations": dilations,
        },
        "feature_groups": groups,
    }
    call = jax.ffi.ffi_call(
        "__onednn$convolution",
        jax.ShapeDtypeStruct((x.shape[0], *sizes, kernel.shape[-1]), jnp.float32),
        custom_call_api_version=1,
        legacy_backend_config=json.dumps({"onednn_conv_config": what}),
        vmap_method="sequential",
    )
    return call(x, kernel)
