"""The forms that convolutions take on a CPU have the values and gradients of the general one."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax import lax

from jaxtl.models.convolution import conv, pair

CASES = [
    {"size": (9, 7), "kernel": 3, "padding": 1},
    {"size": (8, 8), "kernel": 5, "padding": 2},
    {"size": (10, 6), "kernel": 3, "padding": 0},
    {"size": (9, 8), "kernel": 3, "padding": (1, 2)},
    {"size": (9, 8), "kernel": 3, "padding": 1, "stride": 2},
    {"size": (9, 8), "kernel": 3, "padding": 2, "dilation": 2},
]


def _general(x, kernel, *, padding=0, stride: int = 1, dilation: int = 1):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(zeros, zeros) for zeros in pair(padding)],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_depthwise_values_and_gradients(case: dict) -> None:
    options = {key: value for key, value in case.items() if key not in ("size", "kernel")}
    generator = np.random.default_rng(0)
    x = generator.standard_normal((3, *case["size"], 6), np.float32)
    kernel = generator.standard_normal((case["kernel"], case["kernel"], 1, 6), np.float32)
    expected, pull = jax.vjp(lambda x, kernel: _general(x, kernel, **options), x, kernel)
    found, our_pull = jax.vjp(lambda x, kernel: conv(x, kernel, groups=6, **options), x, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    weights = generator.standard_normal(expected.shape, np.float32)
    for ours, theirs in zip(our_pull(weights), pull(weights), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
