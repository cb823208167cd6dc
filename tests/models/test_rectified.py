"""Normalisation and ReLU as one operation, as a GPU has it, is what the two are one after the other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pulled import values_and_gradients

from jaxtl.models import batch_statistics, norm_act, rectified
from jaxtl.models.evonorm import BatchNormAct
from jaxtl.models.layers import Activation, BatchNorm
from jaxtl.models.rectified import normalise_and_rectify

EPS = 1e-5


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_act, "on_gpu", lambda: True)
    monkeypatch.setattr(batch_statistics, "on_cpu", lambda: False)


def _derived(x, scale, bias, shortcut=None):
    mean = x.mean(range(x.ndim - 1))
    var = jnp.square(x - mean).mean(range(x.ndim - 1))
    y = (x - mean) * (scale * jax.lax.rsqrt(var + EPS)) + bias
    return jax.nn.relu(y if shortcut is None else y + shortcut)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("mean", [0.0, 50.0])
@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (7, 2), (2, 20, 17, 4)])
def test_values_and_gradients(shape: tuple[int, ...], mean: float, adds: bool) -> None:
    rng = np.random.default_rng(0)
    x = mean + rng.standard_normal(shape, np.float32)
    scale, bias = rng.standard_normal((2, shape[-1]), np.float32)
    arguments = (x, scale, bias, *([rng.standard_normal(shape, np.float32)] if adds else []))
    weights = rng.standard_normal(shape, np.float32)
    found, *gradients = values_and_gradients(
        lambda x, s, b, *more: normalise_and_rectify(x, s, b, EPS, *more)[0], arguments, weights
    )
    with jax.enable_x64(True):
        exact = [np.asarray(argument, np.float64) for argument in arguments]
        expected, *exact_gradients = values_and_gradients(_derived, exact, weights)
    np.testing.assert_allclose(found, expected, atol=1e-6 * (mean + 10))
    for ours, theirs in zip(gradients, exact_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * (mean + 10) * np.abs(theirs).max())


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("spread", [1.0, 0.0])
def test_the_gradient_passes_where_the_output_is_positive(spread: float, dtype: type) -> None:
    """Of channels whose scale is positive, negative or nothing, and whose pixels may all be one number."""
    scale, bias = np.repeat(np.float32([2, -2, 0.0, -0.0]), 3), np.tile(np.float32([1, 0, -1]), 4)
    rng = np.random.default_rng(0)
    x = jnp.asarray(3 + spread * np.round(rng.standard_normal((5, 6, 7, 12)), 1), dtype)

    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        kept = rectified._rectify_forward(x, scale, bias, EPS)
        threshold = kept[1][0]
        return kept[0][0] > 0, (x > threshold[0]) != threshold[1]

    positive, passed = jax.jit(both)(x)
    np.testing.assert_array_equal(passed, positive)
    assert positive[..., bias > 0].any()
    assert not positive[..., (bias <= 0) & (scale == 0)].any()


@pytest.mark.usefixtures("as_on_a_gpu")
def test_what_the_gradient_passes_is_found_anew_at_each_use() -> None:
    """Two barriers of the same values are one to XLA, which then keeps an array of where the output is positive."""
    x, of_channel = jnp.ones((2, 4, 4, 3)), jnp.ones(3)

    def gradients(x: jax.Array) -> tuple[jax.Array, ...]:
        return jax.grad(lambda *given: normalise_and_rectify(*given, EPS)[0].sum(), (0, 1, 2))(
            x, of_channel, of_channel
        )

    barriers = [eqn for eqn in jax.make_jaxpr(gradients)(x).eqns if eqn.primitive.name == "optimization_barrier"]
    assert len(barriers) == 2
    first, second = (set(map(id, barrier.invars)) for barrier in barriers)
    assert first < second


def _norm() -> BatchNorm:
    norm = BatchNorm(3)
    for variable, value in ((norm.scale, 0.7), (norm.bias, 0.2), (norm.mean, 0.0), (norm.var, 1.0)):
        variable.set_value(jnp.full(3, value, jnp.float32))
    return norm


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("adds", [False, True])
def test_the_layer_stores_the_statistics_that_it_stores_without(adds: bool, dtype: type) -> None:
    rng = np.random.default_rng(0)
    x, shortcut = (jnp.asarray(rng.standard_normal((4, 5, 6, 3)) + 1, dtype) for _ in range(2))
    relu = Activation("relu")
    one, other = (nnx.view(_norm(), use_running_average=False) for _ in range(2))
    found = norm_act.norm_act(one, relu, x, shortcut if adds else None)
    expected = relu(other(x) + shortcut if adds else other(x))
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_allclose(np.asarray(found, np.float32), np.asarray(expected, np.float32), rtol=1e-2, atol=1e-6)
    np.testing.assert_array_equal(one.mean[...], other.mean[...])
    np.testing.assert_array_equal(one.var[...], other.var[...])


@pytest.mark.usefixtures("as_on_a_gpu")
def test_only_relu_on_the_batchs_statistics_is_one_operation() -> None:
    stored, training = _norm(), nnx.view(_norm(), use_running_average=False)
    assert norm_act.rectifies(training, Activation("relu"))
    assert not norm_act.rectifies(stored, Activation("relu"))
    assert not norm_act.rectifies(training, Activation("silu"))


def test_a_cpu_has_the_two_one_after_the_other() -> None:
    assert not norm_act.rectifies(nnx.view(_norm(), use_running_average=False), Activation("relu"))


def test_norms_that_hold_their_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((4, 5, 5, 3), np.float32)

    def run() -> jax.Array:
        norm = BatchNormAct(3)
        for variable, value in ((norm.scale, 0.7), (norm.bias, 0.2), (norm.mean, 0.0), (norm.var, 1.0)):
            variable.set_value(jnp.full(3, value, jnp.float32))
        return nnx.view(norm, use_running_average=False)(x)

    expected = run()
    monkeypatch.setattr(norm_act, "on_gpu", lambda: True)
    np.testing.assert_allclose(run(), expected, atol=1e-6)
