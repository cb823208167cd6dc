"""``jax.jit``, with what XLA must be told to be fast."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, partial, wraps
from typing import Any

import jax
import jax.numpy as jnp

# XLA hands parts of a program to YNNPACK. Its sums are the fastest there are. Its convolutions use one core on maps of
# few channels, and take up to four times as long as XLA's own for a kernel's gradient. Its matrix products take in what
# is done with them, for which every bias and scale is first written out as large as a map: without them a ResNet-50
# under a head that alone trains takes 0.65 of the time and a quarter of the memory, and a ViT-S/16 0.9 of the time.
# It also removes optimisation barriers before it fuses operations, unless that pass is disabled.
_FOR_CPU: dict[str, str | bool] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
    "xla_disable_hlo_passes": "cse_barrier_expander,optimization_barrier_expander",
}

# Products that XLA would hand to Triton stay with cuBLAS, which also adds what it is to add. On an H200 a step of a
# ResNet-50 takes 1 % less time, and one of a ViT-S/16 8 %.
_FOR_GPU: dict[str, str | bool] = {"xla_gpu_enable_triton_gemm": False}

_tracing: ContextVar[bool] = ContextVar("tracing", default=False)


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """``jax.jit(function, **options)``, compiled with options of XLA's that make training steps fast.

    Where JAX traces the call itself, in another ``jax.jit`` or a loop, it is compiled with what surrounds it, and the
    options are that one's.

    >>> double = jit(lambda x: 2 * x)
    >>> double(1.0).item(), jax.jit(lambda x: double(x) + 1)(1.0).item(), jax.grad(double)(1.0).item()
    (2.0, 3.0, 2.0)
    """
    plain = jax.jit(function, **options)
    told = xla_options()
    return _Jitted(function, plain, told, options) if told else plain


def xla_options() -> dict[str, str | bool]:
    """What XLA is told on the default device: nothing where that is a TPU, or where XLA does not know the options."""
    if jax.default_backend() == "tpu":
        return {}
    return _known(jax.default_backend())


def xla_convolves_well() -> bool:
    """Whether what is being traced will be compiled with these options."""
    return _tracing.get()


@cache
def _known(backend: str) -> dict[str, str | bool]:
    options = _FOR_CPU if backend == "cpu" else _FOR_GPU
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


class _Jitted:
    """Two programs of a function, of which a call from Python runs the one with the options."""

    def __init__(self, function: Callable[..., Any], plain: Any, told: dict[str, str | bool], options: dict[str, Any]):
        @wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            with _as_traced():
                return function(*args, **kwargs)

        traced.__name__ = getattr(function.func if isinstance(function, partial) else function, "__name__", "traced")
        self._plain = plain
        self._own = jax.jit(traced, compiler_options=told, **options)
        self.lower, self.trace = self._own.lower, self._own.trace

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        seen = (*jax.tree.leaves((args, kwargs)), jnp.zeros(()))  # a constant is traced too within a jax.jit
        inside = any(isinstance(leaf, jax.core.Tracer) for leaf in seen)
        return (self._plain if inside else self._own)(*args, **kwargs)


@contextlib.contextmanager
def _as_traced() -> Iterator[None]:
    token = _tracing.set(True)
    try:
        yield
    finally:
        _tracing.reset(token)
