"""GELU, standardisation and attention: gradients of their own, equal to those that JAX derives, in less memory."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pulled import values_and_gradients

from jaxtl import backend
from jaxtl.models import softmax_attention, softmax_attention_cpu
from jaxtl.models.gelu import gelu
from jaxtl.models.layers import LayerNorm
from jaxtl.models.softmax_attention import attend
from jaxtl.models.standardise import standardise

WIDTH = 16
ROWS = 2**14


def _attend_plainly(query, key, value, scale, bias=0.0):
    scores = jnp.einsum("bqhd,bkhd->bhqk", query * scale, key) + bias
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, -1), value)


def _standardise_plainly(x, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + eps)


def _compare(function, plain, arguments, tolerance: float = 2e-6) -> None:
    """Values and gradients of a function against those that are derived in float64."""
    y = jax.eval_shape(function, *arguments)
    gradient = np.random.default_rng(9).standard_normal(y.shape).astype(y.dtype)
    found = values_and_gradients(function, arguments, gradient)
    with jax.enable_x64(True):
        expected = values_and_gradients(plain, [np.asarray(argument, np.float64) for argument in arguments], gradient)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


def test_gelu() -> None:
    x = np.concatenate([np.linspace(-12, 12, 2001), [0.0, -0.0, 1e-30, -200, 200]]).astype(np.float32)
    _compare(gelu, partial(jax.nn.gelu, approximate=False), [x])
    forward = jax.jvp(gelu, (x,), (np.ones_like(x),))[1]
    np.testing.assert_array_equal(forward, jax.vjp(gelu, x)[1](np.ones_like(x))[0])


@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_standardise(mean: float) -> None:
    x = np.random.default_rng(0).standard_normal((3, 5, WIDTH)).astype(np.float32) + np.float32(mean)
    _compare(lambda x: standardise(x, 1e-6), lambda x: _standardise_plainly(x, 1e-6), [x], 2e-6 + 1e-7 * mean)


def test_of_no_images() -> None:
    none = jnp.ones((0, 3, 2, 4))
    y, pull = jax.vjp(softmax_attention.attend, none, none, none)
    assert y.shape == none.shape
    assert [gradient.shape for gradient in pull(y)] == [none.shape] * 3


@pytest.mark.parametrize("scale", [None, 3.0])
@pytest.mark.parametrize("at_once", [1, 400, softmax_attention_cpu._AT_ONCE])
def test_attention(monkeypatch, scale: float | None, at_once: int) -> None:
    """With as many keys as queries and with more; one image at a time, two, or all; a large scale makes weights of
    almost 0 and 1."""
    monkeypatch.setattr(softmax_attention_cpu, "_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    for keys in (7, 9):
        query, key, value = (rng.standard_normal((6, n, 3, 4)).astype(np.float32) for n in (7, keys, keys))
        plain = partial(_attend_plainly, scale=0.5 if scale is None else scale)
        _compare(lambda *arrays: attend(*arrays, scale=scale), plain, [query, key, value], 1e-5)


def test_attention_with_a_bias_and_to_values_of_another_width() -> None:
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((4, 7, 3, width)).astype(np.float32) for width in (4, 4, 5))
    bias = rng.standard_normal((1, 3, 7, 7)).astype(np.float32)
    plain = partial(_attend_plainly, scale=0.5)
    _compare(attend, plain, [query, key, value], 1e-5)
    _compare(attend, lambda *arrays: plain(*arrays[:3], bias=arrays[3]), [query, key, value, bias], 1e-5)


@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (8, 8), (7, 8), (8, 9)])
def test_attention_as_a_gpu_takes_it(monkeypatch, queries: int, keys: int) -> None:
    """What surrounds cuDNN's attention, with JAX's own in its place: tokens that make numbers even count nothing."""

    def even(*arrays, implementation: str, **options):
        assert implementation == "cudnn"
        assert all(array.shape[1] % 2 == 0 for array in arrays)
        return attention(*arrays, implementation="xla", **options)

    attention = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", even)
    monkeypatch.setattr(softmax_attention, "on_cpu", lambda: False)
    monkeypatch.setattr(softmax_attention, "on_gpu", lambda: True)
    monkeypatch.setattr(softmax_attention, "_fit_cudnn", lambda *arrays: True)
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2, n, 3, 8)).astype(np.float32) for n in (queries, keys, keys))
    plain = partial(_attend_plainly, scale=1 / np.sqrt(8))
    _compare(lambda *arrays: attend(*arrays), plain, [query, key, value], 1e-5)


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "fits"),
    [
        (jnp.bfloat16, 64, "9.0", True),
        (jnp.float16, 72, "8.0", True),
        (jnp.float32, 64, "9.0", False),
        (jnp.bfloat16, 60, "9.0", False),
        (jnp.bfloat16, 256, "9.0", False),
        (jnp.bfloat16, 64, "7.5", False),
        (jnp.bfloat16, 64, "gfx90a", False),
    ],
)
def test_what_cudnns_attention_takes(monkeypatch, dtype, width: int, capability: str, fits: bool) -> None:
    monkeypatch.setattr(backend, "device", lambda: SimpleNamespace(compute_capability=capability))
    assert softmax_attention._fit_cudnn(jnp.zeros((1, 2, 1, width), dtype)) is fits


def test_cudnns_attention_takes_queries_and_values_of_one_width(monkeypatch) -> None:
    """Those of differential attention have two: the values are twice as wide."""
    monkeypatch.setattr(backend, "device", lambda: SimpleNamespace(compute_capability="9.0", platform="gpu"))
    monkeypatch.setattr(softmax_attention, "on_cpu", lambda: False)
    monkeypatch.setattr(softmax_attention, "on_gpu", lambda: True)
    narrow, wide = (jnp.zeros((1, 4, 2, width), jnp.bfloat16) for width in (32, 64))
    assert softmax_attention._fit_cudnn(narrow, narrow, narrow)
    assert not softmax_attention._fit_cudnn(narrow, narrow, wide)
    assert attend(narrow, narrow, wide).shape == (1, 4, 2, 64)


def test_attentions_weights_are_never_below_float32() -> None:
    """Many equal weights, whose sum bfloat16 would not reach."""
    shape = (1, 600, 1, 4)
    query = key = jnp.zeros(shape, jnp.bfloat16)
    value = jnp.ones(shape, jnp.bfloat16)
    y, pull = jax.vjp(attend, query, key, value)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float32), 1, atol=0.01)
    gradients = pull(jnp.ones_like(y))
    assert {gradient.dtype for gradient in gradients} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(np.asarray(gradients[2], np.float32), 1, atol=0.02)


def _needed(layer, layers: int) -> int:
    """Bytes for the gradient of that many layers, each behind a product."""

    def loss(kernels, x):
        for kernel in kernels:
            x = layer((x.reshape(-1, WIDTH) @ kernel).reshape(x.shape))
        return x.sum()

    x = jnp.ones((2, ROWS // 2, WIDTH))
    compiled = jax.jit(jax.grad(loss)).lower([jnp.eye(WIDTH)] * layers, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("layer", [gelu, LayerNorm(WIDTH, eps=1e-6, affine=False)], ids=["gelu", "norm"])
def test_a_layer_keeps_its_argument_and_the_next_products(layer) -> None:
    assert (_needed(layer, 12) - _needed(layer, 4)) / 8 < 2.5 * ROWS * WIDTH * 4


def test_attention_does_not_keep_its_weights() -> None:
    def loss(kernels, x):
        for kernel in kernels:
            x = attend(x, x, x) * kernel
        return x.sum()

    def needed(layers: int) -> int:
        compiled = jax.jit(jax.grad(loss)).lower([jnp.ones(8)] * layers, jnp.ones((4, 512, 1, 8))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert (needed(6) - needed(2)) / 4 < 4 * 512 * 512 * 4 / 4  # a quarter of a layer's weights
