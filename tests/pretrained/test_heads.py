"""Heads with hidden layers: new ones, stored ones, and stored ones that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch_reference
from safetensors.numpy import save_file
from small_models import batch, bits, small_model, training

import jaxtl
from jaxtl.errors import InputError
from jaxtl.pretrained.names import state_dict
from jaxtl.trees import flatten

CIFAR = "cifar_resnet20"


def _file(model: jaxtl.Model, folder: Path) -> Path:
    """A model's weights without a word about how they were made."""
    save_file(state_dict(model.params, model.batch_stats), folder / "weights.safetensors")
    return folder / "weights.safetensors"


def _head(model: jaxtl.Model) -> dict[str, tuple[int, ...]]:
    return {path: leaf.shape for path, leaf in flatten(model.params).items() if path.startswith("fc.")}


def test_a_new_head_with_hidden_layers_on_pretrained_weights(tmp_path) -> None:
    pretrained = small_model()
    model = jaxtl.load(CIFAR, weights=_file(pretrained, tmp_path), num_classes=5, head=[32, 16])
    assert _head(model) == {
        "fc.0.bias": (32,),
        "fc.0.kernel": (64, 32),
        "fc.2.bias": (16,),
        "fc.2.kernel": (32, 16),
        "fc.4.bias": (5,),
        "fc.4.kernel": (16, 5),
    }
    assert bits(model.params["layer3"]) == bits(pretrained.params["layer3"])
    assert model.notes == (
        "the head 'fc' (4 classes in the weights) is new: 5 classes behind hidden layers of 32 and 16, "
        "initialised from seed 0",
    )
    same_classes = jaxtl.load(CIFAR, weights=tmp_path / "weights.safetensors", head=(32,))
    assert same_classes.num_classes == 4
    assert any("4 classes behind hidden layers of 32" in note for note in same_classes.notes)


def test_logits_are_those_of_a_torch_sequential() -> None:
    torch = pytest.importorskip("torch")
    model = small_model("resnet18", until="layer1", head=(24,))
    theirs = torch.nn.Sequential(torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 4))
    stored = state_dict(model.params, model.batch_stats)
    theirs.load_state_dict(
        {name.removeprefix("fc."): torch.tensor(array) for name, array in stored.items() if name.startswith("fc.")}
    )
    images = torch_reference.images(32)
    expected = theirs(torch.tensor(np.asarray(model.features(images)))).detach().numpy()
    np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("drop_rate", [0.0, 0.3])
def test_saved_and_loaded_again(drop_rate: float, tmp_path) -> None:
    model = small_model(head=(16,), drop_rate=drop_rate).replace(classes=("a", "b", "c", "d"))
    jaxtl.save(model, tmp_path)
    again = jaxtl.load(tmp_path)
    assert (bits(again.params), again.classes, again.notes) == (bits(model.params), model.classes, ())
    assert _head(jaxtl.load(tmp_path, num_classes=3))["fc.3.kernel" if drop_rate else "fc.2.kernel"] == (16, 3)
    assert jaxtl.load(tmp_path, num_classes=0).features(batch()["image"]).shape == (4, 64)


def test_another_dropout_shifts_the_numbers_and_keeps_the_head(tmp_path) -> None:
    model = small_model(head=(16, 8))
    jaxtl.save(model, tmp_path)
    dropping = jaxtl.load(tmp_path, drop_rate=0.5)
    assert [path for path in _head(dropping) if path.endswith("kernel")] == [
        "fc.0.kernel",
        "fc.3.kernel",
        "fc.6.kernel",
    ]
    assert dropping.notes == ()
    np.testing.assert_array_equal(dropping(batch()["image"]), model(batch()["image"]))
    jaxtl.save(dropping, tmp_path / "dropping")
    assert bits(jaxtl.load(tmp_path / "dropping", drop_rate=0.0).params) == bits(model.params)


@pytest.mark.parametrize("head", [(), (8,), (16, 8)])
def test_other_hidden_widths_are_a_new_head(head: tuple[int, ...], tmp_path) -> None:
    jaxtl.save(small_model(head=(16,)), tmp_path)
    for source in ({"name": tmp_path}, {"name": CIFAR, "weights": tmp_path / "model.safetensors"}):
        model = jaxtl.load(**source, head=head)
        assert [width for path, (_, width) in _head_kernels(model)] == [*head, 4]
        assert any("is new" in note for note in model.notes)


def _head_kernels(model: jaxtl.Model) -> list[tuple[str, tuple[int, ...]]]:
    return [(path, shape) for path, shape in _head(model).items() if path.endswith("kernel")]


def test_a_stored_mlp_is_never_dropped_in_silence(tmp_path) -> None:
    file = _file(small_model(head=(16,)), tmp_path)
    with pytest.raises(
        InputError, match=r"head 'fc' has other layers \(fc.0.weight, fc.2.weight\).*pass head=\(16,\) to"
    ):
        jaxtl.load(CIFAR, weights=file)
    assert bits(jaxtl.load(CIFAR, weights=file, head=(16,)).params) == bits(small_model(head=(16,)).params)
    stored = state_dict(small_model(head=(16,)).params, {}) | {"fc.1.weight": np.ones(16, np.float32)}
    stored["fc.3.weight"] = stored.pop("fc.2.weight")
    save_file(state_dict({}, small_model().batch_stats) | stored, file)
    with pytest.raises(InputError, match=r"\(fc.0.weight, fc.3.weight\) than .*; pass head=\(\) for a new linear one"):
        jaxtl.load(CIFAR, weights=file)


@pytest.mark.parametrize("head", [512, (0,), ("512",), (True,), "512"])
def test_widths_that_cannot_be(head) -> None:
    with pytest.raises(InputError, match=r"head must be the widths .* as in head=\(512,\)"):
        jaxtl.load(CIFAR, weights=None, head=head)


def test_hidden_layers_need_classes() -> None:
    with pytest.raises(InputError, match=r"head=\(8,\) needs classes"):
        jaxtl.load(CIFAR, weights=None, num_classes=0, head=(8,))


def test_labels_and_dropout_take_it_as_one_head() -> None:
    model = small_model(head=(16,), drop_rate=0.5)
    assert {model.graph.depth_of(path) for path in _head(model)} == {0}
    groups = {
        path for path in flatten(model.params) if jaxtl.labels.head_only().bind(model.graph)(path, None) == "fast"
    }
    assert groups == set(_head(model))
    assert jaxtl.training_modes(model, jaxtl.labels.head_only()).random == {"head_drop", "fc.2"}
    assert jaxtl.training_modes(model, training("layer3")).random == set()
