"""What is said of a step that was not finite."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from small_models import batch, small_model, training

import jaxtl
from jaxtl.recipe import MSE, Recipe, Softmax
from jaxtl.train import diagnose
from jaxtl.train.diagnose import first_non_finite
from jaxtl.train.losses import make_task


def test_a_label_that_is_no_class_is_named() -> None:
    model = small_model(until="layer1")
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    images = batch() | {"label": np.array([0, 1, 7, 3])}
    given = model, optimizer, Recipe(), make_task(Softmax()), jaxtl.TrainState.create(model, optimizer), images
    with pytest.raises(jaxtl.InputError, match="the batch has the label 7, and cifar_resnet20 has 4 classes, from 0"):
        first_non_finite(*given)


def test_numbers_are_no_classes() -> None:
    model = small_model(until="layer1", num_classes=1)
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    images = batch() | {"label": np.array([0, 1, 7, np.inf], np.float32)}
    state = jaxtl.TrainState.create(model, optimizer)
    assert first_non_finite(model, optimizer, Recipe(), make_task(MSE()), state, images) == "the batch's labels"


def test_it_computes_in_the_precision_of_the_run() -> None:
    model = small_model(until="layer1")
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    images = batch() | {"image": np.full((4, 16, 16, 3), 3.4e38, np.float32)}  # beyond bfloat16's largest number
    given = make_task(Softmax()), jaxtl.TrainState.create(model, optimizer), images
    assert first_non_finite(model, optimizer, Recipe(precision="bf16"), *given) == "the batch's images"
    assert first_non_finite(model, optimizer, Recipe(precision="f32"), *given).startswith("the output of ")


def test_it_takes_no_more_images_at_once_than_the_step(monkeypatch) -> None:
    model = small_model(until="layer1")
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    images = batch()
    images["image"][3] = 1e38  # in the second part alone
    sizes, usual = [], diagnose.prepared
    monkeypatch.setattr(diagnose, "prepared", lambda *given: (sizes.append(len(given[0])), usual(*given))[1])
    given = make_task(Softmax()), jaxtl.TrainState.create(model, optimizer), images
    assert first_non_finite(model, optimizer, Recipe(accumulate=2), *given) == "the output of fc"
    assert set(sizes) == {2}


def test_a_diagnosis_that_fails_does_not_hide_that_the_run_diverged(monkeypatch) -> None:
    def without_memory(*_) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.\nmore")

    monkeypatch.setattr("jaxtl.train.loop.first_non_finite", without_memory)
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, until="layer1")
    model = model.replace(params=jax.tree.map(lambda leaf: leaf * np.nan, model.params))
    data = jaxtl.open_data("digits", model, samples_per_class=2)
    message = (
        r"\(step 1\); first: unknown, because .* failed \(JaxRuntimeError: RESOURCE_EXHAUSTED: .* 1 bytes\.\): low"
    )
    with pytest.raises(FloatingPointError, match=message):
        jaxtl.fine_tune(model, data, epochs=1, batch_size=20, eval_batch_size=360, progress=False)
