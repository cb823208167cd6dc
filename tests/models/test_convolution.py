"""The forms that convolutions take on CPUs and GPUs have the values and gradients of the general one."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from pulled import values_and_gradients

from jaxtl.jitted import jit, xla_options
from jaxtl.models import convolution
from jaxtl.models.convolution import conv, pair

CASES = [
    {"size": (9, 7), "kernel": 3, "padding": 1},
    {"size": (8, 8), "kernel": 5, "padding": 2},
    {"size": (10, 6), "kernel": 3, "padding": 0},
    {"size": (9, 8), "kernel": 3, "padding": (1, 2)},
    {"size": (9, 8), "kernel": 3, "padding": 1, "stride": 2},
    {"size": (9, 8), "kernel": 3, "padding": 2, "dilation": 2},
]


@pytest.fixture
def as_on_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(convolution, "on_cpu", lambda: False)
    monkeypatch.setattr(convolution, "on_gpu", lambda: True)


def _pads(padding):
    if isinstance(padding, list):
        return padding
    return "SAME" if padding == "same" else [(zeros, zeros) for zeros in pair(padding)]


def _general(x, kernel, *, padding=0, stride: int = 1, dilation: int = 1, groups: int = 1):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        _pads(padding),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _compare(x, kernel, groups: int, options: dict) -> None:
    plain, form = partial(_general, groups=groups, **options), partial(conv, groups=groups, **options)
    weights = np.random.default_rng(1).standard_normal(jax.eval_shape(plain, x, kernel).shape, np.float32)
    expected, *gradients = values_and_gradients(plain, (x, kernel), weights)
    found, *our_gradients = values_and_gradients(form, (x, kernel), weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(our_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_depthwise_values_and_gradients(case: dict) -> None:
    options = {key: value for key, value in case.items() if key not in ("size", "kernel")}
    generator = np.random.default_rng(0)
    x = generator.standard_normal((3, *case["size"], 6), np.float32)
    kernel = generator.standard_normal((case["kernel"], case["kernel"], 1, 6), np.float32)
    _compare(x, kernel, 6, options)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_depthwise_values_and_gradients_in_the_form_for_a_gpu(case: dict) -> None:
    test_depthwise_values_and_gradients(case)
    options = {key: value for key, value in case.items() if key not in ("size", "kernel")}
    x, kernel = np.zeros((1, *case["size"], 6)), np.zeros((case["kernel"], case["kernel"], 1, 6))
    assert "conv_general" not in str(jax.make_jaxpr(lambda x: conv(x, kernel, groups=6, **options))(x))


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    "case",
    [
        {"size": (31, 28), "kernel": (7, 7), "padding": 3},
        {"size": (30, 29), "kernel": (3, 3), "padding": 1},
        {"size": (30, 31), "kernel": (3, 3), "padding": "same"},
        {"size": (13, 16), "kernel": (4, 2), "padding": 0},
        {"size": (16, 15), "kernel": (2, 5), "padding": (0, 2)},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_strided_stems_in_the_form_for_a_gpu(case: dict, channels: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, *case["size"], channels), np.float32)
    kernel = generator.standard_normal((*case["kernel"], channels, 5), np.float32)
    _compare(x, kernel, 1, {"padding": case["padding"], "stride": 2})
    form = jax.make_jaxpr(lambda x: conv(x, kernel, stride=2, padding=case["padding"]))(x)
    assert "window_strides=(1, 1)" in str(form)
    seen = next(equation for equation in form.eqns if equation.primitive.name == "conv_general_dilated").invars[0]
    assert seen.aval.shape[-1] % 8 == 0


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_in_the_form_for_a_gpu(stride: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 9, 8, 5), np.float32)
    kernel = generator.standard_normal((1, 1, 5, 7), np.float32)
    _compare(x, kernel, 1, {"stride": stride})
    trained = str(jax.make_jaxpr(jax.grad(lambda kernel: conv(x, kernel, stride=stride).sum()))(kernel))
    assert ("conv_general" in trained) == (stride == 2)


@pytest.mark.parametrize("outputs", [2, 40])
@pytest.mark.parametrize(
    "case",
    [
        {"size": (16, 13), "kernel": (3, 3), "padding": 1},
        {"size": (14, 15), "kernel": (3, 1), "padding": (1, 0)},
        {"size": (31, 28), "kernel": (7, 7), "padding": 3, "stride": 2},
        {"size": (30, 28), "kernel": (3, 3), "padding": 0, "stride": 2},
        {"size": (16, 14), "kernel": (3, 3), "padding": 2, "dilation": 2},
        {"size": (52, 54), "kernel": (4, 4), "padding": 0, "stride": 4},
    ],
    ids=str,
)
def test_values_and_gradients_on_large_maps(case: dict, outputs: int) -> None:
    options = {key: value for key, value in case.items() if key not in ("size", "kernel")}
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, *case["size"], 5), np.float32)
    kernel = generator.standard_normal((*case["kernel"], 5, outputs), np.float32)
    _compare(x, kernel, 1, options)
    form = str(jax.make_jaxpr(lambda kernel: conv(x, kernel, **options))(kernel))
    assert ("custom_vjp" in form) == (jax.default_backend() == "cpu")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize(
    "case",
    [
        {"size": (16, 13), "kernel": (3, 3), "padding": 1},
        {"size": (31, 28), "kernel": (7, 7), "padding": 3, "stride": 2},
        {"size": (8, 7), "kernel": (3, 5), "padding": "same", "stride": 2},
        {"size": (9, 8), "kernel": (3, 3), "padding": 2, "dilation": 2},
        {"size": (8, 8), "kernel": (1, 1), "padding": 1},
        {"size": (12, 9), "kernel": (4, 4), "padding": 0, "stride": 4},
    ],
    ids=str,
)
def test_values_and_gradients_in_a_program_for_this_machine(case: dict, dtype) -> None:
    options = {key: value for key, value in case.items() if key not in ("size", "kernel")}
    generator = np.random.default_rng(0)
    x = generator.standard_normal((3, *case["size"], 5))
    kernel = generator.standard_normal((*case["kernel"], 5, 6))

    def run(convolve, x, kernel):
        y, pull = jax.vjp(convolve, x, kernel)
        return y, *pull(jnp.sin(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))

    with jax.enable_x64(True):
        pads = {"padding": [(0, 1), (2, 2)]} if case["padding"] == "same" else {}
        plain = partial(_general, **(options | pads))
        exact = jax.jit(lambda *given: run(plain, *given))(x, kernel)
        given = jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)
        found = jit(lambda *given: run(lambda x, kernel: conv(x, kernel, **options), *given))(*given)
    tolerance = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 4e-2}[np.dtype(dtype).name]
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(np.asarray(ours, np.float64), theirs, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize(
    "case",
    [
        {"size": (2, 2), "kernel": 3, "padding": 1},
        {"size": (4, 3), "kernel": 3, "padding": 1, "stride": 2},
        {"size": (1, 1), "kernel": 3, "padding": 1},
        {"size": (7, 7), "kernel": 7, "padding": 0},
        {"size": (6, 5), "kernel": 3, "padding": 0, "dilation": 2},
        {"size": (9, 4), "kernel": 4, "padding": (0, 1), "stride": 4},
    ],
    ids=str,
)
def test_values_and_gradients_of_few_outputs(case: dict) -> None:
    options = {key: value for key, value in case.items() if key not in ("size", "kernel")}
    generator = np.random.default_rng(0)
    x = generator.standard_normal((3, *case["size"], 5), np.float32)
    kernel = generator.standard_normal((case["kernel"], case["kernel"], 5, 6), np.float32)
    _compare(x, kernel, 1, options)
    form = str(jax.make_jaxpr(lambda kernel: conv(x, kernel, **options))(kernel))
    assert ("conv_general_dilated" in form) == (jax.default_backend() != "cpu")


@pytest.mark.skipif(not xla_options(), reason="XLA convolves as it does elsewhere")
def test_kernel_gradients_read_finished_maps() -> None:
    """XLA's transposes for a kernel's gradient compute nothing on their way."""

    def loss(kernels, scale, x):
        for kernel in kernels:
            x = jax.nn.relu(scale * conv(x, kernel, padding=1))
        return x.sum()

    given = [jnp.ones((3, 3, 8, 8))] * 3, jnp.ones(8), jnp.ones((4, 20, 20, 8))
    text = jit(jax.grad(loss)).lower(*given).compile().as_text()
    transposes = [line for line in text.splitlines() if " fusion(" in line and "f32[8,20,20,4]" in line]
    assert len(transposes) >= 2
    assert all(line.partition(" fusion(")[2].partition(")")[0].count("%") == 1 for line in transposes), transposes
