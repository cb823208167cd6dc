"""Metrics beside accuracy, by hand; and answers averaged over variants of the images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import small_model

import jaxtl
from jaxtl.errors import InputError
from jaxtl.train.metrics import further_metrics
from jaxtl.train.step import make_eval_step
from jaxtl.train.test_time import averaged, variants


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    model = small_model(until="layer1", in_chans=1, num_classes=10)
    return model.replace(preprocess=model.preprocess.replace(size=8))


@pytest.fixture(scope="module")
def data(model):
    return jaxtl.open_data("digits", model, val_fraction=0.06)


def test_one_class_an_image() -> None:
    labels, answers = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 2, 1, 0])
    found = further_metrics("softmax", labels, answers)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["macro_f1"] == pytest.approx((3 / 4 + 2 / 3 + 0) / 3)
    assert further_metrics("focal", np.eye(3)[labels], answers) == found


def test_several_answers_an_image() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    logits = np.array([[2.0, -1, -1], [-3, 1, -1], [-2, 2, 1]], np.float32)
    found = further_metrics("sigmoid", labels, logits)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["mean_average_precision"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)


@pytest.mark.parametrize("loss", ["sigmoid", "mse"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_of_answers_that_are_not_finite_there_is_no_number(loss: str, wrong: float) -> None:
    labels = np.eye(3, dtype=np.float32)
    found = further_metrics(loss, labels, np.where(labels > 0, np.float32(wrong), 0))
    assert found.keys() == further_metrics(loss, labels, labels).keys()
    assert np.isnan(list(found.values())).all()


def test_labels_that_neither_occur_nor_are_answered_do_not_count() -> None:
    labels, answers = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 3])
    logits = 2 * np.eye(5, dtype=np.float32)[answers] - 1
    expected = (2 / 3 + 1 / 2 + 0) / 3
    assert further_metrics("softmax", labels, answers)["macro_f1"] == pytest.approx(expected)
    assert further_metrics("sigmoid", np.eye(5)[labels], logits)["macro_f1"] == pytest.approx(expected)
    assert further_metrics("sigmoid", np.zeros((2, 3)), -np.ones((2, 3)))["macro_f1"] == 0


def test_of_one_label_the_yes_counts_alone() -> None:
    labels, logits = np.array([[1], [0], [0], [0]], np.float32), np.array([[9], [9], [-9], [-9]], np.float32)
    assert further_metrics("sigmoid", labels, logits)["macro_f1"] == pytest.approx(2 / 3)


def test_numbers() -> None:
    labels, outputs = np.array([1.0, 2.0, 3.0]), np.array([[1.0], [2.5], [2.0]])
    found = further_metrics("mse", labels, outputs)
    assert found["mae"] == pytest.approx(0.5)
    assert found["r2"] == pytest.approx(1 - 1.25 / 2)
    assert "r2" not in further_metrics("mse", labels[:1], outputs[:1])


def test_an_evaluation_tells_them_of_the_whole_split(model, data) -> None:
    images = np.stack([model.preprocess(data.val[i][0]) for i in range(len(data.val))])
    logits = model(jaxtl.normalise(images, model.preprocess.mean, model.preprocess.std))
    expected = further_metrics("softmax", data.val.labels, np.asarray(logits).argmax(-1))
    for batch_size in (7, 500):
        measured = jaxtl.evaluate(model, data, batch_size=batch_size)
        assert {name: measured[name] for name in expected} == expected


def test_mirrored_images_have_the_same_average(model, data) -> None:
    """Whatever the network: the two variants are the same pair."""
    step = make_eval_step(model, tta="flip")
    batch = next(data.eval_batches(16))
    mirrored = {**batch, "image": batch["image"][:, :, ::-1]}
    plain = [float(make_eval_step(model)(model, one)["loss"]) for one in (batch, mirrored)]
    both = [float(step(model, one)["loss"]) for one in (batch, mirrored)]
    assert plain[0] != pytest.approx(plain[1], rel=1e-3)
    assert both[0] == pytest.approx(both[1], rel=1e-5)


def test_crops_are_parts_of_the_image() -> None:
    corner = jnp.zeros((1, 16, 16, 1)).at[0, 0, 0].set(1.0)
    found = variants(corner, "crops")
    assert len(found) == 12
    assert all(image.shape == corner.shape for image in found)
    assert sum(float(image.max()) > 0.5 for image in found) == 4  # the whole image, its upper left part, and mirrored


@pytest.mark.parametrize(
    ("loss", "probability"), [("softmax", jax.nn.softmax), ("sigmoid", jax.nn.sigmoid), ("mse", lambda x: x)]
)
def test_probabilities_are_averaged(loss, probability) -> None:
    logits = [jnp.asarray(np.random.default_rng(seed).normal(size=(4, 3)) * 5, jnp.float32) for seed in range(3)]
    mean = sum(probability(one) for one in logits) / 3
    np.testing.assert_allclose(probability(averaged(logits, loss)), mean, atol=1e-6)


@pytest.mark.parametrize("outputs", [1, 3])
def test_outputs_of_a_loss_of_ones_own_for_numbers_are_averaged_themselves(outputs: int) -> None:
    model = small_model(until="layer1", in_chans=1, num_classes=outputs)
    images = np.random.default_rng(0).standard_normal((4, 8, 8, 1), np.float32)
    numbers = np.random.default_rng(1).standard_normal((4, outputs), np.float32)
    step = make_eval_step(model, loss=lambda outputs, labels: abs(outputs - labels).mean(-1), tta="flip")
    found = step(model, {"image": images, "label": numbers})
    expected = (model(images) + model(images[:, :, ::-1])) / 2
    assert sorted(found) == ["answers", "count", "loss"]
    np.testing.assert_allclose(found["answers"], expected, rtol=1e-4, atol=1e-5)
    assert float(found["loss"]) == pytest.approx(float(abs(expected - numbers).mean()), rel=1e-4)


def test_prediction_takes_variants_too(model, tmp_path) -> None:
    from PIL import Image

    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)).save(path)
    found = {tta: jaxtl.predict(model, path, tta=tta)[0]["probability"] for tta in (None, "flip", "crops")}
    assert len(set(found.values())) == 3
    with pytest.raises(InputError, match="'flipp' is none of flip, crops; did you mean 'flip'"):
        jaxtl.predict(model, path, tta="flipp")
    with pytest.raises(InputError, match="use one of the two"):
        make_eval_step(model, after="layer1", tta="flip")
