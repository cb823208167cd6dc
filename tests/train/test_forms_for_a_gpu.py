"""A training step in the forms that layers take on a GPU moves parameters and statistics as one in a CPU's forms."""

from __future__ import annotations

import sys

import jax
import numpy as np
import optax
import pytest
from families import rotating

import jaxtl


def _stepped(name: str) -> jaxtl.TrainState:
    model = jaxtl.load(name, weights=None, num_classes=4, img_size=64)
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, lambda path, leaf: "all")
    state = jaxtl.TrainState.create(model, optimizer)
    # the last normalisation of a branch begins with a scale of 0, which would hide the branch
    state = state.replace(params=jax.tree.map(lambda leaf: leaf + 0.3 if leaf.ndim == 1 else leaf, state.params))
    rng = np.random.default_rng(0)
    batch = {"image": rng.integers(0, 256, (8, 64, 64, 3), np.uint8), "label": np.arange(8) % 4}
    return jaxtl.make_train_step(model, optimizer)(state, batch)[0]


@pytest.mark.parametrize("name", rotating(["test_resnet", "resnet14t"], 1))
def test_one_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _stepped(name)
    for module in [module for path, module in sys.modules.items() if path.startswith("jaxtl.")]:
        for function, answer in (("on_cpu", False), ("on_gpu", True)):
            if hasattr(module, function):
                monkeypatch.setattr(module, function, lambda answer=answer: answer)
    found = _stepped(name)
    for part in ("params", "batch_stats"):
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max()),
            getattr(found, part),
            getattr(expected, part),
        )
