from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.errors import InputError
from jaxtl.recipe import MSE, Focal, Sigmoid, Softmax
from jaxtl.train.losses import balanced_weights, make_task, softmax_cross_entropy

WEIGHTS = (0.5, 2.0, 1.0, 3.5, 0.1)
IMAGES, CLASSES = 7, 5


def _batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits, classes, shares and answers."""
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.ones(CLASSES), IMAGES).astype(np.float32)
    answers = generator.integers(0, 2, (IMAGES, CLASSES)).astype(np.float32)
    logits = 3 * generator.standard_normal((IMAGES, CLASSES), np.float32)
    return logits, generator.integers(0, CLASSES, IMAGES), shares, answers


def _torch(*arrays: np.ndarray):
    torch = pytest.importorskip("torch")
    return torch, torch.nn.functional, *(torch.tensor(array) for array in arrays)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("soft", [False, True])
def test_softmax_is_torchs(soft: bool, smoothing: float, weights) -> None:
    logits, classes, shares, _ = _batch()
    labels = shares if soft else classes
    torch, functional, theirs, target = _torch(logits, labels)
    theirs.requires_grad_()
    weight = None if weights is None else torch.tensor(weights)
    expected = functional.cross_entropy(theirs, target, weight=weight, label_smoothing=smoothing)
    expected.backward()
    task = make_task(Softmax(), label_smoothing=smoothing, class_weights=weights)
    value, slope = jax.value_and_grad(lambda x: task.per_image(x, jnp.asarray(labels)).mean())(jnp.asarray(logits))
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(slope, theirs.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_sigmoid_is_torchs_with_targets_moved_towards_a_half(smoothing: float, weights) -> None:
    logits, _, _, answers = _batch()
    moved = answers + smoothing * (0.5 - answers)
    torch, functional, theirs, target = _torch(logits, moved)
    weight = None if weights is None else torch.tensor(weights)
    expected = functional.binary_cross_entropy_with_logits(theirs, target, pos_weight=weight, reduction="none").mean(1)
    task = make_task(Sigmoid(), label_smoothing=smoothing, class_weights=weights)
    ours = task.per_image(jnp.asarray(logits), jnp.asarray(answers))
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-5)


def test_mse_is_torchs() -> None:
    logits, _, shares, _ = _batch()
    _, functional, theirs, target = _torch(logits, shares)
    task = make_task(MSE())
    ours = task.per_image(jnp.asarray(logits), jnp.asarray(shares))
    assert float(ours.mean()) == pytest.approx(functional.mse_loss(theirs, target).item(), rel=1e-6)
    np.testing.assert_array_equal(task.score(jnp.asarray(logits), jnp.asarray(shares)), -ours)
    assert task.score_name == "negative_mse"


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_cross_entropy_times_what_is_missing_from_1(gamma: float) -> None:
    logits, classes, shares, _ = _batch()
    torch, _, theirs, target, share = _torch(logits, classes, shares)
    log_p = torch.log_softmax(theirs.double(), 1)
    picked = log_p.gather(1, target[:, None])[:, 0]
    task = make_task(Focal(gamma=gamma))
    expected = (-((1 - picked.exp()) ** gamma) * picked).numpy()
    np.testing.assert_allclose(task.per_image(jnp.asarray(logits), jnp.asarray(classes)), expected, rtol=1e-4)
    expected = (-share * (1 - log_p.exp()) ** gamma * log_p).sum(1).numpy()
    np.testing.assert_allclose(task.per_image(jnp.asarray(logits), jnp.asarray(shares)), expected, rtol=1e-4)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_with_gamma_0_is_softmax(weights) -> None:
    logits, classes, *_ = map(jnp.asarray, _batch())
    tasks = [make_task(loss, label_smoothing=0.1, class_weights=weights) for loss in (Focal(gamma=0.0), Softmax())]
    first, second = (task.per_image(logits, classes) for task in tasks)
    np.testing.assert_allclose(first, second, rtol=1e-6)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
@pytest.mark.parametrize("loss", [Softmax(), Focal(), Focal(gamma=0.3), Focal(gamma=1.0), Sigmoid()])
def test_gradients_of_extreme_logits_are_finite(loss, size: float) -> None:
    logits = size * jnp.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    classes = jnp.array([0, 0, 0])
    labels = jax.nn.one_hot(classes, 3) if isinstance(loss, Sigmoid) else classes
    for smoothing in (0.0, 0.1):
        task = make_task(loss, label_smoothing=smoothing)
        losses, slopes = task.per_image(logits, labels), jax.grad(lambda x: task.per_image(x, labels).sum())(logits)  # noqa: B023
        assert np.isfinite(losses).all()
        assert np.isfinite(slopes).all()
        assert smoothing or float(losses[0]) == pytest.approx(0, abs=1e-6 if not isinstance(loss, Sigmoid) else 0.24)
        assert np.abs(slopes[1]).max() > 0.1


def test_scores_are_right_answers() -> None:
    logits = jnp.array([[2.0, 1.0, -1.0], [0.5, 1.0, -1.0]])
    for loss in (Softmax(), Focal()):
        task = make_task(loss)
        assert task.score(logits, jnp.array([0, 0])).tolist() == [1.0, 0.0]
        assert task.score(logits, jnp.array([[0.5, 0.4, 0.1], [0.9, 0.0, 0.1]])).tolist() == [1.0, 0.0]
        assert task.score_name == "accuracy"
    answers = jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(make_task(Sigmoid()).score(logits, answers), [1, 0])
    np.testing.assert_allclose(make_task(Sigmoid()).score(logits, 1 - answers), [0, 1])
    np.testing.assert_allclose(make_task(Sigmoid()).score(logits[:1], jnp.array([[1.0, 0.0, 0.0]])), [2 / 3])


@pytest.mark.parametrize("loss", [Sigmoid(), MSE()])
def test_one_output_takes_one_number_an_image(loss) -> None:
    task, logits, labels = make_task(loss), jnp.array([[0.3], [-2.0]]), jnp.array([1, 0])
    np.testing.assert_array_equal(task.per_image(logits, labels), task.per_image(logits, labels[:, None] * 1.0))
    assert task.score(logits, labels).shape == (2,)


@pytest.mark.parametrize("loss", [Softmax(), Focal()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_label_that_is_no_class_has_no_loss_and_is_not_right(loss, weights) -> None:
    logits, classes, *_ = map(jnp.asarray, _batch())
    logits = logits.at[:, 0].set(50.0)  # the answer is 0
    task = make_task(loss, label_smoothing=0.1, class_weights=weights)
    for stranger in (CLASSES, -1, 200):
        labels = classes.at[2].set(stranger)
        losses = np.isnan(task.per_image(logits, labels))
        assert losses.tolist() == [number == 2 for number in range(IMAGES)]
        assert float(task.score(logits, labels)[2]) == 0
    np.testing.assert_array_equal(task.score(logits, classes), (classes == 0).astype(np.float32))


def test_the_default_loss_is_softmax() -> None:
    logits, classes, *_ = map(jnp.asarray, _batch())
    task = make_task(Softmax(), label_smoothing=0.1)
    np.testing.assert_array_equal(softmax_cross_entropy(0.1)(logits, classes), task.per_image(logits, classes))


def test_balanced_weights_are_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    labels = np.random.default_rng(0).choice(4, 300, p=[0.7, 0.2, 0.07, 0.03])
    expected = sklearn.compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(balanced_weights(labels, 4), expected)
    assert np.mean(np.take(balanced_weights(labels, 4), labels)) == pytest.approx(1)


def test_what_does_not_fit_is_said_in_one_sentence() -> None:
    logits, classes, shares, _ = map(jnp.asarray, _batch())
    with pytest.raises(InputError, match="no training image has the class 1, 3"):
        balanced_weights([0, 2, 0], 4)
    with pytest.raises(InputError, match="4 is no class; there are 4"):
        balanced_weights([0, 4], 4)
    with pytest.raises(InputError, match="no meaning for the loss 'mse'"):
        make_task(MSE(), class_weights=(1.0, 2.0))
    with pytest.raises(InputError, match="above 0"):
        make_task(Softmax(), class_weights=(1.0, -2.0))
    with pytest.raises(InputError, match=r"not 1\.0"):
        make_task(Softmax(), label_smoothing=1.0)
    for loss in (Softmax(), Sigmoid()):
        with pytest.raises(InputError, match="class_weights has 2 numbers and the network 5 classes"):
            make_task(loss, class_weights=(1.0, 2.0)).per_image(logits, shares)
    with pytest.raises(InputError, match="whole number an image"):
        make_task(Softmax()).per_image(logits, classes * 1.0)
    with pytest.raises(InputError, match="use the loss 'sigmoid'"):
        make_task(Focal()).score(logits, shares[:, :3])
    for loss in (Sigmoid(), MSE()):
        with pytest.raises(InputError, match="use the loss 'softmax'"):
            make_task(loss).per_image(logits, classes)
