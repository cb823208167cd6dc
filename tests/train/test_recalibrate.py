from __future__ import annotations

import numpy as np
import pytest
import torch_reference
from small_models import bits, small_model

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models.graph import Modes
from jaxtl.train import statistics
from jaxtl.trees import flatten


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    model = small_model(until="layer2", in_chans=1, num_classes=10)
    return model.replace(preprocess=model.preprocess.replace(size=8))


@pytest.fixture(scope="module")
def data(model):
    return jaxtl.open_data("digits", model, train_samples=50)


def _images(data, model) -> np.ndarray:
    pixels = np.stack([model.preprocess(data.train[i][0]) for i in range(len(data.train))])
    return np.asarray(jaxtl.normalise(pixels, model.preprocess.mean, model.preprocess.std))


def test_images_are_those_that_the_data_keeps(model) -> None:
    fresh = jaxtl.open_data("digits", model, train_samples=50)
    jaxtl.recalibrate(model, fresh)
    kept = fresh._prepared["train"]
    assert len(kept) == 50
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "_make", None)
        jaxtl.recalibrate(model, fresh)
        assert sum(batch["mask"].sum() for batch in fresh.eval_batches(20, "train")) == 50


def test_one_batch_equals_torchs_cumulative_average() -> None:
    reference = torch_reference.randomised("resnet18", in_chans=1)
    model = jaxtl.from_torch(reference.state_dict(), "resnet18", in_chans=1, until="layer1")
    model = model.replace(preprocess=model.preprocess.replace(size=32))
    data = jaxtl.open_data("digits", model, train_samples=24)
    found = flatten(jaxtl.recalibrate(model, data, batch_size=24).batch_stats)

    norms = {name: module for name, module in reference.named_modules() if hasattr(module, "running_mean")}
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None
    reference.double().train()(torch_reference.torch_images(_images(data, model)).double())
    assert len(model.graph.batch_norms) == 5
    for name in model.graph.batch_norms:
        norm = norms[name]
        deviation = norm.running_var.sqrt().numpy()
        mean, var = norm.running_mean.numpy(), norm.running_var.numpy()
        assert np.abs((found[f"{name}.mean"] - mean) / deviation).max() < 1e-4, name
        np.testing.assert_allclose(found[f"{name}.var"], var, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize("batch_size", [16, 50])
def test_the_first_layers_statistics_are_those_of_all_images_whatever_the_batches(model, data, batch_size) -> None:
    images, kernel = _images(data, model), np.asarray(model.params["conv1"]["kernel"], np.float64)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(np.float64)
    outputs = sum(padded[:, i : i + 8, j : j + 8] @ kernel[i, j] for i in range(3) for j in range(3))
    found = jaxtl.recalibrate(model, data, batch_size=batch_size).batch_stats["bn1"]
    np.testing.assert_allclose(found["mean"], outputs.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"], outputs.var((0, 1, 2), ddof=1), rtol=1e-4)


def test_nothing_but_statistics_changes_and_the_model_given_stays(model, data) -> None:
    before = bits(model.params), bits(model.batch_stats)
    found = jaxtl.recalibrate(model, data, batch_size=25)
    assert (bits(model.params), bits(model.batch_stats)) == before
    assert bits(found.params) == before[0]
    after = bits(found.batch_stats)
    assert list(after) == list(before[1])
    assert all(after[path] != before[1][path] for path in after)
    assert bits(jaxtl.recalibrate(model, data, batch_size=25).batch_stats) == after


def test_recalibrated_twice_is_recalibrated_once(model, data) -> None:
    """Every BatchNorm runs on batch statistics, so those stored before play no part."""
    once = jaxtl.recalibrate(model, data, batch_size=25)
    twice = jaxtl.recalibrate(once, data, batch_size=25)
    assert bits(once.batch_stats) == bits(twice.batch_stats)


def test_a_number_of_batches(model, data) -> None:
    some = jaxtl.recalibrate(model, data, batch_size=10, batches=2)
    assert bits(some.batch_stats) != bits(jaxtl.recalibrate(model, data, batch_size=10).batch_stats)
    assert bits(jaxtl.recalibrate(model, data, batch_size=10, batches=99).batch_stats) == bits(
        jaxtl.recalibrate(model, data, batch_size=10).batch_stats
    )


def test_no_batch_is_a_small_rest() -> None:
    parts = statistics._parts(images=65, count=65, batch_size=64)
    assert [len(part) for part in parts] == [33, 32]
    assert sorted(np.concatenate(parts).tolist()) == list(range(65))
    parts = statistics._parts(images=1000, count=100, batch_size=64)
    assert [len(part) for part in parts] == [50, 50]
    assert len({int(index) // 100 for index in np.concatenate(parts)}) == 10


def test_observed_statistics_do_not_depend_on_the_batch_size(model, data) -> None:
    modes = Modes(observe=frozenset(model.graph.batch_norms))
    whole, parts = (flatten(statistics.pooled_statistics(model, data, modes, size, "train", None)) for size in (50, 11))
    for path in whole:
        np.testing.assert_allclose(whole[path], parts[path], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_recalibrated(model, data) -> None:
    with pytest.raises(InputError, match="resnet50_gn has no BatchNorm"):
        jaxtl.recalibrate(jaxtl.load("resnet50_gn", weights=None, until="layer1"), data)
    with pytest.raises(
        InputError, match=r"preprocessing is not the data's \(input_size .*open the data with this model"
    ):
        jaxtl.recalibrate(model.replace(preprocess=model.preprocess.replace(size=12)), data)
    for wrong, message in (
        ({"split": "test"}, "split must be 'train' or 'val', not 'test'"),
        ({"batches": 0}, "batches must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
    ):
        with pytest.raises(InputError, match=message):
            jaxtl.recalibrate(model, data, **wrong)
