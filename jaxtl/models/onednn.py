"""Convolutions of oneDNN, the library PyTorch computes them with on a CPU. jaxlib for x86-64 has it built in."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxlib.version import __version_info__

from jaxtl.backend import on_cpu, several_devices
from jaxtl.jitted import not_to_be_kept, nothing_kept

CHECKED = (0, 10), (0, 11)
"""Versions of jaxlib whose way to oneDNN this is. It is the one that XLA takes itself with its option
``xla_cpu_experimental_onednn_custom_call``, and is promised for no other version."""

MANY = 8  # images from which on it pays: what is compiled with oneDNN is compiled anew in every process


def for_onednn(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether oneDNN is to compute with ``x`` (images, ...) in the program that is being traced, which is one for this
    machine. If so, that is not kept in JAX's persistent compilation cache, which cannot hold it."""
    fast = x.dtype == jnp.float32 or (x.dtype == jnp.bfloat16 and multiplies_bfloat16())
    wanted = fast and x.dtype == kernel.dtype and x.shape[0] >= MANY and has_onednn()
    if wanted:
        not_to_be_kept()
    return wanted


def has_onednn() -> bool:
    """Whether XLA reaches oneDNN on the default device. With several devices it is not used, because XLA would gather
    all images on each of them.

    >>> has_onednn() in (True, False)
    True
    """
    known = __version_info__[:2] in CHECKED and platform.machine().lower() in ("x86_64", "amd64")
    return known and on_cpu() and not several_devices() and _is_reached()


@cache
def _is_reached() -> bool:
    """Tried with a small convolution."""
    x, kernel = np.arange(32, dtype=np.float32).reshape(1, 2, 2, 8), np.eye(8, dtype=np.float32)[None, None]
    try:
        with nothing_kept():
            found = jax.jit(lambda x, kernel: convolve(x, kernel, [(0, 0)] * 2)).lower(x, kernel).compile()(x, kernel)
    except jax.errors.JaxRuntimeError:
        return False
    return np.array_equal(found, x)


@cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16 matrices, Intel's AMX; where Linux says so.

    >>> multiplies_bfloat16() in (True, False)
    True
    """
    try:
        return " amx_bf16 " in Path("/proc/cpuinfo").read_text(encoding="utf-8").replace("\n", " ")
    except OSError:
        return False


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    pads: Sequence[tuple[int, int]],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
    dtype: Any = None,
) -> jax.Array:
    """``x`` (batch, *places, in) convolved with ``kernel`` (*places, in / groups, out), over two or three kinds of
    places, in ``dtype`` or that of ``x``. Without gradients."""
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
    shape = x.shape[0], *sizes, kernel.shape[-1]
    return _call("convolution", shape, dtype or x.dtype, {"onednn_conv_config": what}, x, kernel)


def multiply(x: jax.Array, y: jax.Array, *, transpose_x: bool = False, transpose_y: bool = False) -> jax.Array:
    """The product of two matrices, or of their transposes, in float32. Without gradients."""
    what = {"onednn_matmul_config": {"transpose_a": transpose_x, "transpose_b": transpose_y}}
    shape = x.shape[transpose_x], y.shape[not transpose_y]
    return _call("matmul", shape, jnp.float32, what, x, y)


def _call(name: str, shape: tuple[int, ...], dtype: Any, what: dict[str, Any], *given: jax.Array) -> jax.Array:
    call = jax.ffi.ffi_call(
        f"__onednn${name}",
        jax.ShapeDtypeStruct(shape, dtype),
        custom_call_api_version=1,
        legacy_backend_config=json.dumps(what),
        vmap_method="sequential",
    )
    return call(*given)
