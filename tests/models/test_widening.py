"""A 1x1 convolution to more channels and its normalisation as one operation are the two one after the other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pulled import values_and_gradients

from jaxtl.models import batch_statistics, conv_norm
from jaxtl.models.evonorm import BatchNormAct
from jaxtl.models.layers import Activation, BatchNorm, Conv, GroupNorm
from jaxtl.models.norm_act import norm_act
from jaxtl.models.pointwise import pointwise
from jaxtl.models.widening import widen_and_normalise

EPS = 1e-5


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_norm, "on_gpu", lambda: True)
    monkeypatch.setattr(batch_statistics, "on_cpu", lambda: False)


def _apart(x, kernel, scale, bias):
    """As it is derived, step by step."""
    y = jnp.einsum("bhwi,io->bhwo", x, kernel[0, 0])
    mean = y.mean((0, 1, 2))
    var = jnp.square(y - mean).mean((0, 1, 2))
    return (y - mean) * (scale * jax.lax.rsqrt(var + EPS)) + bias


def _together(x, kernel, scale, bias):
    return widen_and_normalise(x, kernel, scale, bias, EPS)[0]


def _drawn(shape: tuple[int, int, int, int], out: int, mean: float) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """What goes in, rectified as behind a ReLU and correlated, and a gradient that has to do with it."""
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal(shape) @ (np.eye(shape[-1]) + rng.standard_normal((shape[-1], shape[-1])) / 2)
    x = np.maximum(mean + mixed, 0)
    kernel = rng.standard_normal((1, 1, shape[-1], out)) / np.sqrt(shape[-1])
    scale, bias = rng.standard_normal((2, out))
    gradient = rng.standard_normal((*shape[:-1], out)) + np.tanh(x @ kernel[0, 0])
    return (x, kernel, scale, bias), gradient


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("mean", [0.3, 30.0])
@pytest.mark.parametrize(("shape", "out"), [((4, 5, 6, 3), 12), ((2, 9, 7, 8), 8), ((3, 1, 1, 2), 5)])
def test_values_and_gradients(shape: tuple[int, int, int, int], out: int, mean: float) -> None:
    arguments, weights = _drawn(shape, out, mean)
    with jax.enable_x64(True):
        exact = values_and_gradients(_apart, arguments, weights)
        found = values_and_gradients(_together, arguments, weights)
    for ours, theirs in zip(found, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9 * np.abs(theirs).max())


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("mean", [0.3, 3.0, 20.0])
def test_gradients_are_about_as_near_to_the_exact_ones_as_those_of_the_two(mean: float, dtype: type) -> None:
    arguments, weights = _drawn((8, 20, 20, 16), 64, mean)
    given = [jnp.asarray(argument, dtype if argument.ndim > 1 else jnp.float32) for argument in arguments]
    weights = np.asarray(jnp.asarray(weights, dtype), np.float32)
    with jax.enable_x64(True):
        wide = [np.asarray(one, np.float64) for one in given]
        _, *exact = map(np.asarray, values_and_gradients(_apart, wide, weights))

    def errors(function) -> list[float]:
        _, *found = values_and_gradients(function, given, weights)
        pairs = zip((np.asarray(one, np.float64) for one in found), exact, strict=True)
        return [float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in pairs]

    def one_after_the_other(x, kernel, scale, bias):
        return batch_statistics.normalise(pointwise(x, kernel), scale, bias, EPS)[0]

    names = ["x", "kernel", "scale", "bias"]
    for name, ours, theirs in zip(names, errors(_together), errors(one_after_the_other), strict=True):
        assert ours < 2 * theirs + 1e-6, (name, ours, theirs)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_in_bfloat16_the_gradient_of_the_mean_is_none() -> None:
    """Because what is subtracted is made of the matrices as they are rounded."""
    arguments, weights = _drawn((8, 20, 20, 16), 64, 3.0)
    halves = [jnp.asarray(argument, jnp.bfloat16 if argument.ndim > 1 else jnp.float32) for argument in arguments]
    for_x = np.asarray(values_and_gradients(_together, halves, weights)[1], np.float64)
    assert np.abs(for_x.mean((0, 1, 2))).max() < 1e-3 * for_x.std()


@pytest.mark.usefixtures("as_on_a_gpu")
def test_nothing_as_wide_as_the_output_is_kept() -> None:
    (x, *others), _ = _drawn((4, 10, 10, 3), 24, 0.3)
    arguments = [jnp.asarray(argument, jnp.float32) for argument in (x, *others)]
    _, pull = jax.vjp(_together, *arguments)
    assert max(leaf.size for leaf in jax.tree.leaves(pull)) == x.size


def _filled(module: nnx.Module) -> nnx.Module:
    rng = np.random.default_rng(1)
    for _, variable in nnx.iter_graph(module):
        if isinstance(variable, nnx.Param | nnx.BatchStat):
            variable.set_value(jnp.asarray(rng.uniform(0.5, 1.5, variable.shape), jnp.float32))
    return module


def _training(norm: nnx.Module) -> nnx.Module:
    return nnx.view(_filled(norm), use_running_average=False)


def _pair(norm: type = BatchNorm, **options) -> tuple[nnx.Module, nnx.Module]:
    return _filled(Conv(4, 16, 1, **{"bias": False, **options})), _training(norm(16))


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("rectified", [False, True])
def test_layers_give_and_store_what_they_do_apart(rectified: bool) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((9, 32, 32, 4)), jnp.bfloat16)
    shortcut = jnp.asarray(rng.standard_normal((9, 32, 32, 16)), jnp.bfloat16)
    conv, one = _pair()
    assert conv_norm.pays(conv, one, x)
    _, other = _pair()
    if rectified:
        relu = Activation("relu")
        found = conv_norm.conv_norm_act(conv, one, relu, x, shortcut)
        expected = norm_act(other, relu, conv(x), shortcut)
    else:
        found, expected = conv_norm.conv_norm(conv, one, x), other(conv(x))
    assert found.dtype == expected.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float32), np.asarray(expected, np.float32), atol=0.03)
    np.testing.assert_allclose(one.mean[...], other.mean[...], rtol=1e-3)
    np.testing.assert_allclose(one.var[...], other.var[...], rtol=1e-3)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_sum_is_rectified_as_by_relu() -> None:
    """Where there is a shortcut, both get the gradient."""
    from jaxtl.models.rectified import add_and_rectify

    x, shortcut, weights = np.random.default_rng(0).standard_normal((3, 4, 5), np.float32)
    found = values_and_gradients(add_and_rectify, (x, shortcut), weights)
    expected = values_and_gradients(lambda x, shortcut: jax.nn.relu(x + shortcut), (x, shortcut), weights)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_others_stay_apart() -> None:
    x = jnp.zeros((9, 32, 32, 4), jnp.bfloat16)
    assert conv_norm.pays(*_pair(), x)
    assert not conv_norm.pays(*_pair(), x.astype(jnp.float32))
    assert not conv_norm.pays(*_pair(), x[:1, :16, :16])
    assert not conv_norm.pays(*_pair(stride=2), x)
    assert not conv_norm.pays(*_pair(padding=1), x)
    assert not conv_norm.pays(*_pair(bias=True), x)
    assert not conv_norm.pays(*_pair(BatchNormAct), x)
    assert not conv_norm.pays(Conv(4, 16, 1, bias=False), GroupNorm(16, groups=4), x)
    assert not conv_norm.pays(Conv(4, 16, 1, bias=False), BatchNorm(16), x)
    assert not conv_norm.pays(Conv(4, 16, 3, padding=1, bias=False), _pair()[1], x)
    assert not conv_norm.pays(Conv(4, 4, 1, bias=False), _training(BatchNorm(4)), x)
