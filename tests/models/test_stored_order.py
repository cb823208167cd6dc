"""A gradient in stored order is the gradient, and convolutions on a GPU ask for it."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxtl.models import convolution
from jaxtl.models.convolution import conv
from jaxtl.models.stored_order import in_stored_order


def test_values_stay() -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 3, 2, 4), np.float32)
    value, gradient = jax.jit(jax.value_and_grad(lambda kernel: (in_stored_order(kernel) ** 3).sum()))(kernel)
    np.testing.assert_allclose(value, (kernel**3).sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient, 3 * kernel**2, rtol=1e-6)


@pytest.mark.parametrize(("side", "stride", "ordered"), [(3, 1, True), (1, 2, True), (1, 1, False)])
def test_of_what_is_no_product(side: int, stride: int, ordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 8, 8), np.float32)
    kernel = rng.standard_normal((side, side, 8, 4), np.float32)
    gradient = jax.grad(lambda kernel: (conv(x, kernel, stride=stride) ** 2).sum())
    expected = gradient(kernel)
    monkeypatch.setattr(convolution, "on_cpu", lambda: False)
    monkeypatch.setattr(convolution, "on_gpu", lambda: True)
    np.testing.assert_allclose(gradient(kernel), expected, rtol=1e-4, atol=1e-3)
    assert ("layout_constraint" in str(jax.make_jaxpr(gradient)(kernel))) == ordered
