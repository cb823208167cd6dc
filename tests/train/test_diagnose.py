"""What is said of a step that was not finite."""

from __future__ import annotations

import numpy as np
import optax
import pytest
from small_models import batch, small_model, training

import jaxtl
from jaxtl.recipe import MSE, Recipe, Softmax
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
