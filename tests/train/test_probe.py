from __future__ import annotations

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from small_models import bits, small_model

import jaxtl
from jaxtl.data.dataset import Data
from jaxtl.data.sources import Subset
from jaxtl.errors import InputError
from jaxtl.train import fitted, logistic
from jaxtl.train import probe as module
from jaxtl.train.features import extract
from jaxtl.train.probe import Probe, fit_probe, linear_probe, with_probe


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """300 digits: 64 pixels, some of which never change, shifted and scaled."""
    images, labels = load_digits(return_X_y=True)
    return (5 + 0.3 * images[:300]).astype(np.float32), labels[:300]


def _centred(kernel: np.ndarray) -> np.ndarray:
    return kernel - kernel.mean(1, keepdims=True)


def test_products_are_float32_on_any_device(digits, monkeypatch) -> None:
    used = []
    untouched = logistic._solve

    def seen(*arguments):
        used.append(jax.config.jax_default_matmul_precision)
        return untouched(*arguments)

    monkeypatch.setattr(logistic, "_solve", seen)
    fit_probe(*digits, 10, val=digits, strengths=[1.0])
    assert set(used) == {"highest"}


@pytest.mark.parametrize("strength", [1e-3, 1e-2, 1.0])
def test_the_fit_is_scikit_learns(digits, strength) -> None:
    features, labels = digits
    mean, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale[scale == 0] = 1
    standard = (features - mean) / scale
    reference = LogisticRegression(C=1 / (strength * len(labels)), tol=1e-7, max_iter=2000).fit(standard, labels)
    probe = fit_probe(features, labels, 10, val=(features, labels), strengths=[strength])
    kernel = probe.kernel * scale[:, None]
    np.testing.assert_allclose(_centred(kernel), _centred(reference.coef_.T), atol=1e-3)
    logits = reference.decision_function(standard)
    np.testing.assert_allclose(_centred(probe(features)), _centred(logits), atol=5e-3)
    assert probe.val_accuracy == (logits.argmax(1) == labels).mean()


def test_label_smoothing_is_torchs(digits) -> None:
    import torch

    features, labels = digits[0][:120, 20:40], digits[1][:120]
    standard = (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
    x, y = torch.tensor(standard, dtype=torch.float64), torch.tensor(labels)
    kernel = torch.zeros(20, 10, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([kernel, bias], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        cross_entropy = torch.nn.functional.cross_entropy(x @ kernel + bias, y, label_smoothing=0.1)
        value = cross_entropy + 0.5 * 0.01 * (kernel**2).sum()
        value.backward()
        return value

    solver.step(loss)
    probe = fit_probe(features, labels, 10, val=(features, labels), strengths=[0.01], label_smoothing=0.1)
    np.testing.assert_allclose(probe.kernel * features.std(0)[:, None], kernel.detach().numpy(), atol=1e-3)
    expected = (x @ kernel + bias).detach().numpy()
    np.testing.assert_allclose(_centred(probe(features)), _centred(expected), atol=2e-3)


@pytest.mark.parametrize("balanced", [False, True])
def test_class_weights_and_balanced_images_are_torchs_weights(digits, balanced) -> None:
    import torch

    features, labels = digits[0][:120, 20:40], np.concatenate([np.zeros(70, int), digits[1][70:120] % 3])
    weights = [1.0, 6.0, 2.5]
    standard = (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
    x, y = torch.tensor(standard, dtype=torch.float64), torch.tensor(labels)
    counting = torch.tensor(1 / np.bincount(labels)[labels] if balanced else np.ones(120))
    kernel = torch.zeros(20, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([kernel, bias], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")
    smoothed = 0.9 * torch.nn.functional.one_hot(y) + 0.1 / 3
    total = (counting * (smoothed * torch.tensor(weights)).sum(1)).sum()

    def loss() -> torch.Tensor:
        solver.zero_grad()
        each = torch.nn.functional.cross_entropy(
            x @ kernel + bias, y, torch.tensor(weights, dtype=torch.float64), reduction="none", label_smoothing=0.1
        )
        value = (counting * each).sum() / total + 0.5 * 0.01 * (kernel**2).sum()
        value.backward()
        return value

    solver.step(loss)
    settings = {"label_smoothing": 0.1, "class_weights": weights, "balanced": balanced}
    probe = fit_probe(features, labels, 3, val=(features, labels), strengths=[0.01], **settings)
    np.testing.assert_allclose(probe.kernel * features.std(0)[:, None], kernel.detach().numpy(), atol=1e-3)
    plain = fit_probe(features, labels, 3, val=(features, labels), strengths=[0.01], label_smoothing=0.1)
    assert not np.allclose(probe.kernel, plain.kernel, atol=1e-2)
    right = probe(features).argmax(1) == labels
    images = np.array(weights)[labels] * counting.numpy()
    assert probe.val_accuracy == pytest.approx((right * images).sum() / images.sum())


def test_more_features_than_images_are_no_hindrance(digits) -> None:
    features, labels = digits[0][:40], digits[1][:40]
    standard = (features - features.mean(0)) / np.where(features.std(0) == 0, 1, features.std(0))
    reference = LogisticRegression(C=1 / (0.01 * 40), tol=1e-7, max_iter=2000).fit(standard, labels)
    probe = fit_probe(features, labels, 10, val=(features, labels), strengths=[0.01])
    np.testing.assert_allclose(_centred(probe(features)), _centred(reference.decision_function(standard)), atol=5e-3)


def test_the_strength_is_the_best_on_the_images_given_for_it(digits) -> None:
    features, labels = digits
    train, val = (features[:100], labels[:100]), (features[100:], labels[100:])
    strengths = (1e-3, 1e-1, 30.0)
    probe = fit_probe(*train, 10, val=val, strengths=strengths)
    assert list(probe.accuracies) == list(strengths)
    assert probe.accuracies[probe.strength] == max(probe.accuracies.values()) == probe.val_accuracy
    assert probe.val_accuracy == (probe(val[0]).argmax(1) == val[1]).mean()
    alone = fit_probe(*train, 10, val=val, strengths=[probe.strength])
    np.testing.assert_allclose(probe(train[0]), alone(train[0]), atol=5e-3)
    assert len(set(probe.accuracies.values())) > 1


def test_without_images_for_it_a_fifth_of_each_class_is_held_out_for_it(digits) -> None:
    features, labels = digits
    held = module._held_out(labels, seed=3)
    for label in range(10):
        assert held[labels == label].sum() == round(0.2 * (labels == label).sum())
    strengths = (1e-3, 1.0)
    probe = fit_probe(features, labels, 10, strengths=strengths, seed=3)
    chosen = fit_probe(features[~held], labels[~held], 10, val=(features[held], labels[held]), strengths=strengths)
    assert (probe.strength, probe.accuracies) == (chosen.strength, chosen.accuracies)
    whole = fit_probe(features, labels, 10, val=(features, labels), strengths=[probe.strength])
    np.testing.assert_allclose(probe(features), whole(features), atol=5e-3)
    assert not np.allclose(probe(features), chosen(features), atol=0.1)
    assert (module._held_out(labels, seed=4) != held).any()


def test_one_image_a_class(digits) -> None:
    features, labels = digits
    first = [int(np.flatnonzero(labels == label)[0]) for label in range(10)]
    probe = fit_probe(features[first], labels[first], 10, strengths=[0.1, 1.0])
    assert (probe.strength, probe.accuracies, probe.val_accuracy) == (1.0, {}, None)
    assert (probe(features[first]).argmax(1) == labels[first]).all()


def test_features_that_do_not_change_are_ignored() -> None:
    features = np.ones((6, 3), np.float32)
    features[:, 1] = [0, 0, 0, 1, 1, 1]
    probe = fit_probe(features, np.array([0, 0, 0, 1, 1, 1]), 2)
    assert not probe.kernel[[0, 2]].any()
    assert probe(features).argmax(1).tolist() == [0, 0, 0, 1, 1, 1]


def test_what_cannot_be_fitted(digits) -> None:
    features, labels = digits
    with pytest.raises(InputError, match="needs a training image of each class, and there is none of '10'"):
        fit_probe(features, labels, 11)
    with pytest.raises(InputError, match=r"labels of the training features go from 0 to 9; 5 classes have 0 to 4"):
        fit_probe(features, labels, 5)
    with pytest.raises(InputError, match=r"got \(300, 64\) and int64 \(299,\)"):
        fit_probe(features, labels[1:], 10)
    broken = features.copy()
    broken[7, 3] = np.nan
    with pytest.raises(InputError, match="not finite in row 7"):
        fit_probe(broken, labels, 10)
    with pytest.raises(InputError, match="class_weights must be 10 numbers above 0"):
        fit_probe(features, labels, 10, class_weights=[1.0, 2.0])
    with pytest.raises(InputError, match="strengths must be finite numbers above 0"):
        fit_probe(features, labels, 10, strengths=[0.0, 1.0])
    with pytest.raises(InputError, match="to select on have 63 columns, not 64"):
        fit_probe(features, labels, 10, val=(features[:, 1:], labels))


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    model = jaxtl.load("cifar_resnet20.letters", num_classes=10)
    return model.replace(preprocess=model.preprocess.replace(size=16))


@pytest.fixture(scope="module")
def data(model):
    return jaxtl.open_data("digits", model, samples_per_class=5, val_fraction=0.06)


def test_the_probe_becomes_the_head(model, data) -> None:
    probed, probe = linear_probe(model, data)
    features = extract(model, data, "val")
    correct = int((probe(features["head"]).argmax(1) == features.labels).sum())
    assert jaxtl.evaluate(probed, data)["correct"] == correct
    assert correct > 0.7 * len(features)
    assert probed.classes == data.classes
    before, after = bits(model.params), bits(probed.params)
    assert [path for path in before if before[path] != after[path]] == ["fc.bias", "fc.kernel"]
    assert list(before) == list(after)


def test_validation_images_play_no_part(model, data) -> None:
    probed, _ = linear_probe(model, data)
    other = jaxtl.open_data("digits", model, samples_per_class=5, val_fraction=0.06)
    other.val = other.train
    again, _ = linear_probe(model, other)
    np.testing.assert_array_equal(probed.params["fc"]["kernel"], again.params["fc"]["kernel"])


@pytest.mark.parametrize("recipe", [{"class_weights": "balanced", "label_smoothing": 0.2}, {}], ids=str)
def test_a_recipe_hands_its_weights_on(model, data, recipe) -> None:
    uneven = _uneven(data, sampling="shuffled" if recipe else "balanced")
    tuned = jaxtl.fine_tune(model, uneven, strategy="linear-probe", progress=False, **recipe).model
    features = extract(model, uneven)
    expected, plain = (
        fit_probe(features["head"], features.labels, 10, balanced=balanced) for balanced in (True, False)
    )
    np.testing.assert_allclose(tuned.params["fc"]["kernel"], expected.kernel, atol=1e-4)
    assert not np.allclose(tuned.params["fc"]["kernel"], plain.kernel, atol=1e-2)


def test_a_class_without_images_is_named_before_any_features(model, data, monkeypatch) -> None:
    lacking = _uneven(data, without=3)
    monkeypatch.setattr(module, "extract", None)
    monkeypatch.setattr(fitted, "recalibrate", None)
    message = "needs a training image of each class, and there is none of '3': add some"
    with pytest.raises(InputError, match=message):
        jaxtl.fine_tune(model, lacking, strategy="lp-ft", recalibrate=True, progress=False)
    with pytest.raises(InputError, match=message):
        linear_probe(model, lacking)


def _uneven(data: Data, *, without: int | None = None, sampling: str = "shuffled") -> Data:
    """One training image fewer of each class from the fifth on, to one of the last; or none of a class."""
    labels = data.train.labels
    keep = np.concatenate([np.flatnonzero(labels == k)[: min(5, 10 - k)] for k in range(10) if k != without])
    return Data(
        name="uneven",
        classes=data.classes,
        train=Subset(data.train, keep),
        val=data.val,
        preprocess=data.preprocess,
        augment=data.augment,
        split="by hand",
        sampling=sampling,
    )


def test_heads_that_are_not_one_linear_layer(data) -> None:
    probe = Probe(np.ones((64, 3), np.float32), np.zeros(3, np.float32), 1.0, {}, None)
    with pytest.raises(InputError, match=r"needs a head of one linear layer, and that of .* has no parameter"):
        with_probe(small_model(num_classes=0), probe)
    with pytest.raises(InputError, match=r"head of .* is 64x4 and the probe 64x3"):
        with_probe(small_model(), probe)


def test_a_head_of_several_layers(model, data) -> None:
    deep = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, head=(16,))
    deep = deep.replace(preprocess=data.preprocess)
    with pytest.raises(InputError, match="needs a head of one linear layer, and that of"):
        linear_probe(deep, data)
