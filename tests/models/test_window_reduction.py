"""The gradient of the maximum over windows is PyTorch's, among equal values too."""

from __future__ import annotations

import sys

import jax
import numpy as np
import pytest
import torch

from jaxtl.models import max_pool_gpu, max_pool_gradient, window_reduction
from jaxtl.models.pooling import MaxPool


@pytest.fixture(params=["as on a CPU", "as on a GPU"], autouse=True)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_reduction, "on_gpu", lambda: request.param == "as on a GPU")


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("window", "ceil_mode", "size"),
    [
        ((3, 2, 1), False, (9, 12)),
        ((3, 2, 0), True, (10, 8)),
        ((3, 2, 0), False, (8, 10)),
        ((2, 2, 0), False, (9, 6)),
        ((3, 1, 1), False, (5, 7)),
        ((2, 3, 0), False, (9, 10)),
    ],
    ids=str,
)
def test_gradient(window: tuple[int, int, int], ceil_mode: bool, size: tuple[int, int], ties: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *size, 3), np.float32)
    if ties:
        x = np.round(x)
    y, pull = jax.vjp(MaxPool(*window, ceil_mode=ceil_mode), x)
    weights = rng.standard_normal(y.shape, np.float32)
    theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    torch.nn.functional.max_pool2d(theirs, *window, ceil_mode=ceil_mode).backward(
        torch.tensor(weights.transpose(0, 3, 1, 2))
    )
    np.testing.assert_allclose(pull(weights)[0], theirs.grad.permute(0, 2, 3, 1), atol=1e-6)


def test_undefined_numbers_stay() -> None:
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 1, 1] = np.nan
    y, _ = jax.vjp(MaxPool(2, 2), x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[np.nan, 0], [0, 0]])


@pytest.mark.parametrize("shape", [(2, 8, 8, 16), (1, 5, 24, 64)])
def test_the_kernel_for_gradients_does_what_the_loop_does(shape: tuple[int, ...]) -> None:
    x = np.round(np.random.default_rng(0).standard_normal((shape[0], 2 * shape[1], 2 * shape[2], shape[3]), np.float32))
    pooling = 3, 2, ((1, 1), (1, 1)), x.shape[1:3]
    y, place = max_pool_gpu._forward(x, *pooling)
    gradient = np.random.default_rng(1).standard_normal(y.shape, np.float32)
    (expected,) = max_pool_gpu._backward(*pooling, place, gradient)
    found = max_pool_gradient.spread(place, gradient, interpret=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_resnet_pools_with_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.round(np.random.default_rng(0).standard_normal((2, 16, 32, 16), np.float32))
    gradient = jax.grad(lambda x: (MaxPool(3, 2, 1)(x) ** 2).sum())
    expected, asked = gradient(x), []

    def spread(*given: jax.Array) -> jax.Array:
        asked.append(given)
        return kernel(*given, interpret=True)

    kernel = max_pool_gradient.spread
    monkeypatch.setattr(window_reduction, "on_gpu", lambda: True)
    monkeypatch.setattr(max_pool_gradient, "from_ampere_on", lambda: True)
    monkeypatch.setattr(max_pool_gradient, "spread", spread)
    np.testing.assert_allclose(gradient(x), expected, atol=1e-6)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("shape", "pooling"),
    [
        ((2, 8, 8, 16), (3, 2, ((0, 0), (0, 0)), (17, 17))),
        ((2, 8, 8, 16), (2, 2, ((0, 0), (0, 0)), (16, 16))),
        ((2, 8, 8, 16), (3, 2, ((1, 1), (1, 1)), (15, 16))),
        ((2, 8, 7, 16), (3, 2, ((1, 1), (1, 1)), (16, 14))),
        ((2, 8, 8, 24), (3, 2, ((1, 1), (1, 1)), (16, 16))),
    ],
)
def test_the_kernel_is_for_one_pooling(shape: tuple[int, ...], pooling: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(max_pool_gradient, "from_ampere_on", lambda: True)
    assert max_pool_gradient.fits((2, 8, 8, 16), 3, 2, ((1, 1), (1, 1)), (16, 16))
    assert not max_pool_gradient.fits(shape, *pooling)


def test_on_several_devices_the_loop_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    pooling = (2, 8, 8, 16), 3, 2, ((1, 1), (1, 1)), (16, 16)
    monkeypatch.setattr(max_pool_gradient, "from_ampere_on", lambda: True)
    assert max_pool_gradient.fits(*pooling)
    monkeypatch.setattr(max_pool_gradient, "several_devices", lambda: True)
    assert not max_pool_gradient.fits(*pooling)


def test_without_triton_the_loop_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    pooling = (2, 8, 8, 16), 3, 2, ((1, 1), (1, 1)), (16, 16)
    monkeypatch.setattr(max_pool_gradient, "from_ampere_on", lambda: True)
    assert max_pool_gradient.fits(*pooling)
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    max_pool_gradient._triton_is_there.cache_clear()
    assert not max_pool_gradient.fits(*pooling)
    max_pool_gradient._triton_is_there.cache_clear()
