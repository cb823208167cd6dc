"""Normalisation by the batch: its gradient is what automatic differentiation derives, and a large mean does not drown
it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.models import batch_statistics
from jaxtl.models.batch_statistics import moments, normalise

EPS = 1e-5


def _derived(x, scale, bias):
    mean = x.mean(range(x.ndim - 1))
    var = jnp.square(x - mean).mean(range(x.ndim - 1))
    return (x - mean) * (scale * jax.lax.rsqrt(var + EPS)) + bias


@pytest.fixture(params=["two passes", "one pass"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The form of the moments that a CPU takes, and that of the other devices."""
    monkeypatch.setattr(batch_statistics, "on_cpu", lambda: request.param == "two passes")
    return request.param


def _middle(shape: tuple[int, ...]) -> int:
    """The number of the first image's middle pixel, which the one pass subtracts."""
    return int(np.ravel_multi_index([0, *(length // 2 for length in shape[1:-1])], shape[:-1]))


_HARD = {
    "large mean": lambda x: x + 1000,
    "constant": lambda x: np.full_like(x, 3.7),
    "constant and large": lambda x: np.full_like(x, 1234.567),
    "one odd pixel": lambda x: np.where(np.arange(x.size).reshape(x.shape) < x.shape[-1], 1e4, x),
    "odd pixel in the middle": lambda x: (
        x + 1e4 * (np.arange(x.size // x.shape[-1]) == _middle(x.shape)).reshape(*x.shape[:-1], 1)
    ),
    "odd first image": lambda x: x + 1e4 * (np.arange(len(x)) == 0).reshape(-1, *[1] * (x.ndim - 1)),
    "small beside its mean": lambda x: 1 + x / 1000,
}


@pytest.mark.parametrize("hard", _HARD)
@pytest.mark.parametrize("shape", [(32, 9, 11, 3), (64, 5), (1, 7, 7, 4), (4, 40, 33, 2)])
def test_moments_keep_their_digits(form: str, shape: tuple[int, ...], hard: str) -> None:
    x = np.asarray(_HARD[hard](np.random.default_rng(0).standard_normal(shape)), np.float32)
    axes = tuple(range(len(shape) - 1))
    mean, var = (np.asarray(value) for value in jax.jit(lambda x: moments(x))(x))
    exact = x.astype(np.float64)
    # rounding of the pixels themselves is 2^-24 of their size; a constant may differ from its mean by that
    lost = (1e-6 * np.abs(exact).max()) ** 2
    rounding, far = 1e-5, 1.0
    if form == "one pass":  # whose sums a CPU adds up one number after the other, of pixels that may all be far away
        away = exact.reshape(-1, shape[-1])[_middle(shape)] - exact.mean(axes)
        rounding, far = 5e-5, 1 + (away**2 / (exact.var(axes) + lost)).max()
    np.testing.assert_allclose(mean, exact.mean(axes), rtol=1e-6, atol=rounding * far**0.5 * exact.std(axes).max())
    np.testing.assert_allclose(var, exact.var(axes), rtol=rounding * far, atol=lost)
    assert (var >= 0).all()


def test_moments_of_one_row(form: str) -> None:
    mean, var = moments(jnp.array([[3.0, -1e6]]))
    assert mean.tolist() == [3.0, -1e6]
    assert var.tolist() == [0.0, 0.0]


def test_moments_of_bfloat16(form: str) -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 5, 5, 3)) + 50, jnp.bfloat16)
    mean, var = moments(x)
    exact = np.asarray(x, np.float64)
    assert (mean.dtype, var.dtype) == (jnp.float32, jnp.float32)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var((0, 1, 2)), rtol=1e-5)


def test_moments_of_float64(form: str) -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 5, 5, 3)) + 1e6)
        mean, var = moments(x)
        assert (mean.dtype, var.dtype) == (jnp.float64, jnp.float64)
        np.testing.assert_allclose(var, np.asarray(x).var((0, 1, 2)), rtol=1e-8)


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (7, 2)])
@pytest.mark.parametrize("mean", [0.0, 50.0])
def test_gradients(form: str, shape: tuple[int, ...], mean: float) -> None:
    rng = np.random.default_rng(0)
    arguments = (
        mean + rng.standard_normal(shape, np.float32),
        rng.standard_normal(shape[-1], np.float32),
        rng.standard_normal(shape[-1], np.float32),
    )
    weights = rng.standard_normal(shape, np.float32)
    found, pull = jax.vjp(lambda *arguments: normalise(*arguments, EPS)[0], *arguments)
    with jax.enable_x64(True):
        expected, exact_pull = jax.vjp(_derived, *(np.asarray(argument, np.float64) for argument in arguments))
        exact = exact_pull(np.asarray(weights, np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-6 * (mean + 10))
    for ours, theirs in zip(pull(weights), exact, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * (mean + 10) * np.abs(theirs).max())


def test_bfloat16_stays_and_statistics_are_wide() -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 3)) + 10, jnp.bfloat16)
    y, (mean, var) = normalise(x, jnp.ones(3), jnp.zeros(3), EPS)
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    gradient = jax.grad(lambda x: normalise(x, jnp.ones(3), jnp.zeros(3), EPS)[0].astype(jnp.float32).sum())(x)
    assert gradient.dtype == jnp.bfloat16


def test_backward_keeps_the_input_alone() -> None:
    """A layer more costs its product and its activation in memory, and no third array of that size for the norm."""

    def needed(layers: int) -> int:
        def loss(kernels, x):
            for kernel in kernels:
                x = jax.nn.relu(normalise(x @ kernel, jnp.ones(16), jnp.zeros(16), EPS)[0])
            return x.sum()

        compiled = jax.jit(jax.grad(loss)).lower([jnp.eye(16)] * layers, jnp.ones((2**16, 16))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert (needed(12) - needed(4)) / 8 < 2.5 * 2**16 * 16 * 4
