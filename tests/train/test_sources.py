"""Runs from a recipe alone on tables: one class an image, several labels, numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import jaxtl
from jaxtl.cli import app
from jaxtl.recipe import Recipe
from jaxtl.train.run import prepare, train

LABELS = {"class": "word", "multi-label": "tags", "regression": "[red, green]"}
LOSSES = {"class": "softmax", "multi-label": "sigmoid", "regression": "mse"}
CLASSES = {"class": ("high", "low"), "multi-label": ("even", "low"), "regression": ("red", "green")}


@pytest.fixture
def table(tmp_path):
    """48 images of a colour that their labels are about."""
    rows = ["path,word,tags,red,green,patient"]
    for index in range(48):
        colour = (5 * index, 250 - 5 * index, 0)
        Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(tmp_path / f"{index}.png")
        tags = ["even"] * (index % 2 == 0) + ["low"] * (index < 24)
        red, green = colour[0] / 250, colour[1] / 250
        rows.append(f"{index}.png,{'low' if index < 24 else 'high'},{'|'.join(tags)},{red},{green},p{index // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path / "labels.csv"


def config(table, task: str) -> str:
    path = table.parent / "recipe.yaml"
    path.write_text(
        f"""
model: {{name: cifar_resnet20, weights: null, until: layer1}}
data: {{source: "csv:{table}", size: 8, label_column: {LABELS[task]}, label_separator: "|", group_column: patient,
       folds: 4, fold: 1, samples: 30}}
loss: {{name: {LOSSES[task]}}}
groups: {{head: fast, "*": frozen}}
epochs: 1
batch_size: 15
output: {table.parent / "run"}
"""
    )
    return str(path)


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_each_task_is_trained_from_a_file(table, task):
    done = CliRunner().invoke(app, ["train", config(table, task)])
    assert done.exit_code == 0, done.output
    assert jaxtl.load(table.parent / "run" / "best").classes == CLASSES[task]
    record = json.loads((table.parent / "run" / "history.jsonl").read_text().splitlines()[-1])
    assert ("val_accuracy" in record) == (task != "regression")
    assert np.isfinite(record["val_loss"])


def _recipe(table, **data) -> Recipe:
    model = {"name": "cifar_resnet20", "weights": None, "until": "layer1"}
    source = {"source": f"csv:{table}", "size": 8, "label_column": "word", **data}
    return Recipe.from_keywords(model=model, data=source, batch_size=8)


def test_the_recipe_reaches_every_setting(table, tmp_path):
    prepared = prepare(_recipe(table, group_column="patient", folds=4, fold=1, samples=30))
    assert prepared.data.split == "fold 1 of 4 by 24 groups, seed 0"
    assert (len(prepared.data.train), len(prepared.data.val)) == (30, 12)
    prepared.data.write_split(tmp_path / "split.json")
    again = prepare(_recipe(table, split_file=str(tmp_path / "split.json")))
    assert again.data.val.names == prepared.data.val.names


@pytest.mark.parametrize(
    ("data", "fields", "message"),
    [
        (
            {"label_column": "red"},
            {},
            "labels are numbers, and the loss 'softmax' is for one class an image: .* 'mse'",
        ),
        (
            {},
            {"loss": {"name": "mse"}},
            "one class an image, and the loss 'mse' is for numbers: .* 'softmax' or 'focal'",
        ),
        ({}, {"loss": {"name": "sigmoid"}}, "the loss 'sigmoid' is for any number of classes an image"),
        (
            {"label_column": "red"},
            {"loss": {"name": "mse"}, "strategy": "lp-ft"},
            "linear_probe needs one class an image",
        ),
        ({"value_range": [0, 1]}, {}, "value_range means nothing for 'csv:"),
        ({"split_file": "no.json"}, {}, "split_file 'no.json' cannot be read"),
    ],
)
def test_what_does_not_fit_is_said_before_the_first_step(table, data, fields, message):
    with pytest.raises(jaxtl.InputError, match=message):
        train(_recipe(table, **data).replace(**fields))


def test_python_callers_are_told_too(table):
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=1, until="layer1", seed=0)
    data = jaxtl.open_data(f"csv:{table}", model, label_column="red")
    with pytest.raises(jaxtl.InputError, match="give the loss 'mse'"):
        jaxtl.fine_tune(model, data, epochs=1)
    assert jaxtl.evaluate(model, data).keys() == {"loss", "mae", "r2", "count"}
