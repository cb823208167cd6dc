from __future__ import annotations

import json

import pytest

from jaxtl.errors import InputError
from jaxtl.recipe import Recipe
from jaxtl.studies.sweep import grid, is_sweep, parse_sweep, sweep

RECIPE = Recipe.from_keywords(
    model={"name": "cifar_resnet20", "weights": None, "until": "stem"},
    data={"source": "digits", "size": 8, "augment": "none", "val_fraction": 0.05, "train_samples": 40},
    groups={"head": "fast", "*": "frozen"},
    epochs=1,
    batch_size=20,
    eval_batch_size=100,
)


def test_one_run_for_each_combination(tmp_path, capsys) -> None:
    rows = sweep(RECIPE, {"optimizer.fast.lr": [0.1, 0.01], "label_smoothing": [0.0, 0.1]}, output=tmp_path)
    assert [row["settings"] for row in rows] == [
        {"optimizer.fast.lr": 0.1, "label_smoothing": 0.0},
        {"optimizer.fast.lr": 0.1, "label_smoothing": 0.1},
        {"optimizer.fast.lr": 0.01, "label_smoothing": 0.0},
        {"optimizer.fast.lr": 0.01, "label_smoothing": 0.1},
    ]
    for row in rows:
        stored = json.loads((tmp_path / row["name"] / "seed-0" / "run.json").read_text())
        assert stored["recipe"]["optimizer"]["fast"]["lr"] == row["settings"]["optimizer.fast.lr"]
        assert stored["recipe"]["label_smoothing"] == row["settings"]["label_smoothing"]
        assert row["accuracies"] == [stored["history"][-1]["val_accuracy"]]
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "optimizer.fast.lr=0.01,label_smoothing=0.1" in capsys.readouterr().out


def test_the_kinds_of_an_optimizer_are_values_too(tmp_path) -> None:
    rows = sweep(RECIPE, {"optimizer.fast.name": ["adamw", "sgd"]}, output=tmp_path, progress=False)
    stored = [json.loads((tmp_path / row["name"] / "seed-0" / "run.json").read_text())["recipe"] for row in rows]
    assert [recipe["optimizer"]["fast"]["name"] for recipe in stored] == ["adamw", "sgd"]


def test_wrong_values_are_found_before_the_first_run(tmp_path) -> None:
    with pytest.raises(InputError, match=r"optimizer.fast.lr"):
        sweep(RECIPE, {"optimizer.fast.lr": [0.1, -1]}, output=tmp_path)
    with pytest.raises(InputError, match="epoch"):
        sweep(RECIPE, {"epoch": [1]}, output=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("optimizer.fast.lr=1e-2,1e-3", "optimizer.fast.lr", [0.01, 0.001]),
        ("epochs= 3, 5", "epochs", [3, 5]),
        ("schedule.name=cosine,linear", "schedule.name", ["cosine", "linear"]),
        ("clip_norm=null,1.0", "clip_norm", [None, 1.0]),
        ("recalibrate=true,false", "recalibrate", [True, False]),
        ('model.weights="a,b",c', "model.weights", ["a,b", "c"]),
        ("groups.layer1.*=slow,frozen", "groups.layer1.*", ["slow", "frozen"]),
        ("model.weights=2024-13-45,2024-11-27", "model.weights", ["2024-13-45", "2024-11-27"]),
    ],
)
def test_words_of_the_command_line(text, field, values) -> None:
    assert is_sweep(text)
    assert parse_sweep(text) == (field, values)


@pytest.mark.parametrize("text", ["epochs=3", "schedule={name: cosine, final: 0.1}", "data.size=[8, 8]", "a,b"])
def test_words_that_are_no_sweep(text) -> None:
    assert not is_sweep(text)


@pytest.mark.parametrize(
    "text", ["epochs", "epochs=", "=1,2", "epochs=1,,2", "epochs=[1],[2]", "epochs={a,b", "a=1,'b"]
)
def test_what_cannot_be_read(text) -> None:
    with pytest.raises(InputError, match=r"no sweep|no single value|is no YAML"):
        parse_sweep(text)
    with pytest.raises(InputError, match="starts a comment"):
        parse_sweep("data.source=folder:a #1,folder:a #2")


def test_grids_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="nothing to sweep"):
        grid({})
    with pytest.raises(InputError, match=r"0\.1 is given twice"):
        grid({"optimizer.fast.lr": [0.1, 0.1]})
    with pytest.raises(InputError, match="epochs: it has no value"):
        grid({"epochs": []})
    with pytest.raises(InputError, match="'seed' cannot be swept"):
        grid({"seed": [1, 2]})
