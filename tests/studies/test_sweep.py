from __future__ import annotations

import json

import pytest
from PIL import Image

from jaxtl.errors import InputError
from jaxtl.recipe import Recipe
from jaxtl.studies.sweep import grid, is_sweep, parse_sweep, sweep
from jaxtl.train import fine_tune as training

RECIPE = Recipe.from_keywords(
    model={"name": "cifar_resnet20", "weights": None, "until": "stem"},
    data={"source": "digits", "size": 8, "augment": "none", "val_fraction": 0.05, "train_samples": 40},
    groups={"head": "fast", "*": "frozen"},
    epochs=1,
    batch_size=20,
    eval_batch_size=100,
)


def test_one_run_for_each_combination(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    rows = sweep(RECIPE, {"optimizer.fast.lr": [0.1, 0.01], "label_smoothing": [0.0, 0.1]}, output=f"~/{tmp_path.name}")
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
        assert (row["measure"], row["accuracies"]) == ("val_accuracy", [stored["history"][-1]["val_accuracy"]])
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "optimizer.fast.lr=0.01,label_smoothing=0.1" in capsys.readouterr().out


def test_runs_of_several_labels_are_judged_by_the_mean_average_precision(tmp_path, capsys) -> None:
    lines = "\n".join(f"{number}.png,red;of {number % 4}" for number in range(12))
    (tmp_path / "labels.csv").write_text(f"path,label\n{lines}\n")
    for number in range(12):
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(tmp_path / f"{number}.png")
    data = {"source": f"csv:{tmp_path / 'labels.csv'}", "size": 8, "augment": "none", "val_fraction": 0.5}
    recipe = RECIPE.replace(loss="sigmoid", data=data, batch_size=6)
    (row,) = sweep(recipe, {"optimizer.fast.lr": [0.1]}, output=tmp_path / "out")
    stored = json.loads((tmp_path / "out" / row["name"] / "seed-0" / "run.json").read_text())
    last = stored["history"][-1]
    assert last["val_mean_average_precision"] != last["val_accuracy"]
    assert (row["measure"], row["accuracies"]) == ("val_mean_average_precision", [last["val_mean_average_precision"]])
    printed = capsys.readouterr().out
    assert f"seed 0: mean average precision {100 * row['mean']:.1f} %" in printed
    assert "Mean average precision on validation images: 1 seed" in printed
    with pytest.raises(InputError, match="the loss 'sigmoid' are judged by the mean average precision and others by"):
        sweep(recipe, {"loss.name": ["sigmoid", "softmax"]}, output=tmp_path / "mixed")


def test_the_kinds_of_an_optimizer_are_values_too(tmp_path) -> None:
    rows = sweep(RECIPE, {"optimizer.fast.name": ["adamw", "sgd"]}, output=tmp_path, progress=False)
    stored = [json.loads((tmp_path / row["name"] / "seed-0" / "run.json").read_text())["recipe"] for row in rows]
    assert [recipe["optimizer"]["fast"]["name"] for recipe in stored] == ["adamw", "sgd"]


def test_strategies_are_values_too(tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr("jaxtl.studies.sweep.run_all", lambda recipes, **_: {name: [] for name in recipes})
    monkeypatch.setattr("jaxtl.studies.sweep.written", lambda output, found, *_: list(found))
    with caplog.at_level("INFO", logger="jaxtl"):
        assert len(sweep(RECIPE, {"strategy": ["features", "full", "gradual"]}, output=tmp_path)) == 3
    assert caplog.messages == ["strategy 'features' takes the place of the recipe's groups"]


def test_a_value_that_diverges_is_told_and_the_others_are_tried(tmp_path, capsys, monkeypatch) -> None:
    fields = {"optimizer.fast.lr": [1e38, 0.1]}
    bad, good = sweep(RECIPE, fields, output=tmp_path)
    assert (bad["mean"], bad["lowest"], bad["trained"], bad["accuracies"], bad["diverged"]) == (
        *(None, None, None),
        [None],
        1,
    )
    assert (good["accuracies"], good["diverged"]) == ([good["mean"]], 0)
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == [bad, good]
    assert (tmp_path / "curves.png").is_file()
    printed = capsys.readouterr().out
    assert "optimizer.fast.lr=1e+38, seed 0: diverged: the loss or a gradient is not finite in epoch 1" in printed
    assert "1 of 1" in printed
    assert "…" not in printed
    monkeypatch.setattr(training, "fine_tune", None)  # nothing is trained again
    assert sweep(RECIPE, fields, output=tmp_path, progress=False) == [bad, good]


def test_where_all_diverge_there_is_nothing_to_draw(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training, "fine_tune", diverging)
    rows = sweep(RECIPE, {"optimizer.fast.lr": [1, 2]}, output=tmp_path, seeds=2)
    assert [(row["accuracies"], row["diverged"], row["measure"]) for row in rows] == [([None, None], 2, None)] * 2
    assert not (tmp_path / "curves.png").exists()


def diverging(*_, **__):
    raise FloatingPointError("not finite")


def test_what_cannot_run_is_found_before_the_first_run(tmp_path) -> None:
    with pytest.raises(InputError, match=r"^model.until=stm: .*did you mean 'stem'"):
        sweep(RECIPE, {"model.until": ["stem", "stm"]}, output=tmp_path)
    with pytest.raises(InputError, match=r"^studies compare accuracies, and the loss 'mse' has none$"):
        sweep(RECIPE.replace(loss="mse"), {"epochs": [1, 2]}, output=tmp_path)
    hidden = RECIPE.replace(**{"model.head": [8], "groups": {"*": "fast"}})
    with pytest.raises(InputError, match=r"^linear_probe=True: a linear probe needs a head of one linear layer"):
        sweep(hidden, {"linear_probe": [False, True]}, output=tmp_path)
    with pytest.raises(InputError, match=r"(?s)^before the first run: 2 problems.*model.name=a.*model.name=b"):
        sweep(RECIPE, {"model.name": ["a", "b", "cifar_resnet20"]}, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_fields_of_the_training_where_nothing_trains(tmp_path) -> None:
    planned = Recipe(model=RECIPE.model, data=RECIPE.data, strategy="linear-probe")
    with pytest.raises(
        InputError, match=r"optimizer.fast.lr would change nothing: .* 0 epochs; give it another strategy"
    ):
        sweep(planned, {"optimizer.fast.lr": [0.1, 0.01], "model.until": ["stem", "layer1"]}, output=tmp_path)
    assert not list(tmp_path.iterdir())
    sweep(planned, {"class_weights": ["balanced"]}, output=tmp_path, progress=False)


def test_results_of_another_study_are_not_replaced(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training, "fine_tune", diverging)
    sweep(RECIPE, {"epochs": [1, 2]}, output=tmp_path, progress=False)
    results = (tmp_path / "results.json").read_text()
    with pytest.raises(
        InputError, match=r"results.json holds the results of 'epochs=1', 'epochs=2', which this study would"
    ):
        sweep(RECIPE, {"batch_size": [10, 20]}, output=tmp_path, progress=False)
    assert (tmp_path / "results.json").read_text() == results
    assert len(sweep(RECIPE, {"epochs": [1, 2, 3]}, output=tmp_path, progress=False)) == 3
    (tmp_path / "results.json").write_text('{"from scratch": [0.5]}')
    with pytest.raises(InputError, match="holds no results of a study"):
        sweep(RECIPE, {"epochs": [1, 2]}, output=tmp_path, progress=False)


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
