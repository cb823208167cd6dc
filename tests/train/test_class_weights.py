"""Class weights in whole runs and in batches of several parts."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from families import rotating
from small_models import batch, bits, small_model

import jaxtl
from jaxtl.recipe import Focal, Recipe, Softmax
from jaxtl.train.losses import balanced_weights, make_task

WEIGHTS = (0.1, 5.0, 1.0, 20.0)


def test_balanced_weights_are_those_of_the_data_and_not_of_what_was_trained_on_before() -> None:
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, until="layer1")
    model = model.replace(preprocess=model.preprocess.replace(size=8))
    even, uneven = (
        jaxtl.open_data("digits", model, val_fraction=0.05, **some)
        for some in ({"samples_per_class": 4}, {"train_samples": 43})
    )
    recipe = Recipe.from_keywords(groups={"head": "fast", "*": "slow"}, epochs=1, batch_size=10, eval_batch_size=40)
    runs = [
        jaxtl.fine_tune(model, data, recipe, class_weights=weights, progress=False)
        for data, weights in (
            (even, "balanced"),
            (uneven, "balanced"),
            (uneven, list(balanced_weights(uneven.train.labels, 10))),
        )
    ]
    assert bits(runs[1].model.params) == bits(runs[2].model.params)
    assert runs[1].history[0]["train_loss"] == runs[2].history[0]["train_loss"]


@pytest.mark.parametrize(("accumulate", "loss"), rotating([(2, Softmax()), (8, Focal())], 1), ids=["softmax", "focal"])
def test_a_batch_in_parts_weighs_as_one(accumulate: int, loss) -> None:
    model = small_model()
    optimizer = jaxtl.multi_transform({"all": optax.sgd(1.0)}, lambda path, leaf: "all")
    images = batch(count=8) | {"label": np.array([0, 1, 0, 3, 2, 2, 1, 0])}
    task = make_task(loss, class_weights=WEIGHTS)

    def stepped(parts: int) -> tuple[dict, float]:
        step = jaxtl.make_train_step(model, optimizer, loss=task, batch_norm="frozen", accumulate=parts)
        state, metrics = step(jaxtl.TrainState.create(model, optimizer), images)
        return state.params, float(metrics["loss"])

    (params, value), (expected, whole) = stepped(accumulate), stepped(1)
    assert value == pytest.approx(whole, rel=1e-5)
    moved = jax.tree.map(lambda leaf, old: np.abs(leaf - old).max(), expected, model.params)
    assert max(jax.tree.leaves(moved)) > 0.01
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max()),
        params,
        expected,
    )
