"""What a model takes."""

from __future__ import annotations

import copy
import pickle

import jax
import numpy as np
import optax
import pytest
from small_models import batch, bits, small_model

import jaxtl
from jaxtl.errors import InputError


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.bool_])
def test_images_that_are_no_floats_are_refused_however_the_model_is_called(dtype) -> None:
    """Layers take the weights to the type of the images: in whole numbers most weights are 0."""
    model = small_model(until="layer1")
    images = np.ones((2, 16, 16, 3), dtype)
    for use in (model, model.features, model.intermediates, lambda x: model.apply(model.params, model.batch_stats, x)):
        with pytest.raises(InputError, match=r"takes normalised float images; got (uint8|int32|bool): .*normalise"):
            use(images)


def test_float_images_of_any_width_are_taken() -> None:
    model, images = small_model(until="layer1"), batch()["image"]
    expected = model(images)
    np.testing.assert_allclose(model(images.astype(np.float64)), expected, rtol=1e-6)
    np.testing.assert_allclose(model(images.astype(np.float16)), expected, atol=0.1)
    normal = jaxtl.normalise(np.full((1, 16, 16, 3), 200, np.int32), (0.5,) * 3, (0.25,) * 3)
    assert model(normal).dtype == np.float32


def test_one_stage_may_be_asked_for_by_its_name() -> None:
    model = small_model(until="layer1")
    assert list(model.intermediates(batch()["image"], "layer1")) == ["layer1"]
    with pytest.raises(InputError, match="no body stage 'layer9'"):
        model.intermediates(batch()["image"], "layer9")


def test_names_of_classes_are_a_tuple_as_long_as_the_outputs() -> None:
    model = small_model(until="stem")
    assert model.replace(classes=list("abcd")).classes == model.replace(classes=iter("abcd")).classes == tuple("abcd")
    assert model.replace(classes=None).classes is None
    with pytest.raises(InputError, match=r"classes has 3 names and cifar_resnet20 4 outputs; give one for each"):
        model.replace(classes=["a", "b", "c"])
    for wrong in ("abcd", [1, 2, 3, 4], 4):
        with pytest.raises(InputError, match="classes must be names"):
            model.replace(classes=wrong)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(InputError, match=r"task .multilabel. is none of class, .*did you mean .multi-label."):
        small_model(until="stem").replace(task="multilabel")


def test_a_model_can_be_copied_and_sent_to_other_processes() -> None:
    model = small_model(until="stem").replace(classes=list("abcd"))
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.graph is model.graph
        assert (copied.classes, copied.preprocess) == (model.classes, model.preprocess)
        assert bits(copied.params) == bits(model.params)
        assert bits(copied.batch_stats) == bits(model.batch_stats)


def test_parameters_of_a_part_are_no_model() -> None:
    model = small_model(until="layer1")
    label = jaxtl.labels.head_only()
    state = jaxtl.TrainState.create(model, jaxtl.multi_transform({"fast": optax.sgd(0.1)}, label))
    message = (
        r"params are not those of cifar_resnet20: bn1.bias, .* and \d+ more lacking; .*use state.to_model\(model\)"
    )
    with pytest.raises(InputError, match=message):
        model.replace(params=state.params)
    with pytest.raises(InputError, match=r"batch_stats .*: fc.bias, fc.kernel unknown$"):
        model.replace(batch_stats={**model.batch_stats, **state.params})
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), model.params)
    assert model.replace(params=stacked).params is stacked  # for jax.vmap
