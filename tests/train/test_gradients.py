"""What a step asks of its gradients."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxtl.train import gradients


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("place", ["kernel", "bias", "loss"])
def test_one_number_that_is_not_finite_is_found(place: str, odd: float) -> None:
    tree = {
        "kernel": np.ones((3, 3, 4, 5), np.float32),
        "bias": np.ones(5, np.float32),
        "loss": np.ones((), np.float32),
    }
    assert jax.jit(gradients.all_finite)(tree)
    tree[place].flat[-1] = odd
    assert bool(jax.jit(gradients.all_finite)(tree)) == bool(np.isfinite(odd))


@pytest.mark.parametrize("shapes", [[(5,), ()], [(3, 4), (1, 1, 2, 3)]], ids=["no kernel", "nothing else"])
@pytest.mark.parametrize("odd", [np.nan, 1.0])
def test_kernels_alone_and_none(shapes: list[tuple[int, ...]], odd: float) -> None:
    tree = [np.ones(shape, np.float32) for shape in shapes]
    tree[0].flat[1] = odd
    assert bool(jax.jit(gradients.all_finite)(tree)) == bool(np.isfinite(odd))
