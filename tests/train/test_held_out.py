"""Evaluation looks at the images that were held out in training, and says which split it took."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from small_models import small_model

import jaxtl
from jaxtl.cli import main
from jaxtl.data.divide import read_split
from jaxtl.recipe import Recipe
from jaxtl.train.held_out import open_held_out
from jaxtl.train.run import train

FOLDS = Recipe.from_keywords(data={"source": "digits", "folds": 4, "fold": 2, "train_samples": 50}, seed=3)


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    return jaxtl.load("cifar_resnet20", weights=None, in_chans=1, until="stem")


@pytest.fixture
def saved(model, tmp_path):
    """A model whose folder records a training on one of four folds."""
    training = {
        "recipe": FOLDS.model_dump(mode="json"),
        "data": {"source": "digits", "split": "fold 2 of 4, seed 3", "train": 50, "val": 449},
    }
    return jaxtl.save(model, tmp_path / "model", training=training)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "jaxtl")
    return lambda: caplog.records[-1].getMessage()


def test_the_split_of_the_training(model, saved, said) -> None:
    found = open_held_out(model, saved, "digits")
    expected = jaxtl.open_data("digits", model, folds=4, fold=2, seed=3)
    assert found.val.names == expected.val.names
    assert len(found.train) == 50
    assert said() == "449 validation images of digits: fold 2 of 4, seed 3, as in training"


def test_another_split_where_it_is_asked_for(model, saved, said, tmp_path) -> None:
    found = open_held_out(model, saved, "digits", val_fraction=0.1)
    assert found.split == "10% held out, seed 3"
    assert said().endswith("; the model may have seen them: it was trained with fold 2 of 4, seed 3")
    assert open_held_out(model, saved, "digits", seed=5).split == "fold 2 of 4, seed 5"
    other = jaxtl.open_data("digits", model, val_fraction=0.5, seed=9)
    other.write_split(tmp_path / "other.json")
    assert open_held_out(model, saved, "digits", split_file=tmp_path / "other.json").val.names == other.val.names
    assert said().endswith(": split of other.json")


def test_what_is_not_recorded_is_told(model, saved, said, tmp_path) -> None:
    for folder in ("cifar_resnet20", jaxtl.save(model, tmp_path / "plain")):
        assert open_held_out(model, folder, "digits").split == "20% held out, seed 0"
        assert said().endswith("20% held out, seed 0; no training on them is recorded")
    by_hand = {"recipe": Recipe(seed=1).model_dump(mode="json"), "data": {"source": "digits", "split": "my own"}}
    open_held_out(model, jaxtl.save(model, tmp_path / "by_hand", training=by_hand), "digits")
    assert said().endswith("20% held out, seed 0; the model may have seen them: it was trained with my own")


def test_the_same_folder_by_another_path(model, said, tmp_path, monkeypatch) -> None:
    for name in ("ant", "bee"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (8, 8), 20 * number).save(tmp_path / "images" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.from_keywords(data={"source": "folder:images/", "val_fraction": 0.3})
    training = {"recipe": recipe.model_dump(mode="json"), "data": {"source": "folder:images/", "split": "30%"}}
    folder = jaxtl.save(model, tmp_path / "model", training=training)
    assert open_held_out(model, folder, f"folder:{tmp_path / 'images'}").split == "30% held out, seed 0"


def test_what_a_run_records_is_what_evaluation_takes(tmp_path, capsys) -> None:
    recipe = Recipe.from_keywords(
        model={"name": "cifar_resnet20", "weights": None, "until": "stem"},
        data={"source": "digits", "size": 8, "augment": "none", "val_fraction": 0.05, "train_samples": 40},
        groups={"head": "fast", "*": "frozen"},
        epochs=1,
        batch_size=20,
        seed=4,
        output=tmp_path,
    )
    accuracy = train(recipe).history[-1]["val_accuracy"]
    assert main(["eval", str(tmp_path / "model"), "digits"]) == 0
    assert capsys.readouterr().out.startswith(f"accuracy {100 * accuracy:.2f} %")


def _paint(folder: Path, classes: str, numbers: range) -> None:
    for name in classes.split():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            Image.new("L", (8, 8), 5 * number).save(folder / name / f"{number}.png")


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The output of a run on a folder that is named from where it started."""
    monkeypatch.chdir(tmp_path)
    _paint(tmp_path / "images", "ant bee", range(10))
    recipe = Recipe.from_keywords(
        model={"name": "cifar_resnet20", "weights": None, "until": "stem"},
        data={"source": "folder:images", "size": 8, "augment": "none"},
        groups={"head": "fast", "*": "frozen"},
        epochs=1,
        batch_size=16,
        seed=3,
        output=tmp_path / "run",
    )
    train(recipe)
    return tmp_path / "run"


def test_images_that_came_later_are_in_neither_part(run, said, tmp_path) -> None:
    _paint(tmp_path / "images", "ant bee", range(10, 20))
    written = read_split(run / "split.json")
    tuned = jaxtl.load(run / "best")
    found = open_held_out(tuned, run / "best", "folder:images")
    assert sorted(found.val.names) == sorted(written["val"])
    assert said() == "4 validation images of folder:images: split of split.json, as in training"
    drawn = open_held_out(tuned, run / "best", "folder:images", seed=0)
    seen = len(set(drawn.val.names) & set(written["train"]))
    assert said().endswith(f"20% held out, seed 0; the model was trained on {seen} of them")
    assert seen


def test_the_same_images_from_elsewhere(run, said, tmp_path, monkeypatch) -> None:
    written = read_split(run / "split.json")
    exported = jaxtl.export(
        small_model("resnet10t", layers=(1, 1), channels=(64, 128)), tmp_path / "other", training=_record_of(run)
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tuned = jaxtl.load(run / "best")
    assert sorted(open_held_out(tuned, run / "best", f"folder:{tmp_path}/images").val.names) == sorted(written["val"])
    assert said().endswith("split of split.json, as in training")
    found = open_held_out(tuned, exported, "folder:../images")
    assert sorted(found.val.names) == sorted(written["val"])
    assert said().endswith("20% held out, seed 3, as in training")
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    found = open_held_out(tuned, exported, "folder:../copy")
    assert said() == (
        "20 validation images of folder:../copy: all images; the model was trained on folder:images (20% held out, "
        "seed 3): if these are the same, say --split-file"
    )
    assert open_held_out(tuned, exported, "folder:../copy", val_fraction=0.5).split == "50% held out, seed 0"


def test_the_same_images_by_another_name(run, said, tmp_path) -> None:
    written = read_split(run / "split.json")
    tuned = jaxtl.load(run / "best")
    (tmp_path / "images").rename(tmp_path / "renamed")
    told = ", if these are the images of folder:images, whose names they have"
    found = open_held_out(tuned, run / "best", "folder:renamed")
    assert sorted(found.val.names) == sorted(written["val"])
    assert said() == (
        f"4 validation images of folder:renamed: split of split.json, as in training{told} (else --val-fraction 1)"
    )
    assert len(open_held_out(tuned, run / "best", "folder:renamed", val_fraction=1).val) == 20
    assert said().endswith(f": all images; the model was trained on 16 of them{told}")
    _paint(tmp_path / "renamed", "ant", range(10, 20))
    (tmp_path / "renamed" / written["val"][0]).unlink()
    assert sorted(open_held_out(tuned, run / "best", "folder:renamed").val.names) == sorted(written["val"][1:])
    assert ": split of split.json, none of which the model was trained on, if" in said()
    (tmp_path / "renamed" / written["train"][0]).unlink()  # more than a twentieth
    assert open_held_out(tuned, run / "best", "folder:renamed").split == "all images"
    assert said().endswith("if these are the same, say --split-file")


def test_names_that_are_alike_by_accident(run, said, tmp_path) -> None:
    tuned = jaxtl.load(run / "best")
    _paint(tmp_path / "test", "ant bee", range(8))
    _paint(tmp_path / "more", "bee", range(40))
    for source in ("folder:test", "folder:more"):
        assert open_held_out(tuned, run / "best", source).split == "all images"
        assert "; the model was trained on folder:images (20% held out" in said()


def test_a_table_of_other_images_with_the_same_names(model, said, tmp_path) -> None:
    """Their classes tell them."""
    _paint(tmp_path / "images", "x", range(20))
    names = [f"images/x/{number}.png" for number in range(20)]
    classes = {"same": 10 * ["ant"] + 10 * ["bee"], "other": 4 * ["bee"] + 16 * ["ant"]}
    for table, cells in classes.items():
        rows = "".join(f"{name},{cell}\n" for name, cell in zip(names, cells, strict=True))
        (tmp_path / f"{table}.csv").write_text(f"path,label\n{rows}")
    record = {"source": "csv:train.csv", "split": "20%", "train_by_class": {"ant": 8, "bee": 8}}
    recipe = Recipe.from_keywords(data={"source": "csv:train.csv"})
    training = {"recipe": recipe.model_dump(mode="json"), "data": record}
    tuned = dataclasses.replace(model, classes=("ant", "bee"))
    folder = jaxtl.save(model, tmp_path / "run" / "model", training=training)
    held = [*names[8:10], *names[18:]]
    split = {"train": sorted({*names} - {*held}), "val": held}
    (tmp_path / "run" / "split.json").write_text(json.dumps(split))
    assert sorted(open_held_out(tuned, folder, f"csv:{tmp_path}/same.csv").val.names) == sorted(held)
    assert open_held_out(tuned, folder, f"csv:{tmp_path}/other.csv").split == "all images"


def test_a_test_set_of_the_same_name(run, said, tmp_path, monkeypatch) -> None:
    _paint(tmp_path / "test" / "images", "bee", range(30, 33))
    tuned = jaxtl.load(run / "best")
    found = open_held_out(tuned, run / "best", "folder:test/images")
    assert (found.split, found.classes, found.val.labels.tolist()) == ("all images", ("ant", "bee"), [1, 1, 1])
    monkeypatch.chdir(tmp_path / "test")  # where the recorded name leads to nothing
    (tmp_path / "test" / "images").rename(tmp_path / "test" / "other")
    (tmp_path / "test" / "deep").mkdir()
    (tmp_path / "test" / "other").rename(tmp_path / "test" / "deep" / "images")
    assert open_held_out(tuned, run / "best", "folder:deep/images").split == "all images"
    assert "all images; the model was trained on folder:images" in said()


@pytest.mark.parametrize(
    ("task", "option", "cells", "labels"),
    [
        ("class", {}, ["bee", "bee", "ant"], [1, 1, 0]),
        ("regression", {}, ["20", "30", "40"], [[20], [30], [40]]),
        ("multi-label", {"label_separator": "|"}, ["bee", "ant|bee", "ant"], [[0, 1], [1, 1], [1, 0]]),
        ("multi-label", {}, ["bee", "ant", "ant"], [[0, 1], [1, 0], [1, 0]]),
    ],
)
def test_another_table_has_the_columns_of_the_first(model, tmp_path, task, option, cells, labels) -> None:
    _paint(tmp_path / "images", "x", range(3))
    rows = "".join(f"images/x/{number}.png,{cell},0\n" for number, cell in enumerate(cells))
    (tmp_path / "test.csv").write_text(f"id,breed,label\n{rows}")
    recipe = Recipe.from_keywords(
        data={"source": "csv:train.csv", "path_column": "id", "label_column": "breed", **option},
        loss={"class": "softmax", "regression": "mse", "multi-label": "sigmoid"}[task],
    )
    training = {"recipe": recipe.model_dump(mode="json"), "data": {"source": "csv:train.csv", "split": "20%"}}
    classes = ("breed",) if task == "regression" else ("ant", "bee")
    tuned = dataclasses.replace(model, classes=classes, task=task)
    folder = jaxtl.save(model, tmp_path / "model", training=training)
    found = open_held_out(tuned, folder, f"csv:{tmp_path}/test.csv")
    assert (found.task, found.val.labels.tolist()) == (task, labels)
    by_hand = open_held_out(tuned, folder, f"csv:{tmp_path}/test.csv", label_column=["label"], task="class")
    assert by_hand.val.labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("source", "column", "value"), [("csv:train.csv", "id", 200), ("tar:train.tar", "mask.png", 40)]
)
def test_shards_have_no_column_of_paths_but_an_extension(model, tmp_path, source, column, value) -> None:
    with tarfile.open(tmp_path / "test.tar", "w") as archive:
        for number in range(2):
            (tmp_path / f"{number}.txt").write_text("bee")
            archive.add(tmp_path / f"{number}.txt", f"{number}.txt")
            for extension, level in (("png", 200), ("mask.png", 40)):
                Image.new("L", (8, 8), level).save(tmp_path / "a.png")
                archive.add(tmp_path / "a.png", f"{number}.{extension}")
    recipe = Recipe.from_keywords(data={"source": source, "path_column": column})
    training = {"recipe": recipe.model_dump(mode="json"), "data": {"source": source, "split": "20%"}}
    tuned = dataclasses.replace(model, classes=("ant", "bee"))
    folder = jaxtl.save(model, tmp_path / "model", training=training)
    assert open_held_out(tuned, folder, f"tar:{tmp_path}/test.tar").val[0][0].getpixel((0, 0)) == value


def test_images_that_are_gone_since(run, said, tmp_path) -> None:
    written = read_split(run / "split.json")
    (tmp_path / "images" / written["val"][0]).unlink()
    open_held_out(jaxtl.load(run / "best"), run / "best", "folder:images")
    assert "20% held out, seed 3" in said()


def _record_of(run: Path) -> dict:
    return json.loads((run / "best" / "config.json").read_text())["jaxtl"]["training"]
