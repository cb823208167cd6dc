"""Convolutions of 3x3 pixels as Winograd's products: their values, gradients and errors, and where they are used."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import rotating

from jaxtl.jitted import jit, nothing_kept
from jaxtl.models import onednn, winograd
from jaxtl.models.convolution_onednn import by_onednn
from jaxtl.models.general_convolution import general

pytestmark = pytest.mark.skipif(not onednn.has_onednn(), reason="XLA does not reach oneDNN here")
PRODUCT, CONVOLUTION = "__onednn$matmul", "__onednn$convolution"
ONE = ((1, 1), (1, 1))
PADS = [ONE, ((0, 0), (0, 0)), ((0, 2), (1, 0)), ((2, 2), (3, 1))]
SIZES = [(8, 8), (9, 8), (6, 7), (5, 3)]


@pytest.fixture
def few_channels_too(monkeypatch) -> None:
    monkeypatch.setattr(winograd, "CHANNELS", 1)


def _run(convolve, x, kernel, pads):
    y, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, 1, pads, 1, 1), x, kernel)
    return y, *pull(jnp.sin(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))


def _exactly(given, pads):
    return jit(lambda *given: _run(general, *given, pads))(*map(np.float64, given))


def _of_all_sizes_with_all_pads() -> list[tuple]:
    """As many a day as there are sizes, each size and each padding once."""
    turns = [[(size, PADS[(i + turn) % 4]) for i, size in enumerate(SIZES)] for turn in range(4)]
    return rotating([case for turn in turns for case in turn], 4)


def _given(size: tuple[int, int], inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((8, *size, inputs), np.float32)
    return x, generator.standard_normal((3, 3, inputs, outputs), np.float32)


def _calls(function, *given) -> tuple[int, int]:
    text = jit(function).lower(*given).as_text()
    return text.count(PRODUCT), text.count(CONVOLUTION)


@pytest.mark.usefixtures("few_channels_too")
@pytest.mark.parametrize(("size", "pads"), _of_all_sizes_with_all_pads(), ids=str)
def test_values_and_gradients(size, pads) -> None:
    given = _given(size, 5, 6)
    with jax.enable_x64(True), nothing_kept():
        exact = _exactly(given, pads)
        assert _calls(lambda *given: _run(by_onednn, *given, pads), *given) == (48, 0)
        found = jit(lambda *given: _run(by_onednn, *given, pads))(*given)
    for ours, theirs in zip(found, exact, strict=True):
        assert (ours.dtype, ours.shape) == (np.float32, theirs.shape)
        np.testing.assert_allclose(ours, theirs, atol=3e-6 * np.abs(theirs).max())


def test_errors_are_those_of_float32() -> None:
    given = _given((7, 7), winograd.CHANNELS, winograd.CHANNELS)
    with jax.enable_x64(True), nothing_kept():
        exact = map(np.asarray, _exactly(given, ONE))
        found = jit(lambda *given: _run(by_onednn, *given, ONE))(*given)
    for ours, theirs in zip(found, exact, strict=True):
        error = np.sqrt(np.mean(np.square(np.asarray(ours) - theirs)) / np.mean(np.square(theirs)))
        assert error < 1e-6


def test_it_is_used_where_gradients_flow() -> None:
    x, kernel = _given((10, 10), winograd.CHANNELS, winograd.CHANNELS)

    def total(kernel, x):
        return jnp.sin(by_onednn(x, kernel, 1, ONE, 1, 1)).sum()

    assert _calls(total, kernel, x) == (0, 1)
    assert _calls(jax.grad(total), kernel, x) == (32, 0)  # without the gradient of x, that nobody asks for
    assert _calls(jax.grad(total, (0, 1)), kernel, x) == (48, 0)


@pytest.mark.parametrize(
    ("taps", "stride", "dilation", "channels", "dtype"),
    [
        (1, 1, 1, winograd.CHANNELS, np.float32),
        (5, 1, 1, winograd.CHANNELS, np.float32),
        (3, 2, 1, winograd.CHANNELS, np.float32),
        (3, 1, 2, winograd.CHANNELS, np.float32),
        (3, 1, 1, winograd.CHANNELS - 1, np.float32),
        (3, 1, 1, winograd.CHANNELS, jnp.bfloat16),
    ],
    ids=str,
)
def test_other_convolutions_are_none_of_its(taps, stride, dilation, channels, dtype) -> None:
    x, kernel = (
        jnp.zeros((8, 10, 10, winograd.CHANNELS), dtype),
        jnp.zeros((taps, taps, winograd.CHANNELS, channels), dtype),
    )

    def total(kernel):
        return by_onednn(x, kernel, stride, ONE, dilation, 1).astype(np.float32).sum()

    assert PRODUCT not in jit(jax.grad(total)).lower(kernel).as_text()


def test_convolutions_in_groups_are_none_of_its() -> None:
    x, kernel = jnp.zeros((8, 10, 10, 512)), jnp.zeros((3, 3, 256, 512))
    assert PRODUCT not in jit(jax.grad(lambda kernel: by_onednn(x, kernel, 1, ONE, 1, 2).sum())).lower(kernel).as_text()
