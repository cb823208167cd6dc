"""What is allowed and seldom meant is said, with its number; what is meant is not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import jaxtl
from jaxtl.finetune.misuse import warnings_for
from jaxtl.recipe import Recipe


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    return jaxtl.load("cifar_resnet20.letters", num_classes=10)


@pytest.fixture(scope="module")
def data(model):
    return jaxtl.open_data("digits", model)


def _said(model, data, **fields) -> str:
    return "\n".join(warnings_for(model, data, Recipe.from_keywords(**fields)))


def test_the_default_recipe_is_silent(model, data) -> None:
    assert _said(model, data) == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer.slow.lr": 5e-3}, "the rate 0.005 of the group 'slow' is above 0.001"),
        ({"optimizer.slow": {"name": "sgd", "lr": 0.5}}, "the rate 0.5 of the group 'slow' is above 0.05"),
        ({"phases": [{"epochs": 1}, {"epochs": 1, "rates": {"slow": 2e-3}}]}, "the rate 0.002 of the group 'slow'"),
        ({"batch_size": 16}, "16"),
    ],
)
def test_what_destroys_pretrained_weights_is_said(model, data, fields: dict, message: str) -> None:
    assert message in _said(model, data, **fields)


def test_rates_of_the_head_and_of_random_weights_are_free(model, data) -> None:
    assert _said(model, data, **{"optimizer.fast.lr": 0.1}) == ""
    fresh = model.replace(pretrained=False)
    assert _said(fresh, data, **{"optimizer.slow.lr": 5e-3}) == ""
    assert _said(model, data, layer_decay=0.1, **{"optimizer.slow.lr": 5e-3}) == ""


def test_other_preprocessing_than_the_weights_own(model, data) -> None:
    other = model.replace(preprocess=model.preprocess.replace(mean=(0.1,)))
    assert "mean is (0.1,), and cifar_resnet20.letters was trained with" in _said(other, data)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_colours_of_files_and_channels_of_the_network(tmp_path, mode) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(4):
            value = 20 * number if mode == "L" else (20 * number, 50, 50)
            Image.new(mode, (8, 8), value).save(tmp_path / name / f"{number}.png")
    for channels in (1, 3):
        network = jaxtl.load("cifar_resnet20", weights=None, num_classes=2, in_chans=channels)
        said = _said(network, jaxtl.open_data(f"folder:{tmp_path}", network))
        assert ("holds greyscale images and cifar_resnet20 takes three channels" in said) == (
            mode == "L" and channels == 3
        )
        assert ("6 of 6 images" in said and "are in colour" in said) == (mode == "RGB" and channels == 1)


def test_greyscale_into_three_channels() -> None:
    network = jaxtl.load("cifar_resnet20", weights=None, num_classes=10)
    said = _said(network, jaxtl.open_data("digits", network))
    assert "holds greyscale images and cifar_resnet20 takes three channels: each is repeated three times" in said


def test_everything_trained_on_one_image_a_class(model) -> None:
    few = jaxtl.open_data("digits", model, samples_per_class=1)
    message = "nothing is frozen and there are 1.0 training images a class"
    assert message in _said(model, few, batch_size=32)
    assert message not in _said(model, few, groups={"head": "fast", "*": "frozen"})


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
@pytest.mark.parametrize("weights", [None, "balanced", (1.0,) * 10], ids=["none", "balanced", "given"])
def test_rare_classes_are_made_up_for_twice(model, sampling: str, weights) -> None:
    said = _said(model, jaxtl.open_data("digits", model, sampling=sampling), class_weights=weights)
    assert said.startswith("class_weights and data.sampling are both balanced") == (
        (weights, sampling) == ("balanced",) * 2
    )
    assert not (said and weights != "balanced")


@pytest.mark.parametrize(
    ("numbers", "far"),
    [
        ([-1.0, 1.0], False),
        ([3.0, 9.0], False),
        ([7.0, 7.0], False),
        ([-1000.0, 1000.0], True),
        ([2000.0, 2010.0], True),
        ([0.01, 0.03], True),
    ],
)
def test_numbers_that_no_rate_leads_to(tmp_path, numbers, far: bool) -> None:
    labels = np.stack([np.tile(numbers, 20), np.tile([0.0, 2.0], 20)], 1)
    np.savez(tmp_path / "a.npz", images=np.arange(8 * 8 * 40).astype(np.uint8).reshape(40, 8, 8), labels=labels)
    network = jaxtl.load("cifar_resnet20", weights=None, num_classes=2, in_chans=1)
    data = jaxtl.open_data(f"arrays:{tmp_path}/a.npz", network, task="regression")
    first = data.train.labels[:, 0].astype(float)
    said = f"numbers of labels_0 (mean {first.mean():.4g}, standard deviation {first.std():.4g}) are far from 1, and"
    found = _said(network, data, loss={"name": "mse"}, batch_size=32)
    assert (said in found, "far from 1" in found) == (far, far)


def test_class_weights_must_fit_the_classes(model, data) -> None:
    with pytest.raises(jaxtl.InputError, match="class_weights has 2 numbers and digits has 10 classes"):
        jaxtl.fine_tune(model, data, class_weights=(1.0, 2.0), progress=False)
