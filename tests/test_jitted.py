"""What is compiled for a CPU with options of XLA's: where they reach, and where they give way."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl import jitted
from jaxtl.jitted import for_this_machine, jit

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="about a CPU's options")


def _noted() -> tuple[list[bool], object]:
    """A jitted function, and what it saw whenever it was traced."""
    seen: list[bool] = []

    def double(x):
        seen.append(for_this_machine())
        return 2 * x

    return seen, jit(double)


@on_cpu
def test_a_call_from_python_is_compiled_with_the_options() -> None:
    seen, double = _noted()
    assert double(3.0).item() == 6.0
    assert double(np.ones(2)).tolist() == [2.0, 2.0]
    assert seen == [True, True]
    assert not for_this_machine()


@pytest.mark.parametrize(
    "surrounded",
    [
        lambda f: jax.jit(lambda x: f(x))(3.0),
        lambda f: jax.jit(lambda: f(3.0))(),
        lambda f: jax.lax.scan(lambda total, x: (total + f(x), None), 0.0, jnp.array([1.0, 2.0]))[0],
        lambda f: jax.value_and_grad(f)(3.0)[0],
        lambda f: jax.vmap(f)(jnp.array([3.0]))[0],
        lambda f: jit(lambda x: f(x))(3.0),
    ],
)
def test_within_a_trace_it_is_part_of_what_surrounds_it(surrounded) -> None:
    assert surrounded(_noted()[1]) == 6.0


@on_cpu
def test_xla_convolves_itself() -> None:
    kernel = jnp.ones((3, 3, 8, 8))

    def convolve(x):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    text = jit(convolve).lower(jnp.ones((2, 8, 8, 8))).compile().as_text()
    assert "convolution(" in text
    assert "ynn_fusion" not in text


def test_options_that_xla_does_not_know_are_left_out() -> None:
    jitted._known.cache_clear()
    try:
        with mock.patch.object(jitted, "_FOR_CPU", {"xla_cpu_of_tomorrow": "true"}):
            assert jitted.xla_options() == {}
            seen, double = _noted()
            assert double(3.0).item() == 6.0
            assert seen == [False]
    finally:
        jitted._known.cache_clear()


@on_cpu
def test_the_options_are_those_of_the_device_it_is_called_on() -> None:
    seen, double = _noted()
    with mock.patch.object(jitted, "device", return_value=SimpleNamespace(platform="tpu")):
        assert double(3.0).item() == 6.0
    assert double(3.0).item() == 6.0
    assert seen == [False, True]


def test_it_has_what_a_jit_of_jaxs_has() -> None:
    seen, double = _noted()
    assert double.eval_shape(np.ones(2, np.float32)).shape == (2,)
    for _ in range(2):
        double(3.0)
        double.clear_cache()
    assert len(seen) == 3


def test_arguments_of_jit_reach_it() -> None:
    add = jit(lambda x, times: x * times, static_argnames="times", donate_argnums=0)
    x = jnp.ones(4)
    assert add(x, times=3).tolist() == [3.0] * 4
    assert x.is_deleted()
