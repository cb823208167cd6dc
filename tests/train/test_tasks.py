"""Runs whose answers are not one class an image: several answers, and numbers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import jaxtl
from jaxtl.data.augment import preset
from jaxtl.data.dataset import Data
from jaxtl.data.digits import load_digits
from jaxtl.data.sources import Subset
from jaxtl.errors import InputError
from jaxtl.recipe import Recipe
from jaxtl.train.run import prepare


class _Relabelled:
    """Digits with other answers."""

    def __init__(self, source: Subset, labels: np.ndarray):
        self._source, self.labels, self.names = source, labels, source.names

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int):
        return self._source[index][0], self.labels[index]

    def identity(self, index: int) -> str:
        return self._source.identity(index)


def _data(model, classes: tuple[str, ...], answers) -> Data:
    digits = load_digits()
    parts = [Subset(digits, range(64)), Subset(digits, range(64, 96))]
    train, val = (_Relabelled(part, answers(part.labels)) for part in parts)
    return Data(
        name="digits",
        classes=classes,
        train=train,
        val=val,
        preprocess=model.preprocess,
        augment=preset("none"),
        split="by hand",
    )


def _model(outputs: int) -> jaxtl.Model:
    model = jaxtl.load("cifar_resnet20.letters", num_classes=outputs, until="layer1")
    return model.replace(preprocess=model.preprocess.replace(size=8))


def test_the_loss_says_that_whole_numbers_are_no_classes(tmp_path) -> None:
    rows = []
    for number in range(5):
        Image.new("L", (8, 8), 20 * number).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{20 + number}\n")
    (tmp_path / "ages.csv").write_text("path,age\n" + "".join(rows))
    recipe = Recipe.from_keywords(
        model={"name": "cifar_resnet20", "weights": None, "until": "stem"},
        data={"source": f"csv:{tmp_path}/ages.csv", "label_column": "age", "size": 8, "augment": "none"},
        loss="mse",
    )
    prepared = prepare(recipe)
    assert (prepared.data.task, prepared.data.classes, prepared.recipe.data.task) == (
        "regression",
        ("age",),
        "regression",
    )
    with pytest.raises(InputError, match="if these are numbers and no classes, give task=regression"):
        prepare(recipe.replace(**{"data.task": "class"}))


def test_the_cell_that_reads_as_several_labels_is_named(tmp_path) -> None:
    rows = []
    for number, name in enumerate(["ant", "bee", '"ant, red; small"'] * 4):
        Image.new("L", (8, 8), 20 * number).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{name}\n")
    (tmp_path / "insects.csv").write_text("path,label\n" + "".join(rows))
    recipe = Recipe.from_keywords(
        model={"name": "cifar_resnet20", "weights": None, "until": "stem"},
        data={"source": f"csv:{tmp_path}/insects.csv", "size": 8, "augment": "none"},
    )
    with pytest.raises(
        InputError,
        match=r"labels are any number of classes an image \(line 4: 'ant, red; small' is read as the labels "
        r"'ant, red', 'small'; data.task=class, in Python task='class', where it is one\), and the loss 'softmax'",
    ):
        prepare(recipe)
    assert prepare(recipe.replace(**{"data.task": "class"})).data.classes == ("ant", "ant, red; small", "bee")


def test_several_answers_an_image() -> None:
    model = _model(2)
    data = _data(model, ("even", "below five"), lambda y: np.stack([y % 2 == 0, y < 5], 1).astype(np.float32))
    recipe = Recipe.from_keywords(loss={"name": "sigmoid"}, epochs=6, class_weights=(1.0, 2.0), mixup=0.1)
    result = jaxtl.fine_tune(
        model, data, recipe, **{"optimizer.slow.lr": 1e-3, "optimizer.fast.lr": 1e-2}, progress=False
    )
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert 0.5 < result.best["val_accuracy"] <= 1


def test_numbers(tmp_path) -> None:
    model = _model(1)
    data = _data(model, ("digit",), lambda y: ((y - 4.5) / 3).astype(np.float32)[:, None])
    recipe = Recipe.from_keywords(loss={"name": "mse"}, epochs=6, output=str(tmp_path / "run"))
    result = jaxtl.fine_tune(
        model, data, recipe, **{"optimizer.slow.lr": 1e-3, "optimizer.fast.lr": 1e-2}, progress=False
    )
    losses = [record["val_loss"] for record in result.history]
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert result.best["val_loss"] == min(losses)
    assert not any("accuracy" in name for record in result.history for name in record)
    assert jaxtl.load(tmp_path / "run" / "best").classes == ("digit",)


@pytest.mark.parametrize("fields", [{"loss": "sigmoid", "class_weights": (1e3,)}, {"loss": "mse"}])
def test_what_diverges_in_the_last_step_of_an_epoch_is_said_as_of_classes(fields) -> None:
    """The loss of that step was still finite, and the outputs that are measured then are not."""
    model = _model(1)
    data = _data(model, ("x",), lambda y: (y < 5).astype(np.float32)[:, None])
    far = {group: {"name": "sgd", "lr": 1e38} for group in ("slow", "fast")}
    with pytest.raises(FloatingPointError, match="the validation loss is not finite after epoch 1: lower the learning"):
        jaxtl.fine_tune(model, data, **fields, batch_size=64, schedule="constant", optimizer=far, progress=False)


@pytest.mark.parametrize(("split", "label"), [("train", 5), ("val", -1)])
def test_labels_that_are_no_classes_are_refused_before_the_first_step(split: str, label: int) -> None:
    model = _model(5)
    data = _data(model, tuple("abcde"), lambda y: (y % 5).astype(np.int32))
    getattr(data, split).labels[3] = label
    with pytest.raises(jaxtl.InputError, match=f"digits: {split} has the labels {label}, and its 5 classes are 0 to 4"):
        jaxtl.fine_tune(model, data, epochs=1, progress=False)


def test_answers_that_do_not_fit_the_loss_are_refused() -> None:
    model = _model(2)
    data = _data(model, ("even", "odd"), lambda y: (y % 2).astype(np.int32))
    with pytest.raises(jaxtl.InputError, match="sigmoid"):
        jaxtl.fine_tune(model, data, Recipe.from_keywords(loss={"name": "sigmoid"}), progress=False)
