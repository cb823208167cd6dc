"""What a loop of one's own asks of its steps: which loss for which labels, and settings as recipes take them."""

from __future__ import annotations

import numpy as np
import optax
import pytest
from small_models import batch, leaf_bits, small_model, training

import jaxtl
from jaxtl.recipe import Focal
from jaxtl.train.losses import make_task
from jaxtl.train.task import LOSS_OF_TASK

_SEVERAL = np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], np.float32)


def _own(logits, labels):
    return abs(logits - labels).mean(-1)


def test_the_models_task_says_which_loss_it_is_where_none_is_given() -> None:
    model, images = small_model(until="layer1"), batch() | {"label": _SEVERAL}
    for task, loss in (("multi-label", "sigmoid"), ("regression", "mse")):
        found = jaxtl.make_eval_step(model.replace(task=task))(model, images)
        named = jaxtl.make_eval_step(model, loss=loss)(model, images)
        made = jaxtl.make_eval_step(model, loss=make_task(LOSS_OF_TASK[task]))(model, images)
        assert leaf_bits(found) == leaf_bits(named) == leaf_bits(made)
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    several = model.replace(task="multi-label")
    _, metrics = jaxtl.make_train_step(several, optimizer)(jaxtl.TrainState.create(several, optimizer), images)
    expected = jaxtl.make_eval_step(several)(several, images)
    assert float(metrics["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)


def test_losses_are_named_as_in_recipes() -> None:
    model, images = small_model(until="layer1"), batch()
    named, section = (
        jaxtl.make_eval_step(model, loss=loss)(model, images)
        for loss in ({"name": "focal", "gamma": 1}, Focal(gamma=1.0))
    )
    assert leaf_bits(named) == leaf_bits(section)
    with pytest.raises(
        jaxtl.InputError, match=r"make_eval_step: loss\.name must be .*'sigmiod'; did you mean 'sigmoid'"
    ):
        jaxtl.make_eval_step(model, loss="sigmiod")


@pytest.mark.parametrize(
    ("outputs", "loss", "labels", "message"),
    [
        (4, None, _SEVERAL, r"labels float32 \(4, 4\), and no loss is named .* loss='sigmoid', for numbers"),
        (4, None, _SEVERAL.astype(np.int32), "no loss is named"),
        (4, None, _SEVERAL[:, 0], r"labels float32 \(4,\) .*one whole number an image"),
        (4, "softmax", _SEVERAL[:, :2], r"labels float32 \(4, 2\) .*one whole number an image"),
        (1, None, _SEVERAL[:, :1], "no loss is named"),
        (1, None, np.zeros(4, np.int32), "a softmax of one output is always 1; for a number give the loss 'mse'"),
        (1, "focal", _SEVERAL[:, :1], "a softmax of one output is always 1"),
        (4, "sigmoid", np.array([0, 1, 2, 3]), "takes a number for each output, .*one class an image use the loss 'so"),
        (4, "mse", np.array([0, 1, 2, 3]), "takes a number for each output"),
    ],
)
def test_labels_that_are_not_for_the_loss_are_refused(outputs: int, loss, labels, message: str) -> None:
    model = small_model(until="stem", num_classes=outputs)
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    images = batch() | {"label": labels}
    with pytest.raises(jaxtl.InputError, match=message):
        jaxtl.make_train_step(model, optimizer, loss=loss)(jaxtl.TrainState.create(model, optimizer), images)
    with pytest.raises(jaxtl.InputError, match=message):
        jaxtl.make_eval_step(model, loss=loss)(model, images)


def test_shares_of_classes_are_taken_where_the_loss_is_named() -> None:
    model, images = small_model(until="stem"), batch()
    shares = images | {"label": np.eye(4, dtype=np.float32)[images["label"]]}
    found = [jaxtl.make_eval_step(model, loss="softmax")(model, labels)["loss"] for labels in (images, shares)]
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "bfloat16"}, "precision must be 'f32', 'bf16' or 'auto', not 'bfloat16'; did you mean 'bf16'"),
        ({"ema": 1.5}, "make_train_step: ema must be less than 1, not 1.5"),
        ({"ema": 0}, "ema must be greater than 0, not 0"),
        ({"accumulate": 0}, "make_train_step: accumulate must be greater than 0, not 0$"),
        ({"mixup": -1.0}, "mixup must be greater than or equal to 0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be less than 1"),
        ({"label_smoothing": 0.1, "loss": "mse"}, "label_smoothing has no meaning for the loss 'mse'"),
        ({"label_smoothing": 0.1, "loss": _own}, "label_smoothing is for losses that are named"),
        ({"label_smoothing": 0.1, "loss": make_task(Focal())}, "label_smoothing is for losses that are named"),
        ({"batch_norm": "frozn"}, "batch_norm must be .*; did you mean 'frozen'"),
    ],
)
def test_settings_are_checked_as_in_recipes(settings, message: str) -> None:
    model = small_model(until="stem")
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    with pytest.raises(jaxtl.InputError, match=message):
        jaxtl.make_train_step(model, optimizer, **settings)


def test_numbers_may_be_numpys() -> None:
    model = small_model(until="stem")
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    step = jaxtl.make_train_step(model, optimizer, accumulate=np.int64(2), ema=np.float32(0.9))
    state, _ = step(jaxtl.TrainState.create(model, optimizer, ema=True), batch())
    assert state.average


def test_automatic_precision_is_that_of_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxtl.train.step.computed_in", lambda settings: {"auto": "bf16"}[settings.precision])
    model = small_model(until="stem")
    text = jaxtl.make_eval_step(model, precision="auto").lower(model, batch()).as_text()
    assert "bf16" in text
