from __future__ import annotations

import numpy as np
import pytest
from small_models import small_model

import jaxtl
from jaxtl.errors import InputError
from jaxtl.train.features import extract


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    model = small_model(in_chans=1, num_classes=10)
    return model.replace(preprocess=model.preprocess.replace(size=8))


@pytest.fixture(scope="module")
def data(model):
    return jaxtl.open_data("digits", model, val_fraction=0.06, samples_per_class=3)


def _images(model, source):
    pixels = np.stack([model.preprocess(source[i][0]) for i in range(len(source))])
    return jaxtl.normalise(pixels, model.preprocess.mean, model.preprocess.std)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("batch_size", [7, 200])
def test_features_are_the_models_own_in_the_splits_order_without_padding(model, data, split, batch_size) -> None:
    source = getattr(data, split)
    found = extract(model, data, split, batch_size=batch_size)
    assert list(found.arrays) == ["head"]
    assert found["head"].shape == (len(source), 64)
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.labels, source.labels)
    expected = model.features(_images(model, source))
    np.testing.assert_allclose(found["head"], expected, rtol=2e-4, atol=1e-6 * np.abs(expected).max())


def test_stages_are_the_averages_of_what_each_stage_gives(model, data) -> None:
    found = extract(model, data, stages=("layer2", "stem", "head"), batch_size=16)
    assert [(stage, array.shape[1]) for stage, array in found.arrays.items()] == [
        ("layer2", 32),
        ("stem", 16),
        ("head", 64),
    ]
    from flax import nnx

    graph = model.graph
    network = nnx.merge(nnx.graphdef(graph.network), model.params, model.batch_stats)
    x = network.run_stage("stem", _images(model, data.train))
    np.testing.assert_allclose(found["stem"], x.mean((1, 2)), rtol=2e-4, atol=2e-5)
    x = network.run_stage("layer2", network.run_stage("layer1", x))
    np.testing.assert_allclose(found["layer2"], x.mean((1, 2)), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("stages", ["head", "layer1"])
def test_numbers_stay_what_they_are(model, stages: str) -> None:
    numbers = np.array([0.7, -1.9, 3.0])
    images = [(np.full((8, 8), 30 * place, np.uint8), number) for place, number in enumerate(numbers)]
    data = jaxtl.open_data((images, images), model, task="regression", augment="none")
    found = extract(model, data, stages=stages)
    assert found.labels.dtype == np.float32
    np.testing.assert_allclose(found.labels[:, 0], numbers)


def test_the_last_body_stage_pooled_is_what_the_head_sees(model, data) -> None:
    found = extract(model, data, stages=("layer3", "head"))
    np.testing.assert_allclose(found["layer3"], found["head"], rtol=1e-5, atol=1e-6)


def test_one_compiled_function_serves_models_that_share_a_graph(model, data) -> None:
    extract(model, data, stages="layer1", batch_size=30)
    before = dict(model.graph._remembered)
    other = model.replace(params={**model.params}, name="other")
    extract(other, data, "val", stages=["layer1"], batch_size=30)
    assert model.graph._remembered == before


def test_what_cannot_be_extracted(model, data) -> None:
    with pytest.raises(InputError, match=r"no body stage 'layer9'; did you mean .*; there are stem, layer1"):
        extract(model, data, stages=["layer9"])
    with pytest.raises(InputError, match="no body stage 'fc'"):
        extract(model, data, stages=["fc"])
    with pytest.raises(InputError, match=r"no stage to extract; name some of stem, .*, head"):
        extract(model, data, stages=[])
    with pytest.raises(InputError, match=r"preprocessing of .*input_size \[1, 16, 16\] against \[1, 8, 8\]"):
        extract(model.replace(preprocess=model.preprocess.replace(size=16)), data)
    with pytest.raises(InputError, match="split must be"):
        extract(model, data, "test")
