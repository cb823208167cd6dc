"""Normalisation by the batch: its gradient is what automatic differentiation derives, and a large mean does not drown
it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.models.batch_statistics import moments, normalise

EPS = 1e-5


def _derived(x, scale, bias):
    mean, var = moments(x)
    return (x - mean) * (scale * jax.lax.rsqrt(var + EPS)) + bias


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (7, 2)])
@pytest.mark.parametrize("mean", [0.0, 50.0])
def test_gradients(shape: tuple[int, ...], mean: float) -> None:
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
