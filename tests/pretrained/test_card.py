"""The model card of an exported folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from small_models import small_model

import jaxtl
from jaxtl.pretrained.card import card, shareable

CLASSES = ("daisy", "ひまわり", "rose", "tulip")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1)
    data = jaxtl.open_data("digits", model, samples_per_class=2)
    output = tmp_path_factory.mktemp("run") / "out"
    jaxtl.fine_tune(model, data, epochs=1, batch_size=20, eval_batch_size=360, progress=False, output=str(output))
    return output


def _front_matter(text: str) -> dict:
    match = re.match(r"---\n(.*?)---\n", text, re.DOTALL)
    assert match
    return yaml.safe_load(match[1])


def test_a_run_is_told_in_the_card(run) -> None:
    training = json.loads((run / "best" / "config.json").read_text(encoding="utf-8"))["jaxtl"]["training"]
    assert training["data"]["source"] == "digits"
    assert training["data"]["train"] == 20
    text = card(jaxtl.load(run / "best"), training)
    accuracy = training["result"]["val_accuracy"]
    for expected in (
        "- source: `digits`",
        f"- images: 20 to train, {training['data']['val']} to validate",
        "- training images of each class: 0 2, 1 2",
        f"- validation accuracy: {100 * accuracy:.2f} %",
        "- after epoch 1, step 1",
        "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.",
        "batch_size: 20",
    ):
        assert expected in text, expected


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"val_accuracy": 0.97, "val_mean_average_precision": 0.4}, ["- validation mean average precision: 40.00 %"]),
        ({"val_loss": 0.5}, ["- validation loss: 0.5000"]),
    ],
)
def test_the_result_is_what_the_best_epoch_was_chosen_by(result, told) -> None:
    text = card(small_model("resnet18", layers=(1, 1, 1, 1)), {"result": result})
    assert [line for line in text.splitlines() if line.startswith("- validation")] == told


def test_the_front_matter_is_what_the_hub_reads() -> None:
    model = small_model("resnet18", layers=(1, 1, 1, 1)).replace(classes=CLASSES, name="resnet18.a1_in1k")
    text = card(model.replace(license="apache-2.0", pretrained=True))
    assert _front_matter(text) == {
        "license": "apache-2.0",
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "base_model": "timm/resnet18.a1_in1k",
        "tags": ["image-classification", "timm", "jaxtl", "jax"],
    }
    assert "# resnet18 for daisy, ひまわり, rose, tulip" in text
    assert 'timm.create_model("local-dir:FOLDER", pretrained=True)' in text
    assert 'jaxtl.load("FOLDER")' in text
    assert "mean (0.485, 0.456, 0.406)" in text


@pytest.mark.parametrize(("name", "options"), [("cifar_resnet20", {}), ("resnet10t", {"until": "layer1"})])
def test_the_card_of_a_network_that_timm_cannot_build(name: str, options: dict, tmp_path) -> None:
    model = small_model(name, **options)
    folder = jaxtl.export(model, tmp_path, "jaxtl", training={"recipe": {"data": {"source": "folder:/home/ann/x"}}})
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert _front_matter(text)["library_name"] == "jaxtl"
    assert "timm" not in _front_matter(text)["tags"]
    assert "timm.create_model" not in text
    assert 'jaxtl.load("FOLDER")' in text
    assert "/home" not in text + (folder / "config.json").read_text(encoding="utf-8")
    assert jaxtl.load(folder).stages == model.stages


def test_what_is_not_known_is_not_made_up() -> None:
    text = card(small_model("resnet18", layers=(1, 1, 1, 1)))
    assert _front_matter(text)["license"] == "unknown"
    assert "base_model" not in _front_matter(text)
    assert "start: random weights" in text
    assert "## Result" not in text
    assert "## Recipe" not in text


def test_folders_of_the_machine_stay_there(tmp_path) -> None:
    recipe = {
        "model": {"name": "resnet18", "weights": "/home/ann/weights/r18.safetensors"},
        "data": {"source": "folder:/home/ann/flowers", "split_file": "/home/ann/split: new.json"},
    }
    left_out = {"train": ["image file '/home/ann/flowers/rose/1.jpg' is empty"], "val": []}
    data = {"source": "folder:/home/ann/flowers", "left_out": left_out}
    training = {"recipe": recipe, "data": data, "result": {}}
    model = small_model("resnet18", layers=(1, 1, 1, 1)).replace(name="/home/ann/tuned")
    folder = jaxtl.export(model, tmp_path, training=training)
    for file in ("README.md", "config.json"):
        text = (folder / file).read_text(encoding="utf-8")
        assert "/home" not in text
        assert "folder:flowers" in text
        assert "split: new.json" in text
    kept = json.loads((folder / "config.json").read_text(encoding="utf-8"))["jaxtl"]["training"]
    assert kept["data"]["left_out"] == {"train": 1, "val": 0}
    assert recipe["data"]["source"] == "folder:/home/ann/flowers"
    kept = {"data": {"source": "hf:ann/flowers"}}
    assert shareable(kept) == kept


@pytest.mark.parametrize("strategy", ["scratch", "full"])
def test_the_card_of_a_run_from_scratch_names_no_base(strategy: str, tmp_path) -> None:
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1).replace(
        pretrained=True, name="resnet18.a1_in1k"
    )
    data = jaxtl.open_data("digits", model, samples_per_class=2)
    options = {"strategy": strategy, "epochs": 1, "batch_size": 20, "eval_batch_size": 360, "progress": False}
    jaxtl.fine_tune(model, data, output=str(tmp_path / "run"), **options)
    best = tmp_path / "run" / "best"
    text = card(jaxtl.load(best), json.loads((best / "config.json").read_text(encoding="utf-8"))["jaxtl"]["training"])
    from_scratch = strategy == "scratch"
    assert ("- start: random weights" in text) == from_scratch
    assert ("- base weights: `resnet18.a1_in1k`" in text) != from_scratch
    assert ("base_model" in _front_matter(text)) != from_scratch
