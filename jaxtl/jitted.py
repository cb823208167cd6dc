"""``jax.jit``, with what XLA must be told to be fast."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, partial, wraps
from threading import Lock
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxtl.backend import device

T = TypeVar("T")

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


class _Trace:
    """A program that is traced, and perhaps compiled."""

    def __init__(self, *, kept: bool, until: contextlib.ExitStack):
        self.made: dict[Callable[[], Any], Any] = {}
        self.kept = True
        self._until = until
        if not kept:
            self.not_to_be_kept()

    def not_to_be_kept(self) -> None:
        if self.kept:
            self.kept = False
            self._until.enter_context(nothing_kept())


_tracing: ContextVar[_Trace | None] = ContextVar("tracing", default=None)
_made_for_others: dict[Callable[[], Any], Any] = {}


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """``jax.jit(function, **options)``, compiled with options of XLA's that make training steps fast.

    Where JAX traces the call itself, in another ``jax.jit`` or a loop, it is compiled with what surrounds it, and the
    options are that one's.

    >>> double = jit(lambda x: 2 * x)
    >>> double(1.0).item(), jax.jit(lambda x: double(x) + 1)(1.0).item(), jax.grad(double)(1.0).item()
    (2.0, 3.0, 2.0)
    """
    return _Jitted(function, options)


def xla_options() -> dict[str, str | bool]:
    """What XLA is told on the default device: nothing where that is a TPU, or where XLA does not know the options."""
    platform = device().platform
    return {} if platform == "tpu" else _known(platform)


def for_this_machine() -> bool:
    """Whether what is being traced will be compiled with these options."""
    return _tracing.get() is not None


def one_per_trace(make: Callable[[], T]) -> T:
    """What ``make`` makes: another one in each program that is compiled with these options, and one for all others.

    For functions of which JAX remembers traces, as ``jax.checkpoint`` does: their forms are those of one program.

    >>> one_per_trace(object) is one_per_trace(object)
    True
    """
    trace = _tracing.get()
    made = _made_for_others if trace is None else trace.made
    if make not in made:
        made[make] = make()
    return made[make]


def not_to_be_kept() -> None:
    """Keeps the program that is being traced out of JAX's persistent compilation cache: for what cannot be written
    there. (XLA would try, and fail with ``std::bad_alloc``.)"""
    trace = _tracing.get()
    if trace is not None:
        trace.not_to_be_kept()


@cache
def _known(platform: str) -> dict[str, str | bool]:
    options = _FOR_CPU if platform == "cpu" else _FOR_GPU
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


class _Jitted:
    """Programs of a function: one for any machine, and one with the options for each kind of device, which a call from
    Python runs there."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]):
        self._function, self._options = function, options
        self._plain = jax.jit(function, **options)
        self._own: dict[str, Any] = {}
        self._kept = True
        self.trace = self._plain.trace  # for ``jax.export``: a program for any machine
        self.eval_shape = self._plain.eval_shape

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        seen = (*jax.tree.leaves((args, kwargs)), jnp.zeros(()))  # a constant is traced too within a jax.jit
        if any(isinstance(leaf, jax.core.Tracer) for leaf in seen):
            # what JAX remembers of jax.jit's function may have been traced without the options
            return (self._plain if _tracing.get() is None else self._function)(*args, **kwargs)
        program = self._here()
        if program is self._plain:
            return program(*args, **kwargs)
        with self._as_traced():
            return program(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """As ``jax.jit``'s."""
        program = self._here()
        if program is self._plain:
            return program.lower(*args, **kwargs)
        with self._as_traced():
            lowered = program.lower(*args, **kwargs)
        return lowered if self._kept else _Unkept(lowered)

    def clear_cache(self) -> None:
        """As ``jax.jit``'s."""
        for program in (self._plain, *self._own.values()):
            program.clear_cache()

    def _here(self) -> Any:
        """The program for the default device, which may change: ``jax.jit`` takes options when it is made."""
        told = xla_options()
        if not told:
            return self._plain
        platform = device().platform
        if platform not in self._own:
            self._own[platform] = self._told(told)
        return self._own[platform]

    def _told(self, told: dict[str, str | bool]) -> Any:
        function = self._function

        @wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        traced.__name__ = getattr(function.func if isinstance(function, partial) else function, "__name__", "traced")
        return jax.jit(traced, compiler_options=told, **self._options)

    @contextlib.contextmanager
    def _as_traced(self) -> Iterator[None]:
        with contextlib.ExitStack() as until:
            trace = _Trace(kept=self._kept, until=until)
            token = _tracing.set(trace)
            try:
                yield
            finally:
                _tracing.reset(token)
                self._kept = self._kept and trace.kept  # another thread may have traced meanwhile


class _Unkept:
    """What ``jax.jit(...).lower(...)`` returned, compiled without being kept."""

    def __init__(self, lowered: Any):
        self._lowered = lowered

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lowered, name)

    def compile(self, *args: Any, **kwargs: Any) -> Any:
        with nothing_kept():
            return self._lowered.compile(*args, **kwargs)


class _Keeping:
    """JAX's least time of a compilation to be kept, and how many now forbid it."""

    lock, depth, usual = Lock(), 0, 0.0


@contextlib.contextmanager
def nothing_kept() -> Iterator[None]:
    """JAX keeps no program that it compiles meanwhile."""
    name = "jax_persistent_cache_min_compile_time_secs"
    with _Keeping.lock:
        if _Keeping.depth == 0:
            _Keeping.usual = getattr(jax.config, name)
            jax.config.update(name, math.inf)
        _Keeping.depth += 1
    try:
        yield
    finally:
        with _Keeping.lock:
            _Keeping.depth -= 1
            if _Keeping.depth == 0:
                jax.config.update(name, _Keeping.usual)
