"""The linear probe: the head that fits fixed features best, by multinomial logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxtl.data.dataset import Data
from jaxtl.data.problems import shown
from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.notices import say
from jaxtl.train.features import HEAD, extract
from jaxtl.train.fits import check_fits
from jaxtl.train.logistic import fit_all
from jaxtl.train.losses import balanced_weights
from jaxtl.trees import flatten, unflatten

STRENGTHS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
HELD_OUT = 0.2

Labelled = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier of features, and how its regularisation was chosen.

    Attributes:
        kernel: float32 (D, K), for features as they were given.
        bias: float32 (K,).
        strength: of the L2 penalty that was chosen.
        accuracies: accuracy (0 to 1) on the selection images by strength, weighted as the fit was; empty where there
            were none to select on.
        val_accuracy: the chosen strength's; None where there were no images to select on.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float
    accuracies: dict[float, float]
    val_accuracy: float | None

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Logits (N, K) of features (N, D)."""
        return np.asarray(features) @ self.kernel + self.bias


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    val: Labelled | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    balanced: bool = False,
) -> Probe:
    """Fits a linear classifier to features, for several strengths of regularisation at once, and keeps the best.

    Minimised is the mean cross entropy plus ``strength / 2`` times the squared kernel of the features after they were
    brought to mean 0 and standard deviation 1; the bias is free. It is scikit-learn's ``LogisticRegression`` with
    ``C = 1 / (N * strength)``. The most accurate strength wins, of several the one with the lowest cross entropy.
    With weights the mean is the weighted one, and so is the accuracy.

    Args:
        features: float (N, D).
        labels: int (N,), from 0 to ``num_classes - 1``; every class occurs.
        num_classes: K.
        val: features (M, D) and labels (M,) to select the strength on. Default: a fifth of each class is held out for
            it, and with the strength found everything is fitted again.
        strengths: of the penalty, all above 0.
        seed: of that fifth.
        label_smoothing: as in training, from 0 up to 1.
        class_weights: as in training, K numbers above 0.
        balanced: images count as if all classes had as many.

    Raises:
        InputError: arrays that do not fit together, features that are not finite, classes without an image.

    >>> features = np.array([[0.0, 1.0], [0.1, 1.2], [3.0, 1.1], [3.2, 0.9]])
    >>> probe = fit_probe(features, np.array([0, 0, 1, 1]), 2)
    >>> probe(features).argmax(1).tolist(), probe.kernel.shape
    ([0, 0, 1, 1], (2, 2))
    """
    features, labels = _checked(features, labels, num_classes, "the training features")
    wanted = _checked_strengths(strengths)
    check_every_class(labels, [str(label) for label in range(num_classes)])
    if not 0 <= label_smoothing < 1:
        raise InputError(f"label_smoothing must be from 0 up to 1, not {label_smoothing:g}")
    weights = np.ones(num_classes) if class_weights is None else np.asarray(class_weights, np.float64)
    if weights.shape != (num_classes,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise InputError(f"class_weights must be {num_classes} numbers above 0, one a class, not {class_weights}")
    counting = np.asarray(balanced_weights(labels, num_classes)) if balanced else np.ones(num_classes)
    nobody = np.zeros(len(labels), bool)
    left_out = nobody
    if val is None:
        left_out = _held_out(labels, seed)
        chosen_on: Labelled = (features[left_out], labels[left_out])
    else:
        chosen_on = _checked(*val, num_classes, "the features to select on")
        if chosen_on[0].shape[1] != features.shape[1]:
            raise InputError(f"features to select on have {chosen_on[0].shape[1]} columns, not {features.shape[1]}")
    kernels, biases = fit_all(features, labels, wanted, label_smoothing, weights, counting, left_out)
    if len(chosen_on[1]):
        images = (weights * counting)[chosen_on[1]]
        scores = [_score(chosen_on, images, kernel, bias) for kernel, bias in zip(kernels, biases, strict=True)]
        best = max(range(len(wanted)), key=lambda index: (scores[index], wanted[index]))
    else:
        scores, best = [], len(wanted) - 1
        say(f"one image a class is too few to choose the probe's regularisation; it is the strongest, {wanted[best]:g}")
    if left_out.any():
        path = [max(strength, wanted[best]) for strength in wanted]
        kernels, biases = fit_all(features, labels, path, label_smoothing, weights, counting, nobody)
    return Probe(
        kernel=kernels[best].astype(np.float32),
        bias=biases[best].astype(np.float32),
        strength=wanted[best],
        accuracies={strength: accuracy for strength, (accuracy, _) in zip(wanted, scores, strict=bool(scores))},
        val_accuracy=scores[best][0] if scores else None,
    )


def with_probe(model: Model, probe: Probe) -> Model:
    """The model with the probe as its head.

    Raises:
        InputError: the head is not one linear layer of the probe's shape.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=3)
    >>> probe = Probe(np.ones((64, 3), np.float32), np.zeros(3, np.float32), 1.0, {}, None)
    >>> float(with_probe(model, probe).params["fc"]["kernel"].sum())
    192.0
    """
    kernel, bias = check_head(model)
    flat = flatten(model.params)
    shape = flat[kernel].shape
    if shape[-2:] != probe.kernel.shape:
        raise InputError(
            f"the head of {model.name} is {'x'.join(map(str, shape[-2:]))} and the probe "
            f"{'x'.join(map(str, probe.kernel.shape))}; fit it to this model's features and classes"
        )
    fitted = {kernel: jnp.asarray(probe.kernel).reshape(shape), bias: jnp.asarray(probe.bias)}
    return model.replace(params=unflatten({**flat, **fitted}))


def check_head(model: Model) -> tuple[str, str]:
    """Paths of the head's kernel and bias, where these are all it has; a 1x1 convolution's kernel is a matrix too.

    Raises:
        InputError: it has other parameters.

    >>> import jaxtl
    >>> check_head(jaxtl.load("cifar_resnet20", weights=None, num_classes=3))
    ('fc.kernel', 'fc.bias')
    """
    head = model.graph.head
    paths = [path for path in model.graph.params if model.graph.in_head(path)]
    expected = (f"{head}.kernel", f"{head}.bias")
    if sorted(paths) != sorted(expected) or model.graph.params[expected[0]].shape[:-2] not in ((), (1, 1)):
        has = ", ".join(paths) if paths else "no parameter"
        raise InputError(
            f"a linear probe needs a head of one linear layer, and that of {model.name} has {has}; "
            "load the model with num_classes=N and without the option head"
        )
    return expected


def check_every_class(labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raises ``InputError`` where labels (N,) are classes and one of them has no image to fit a probe to.

    >>> check_every_class(np.array([0, 2, 2]), ["ant", "bee", "wasp"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxtl.errors.InputError: a linear probe needs a training image of each class, and there is none of 'bee': ...
    """
    if labels.ndim != 1:
        return
    present = set(np.unique(labels).tolist())
    without = [repr(name) for label, name in enumerate(classes) if label not in present]
    if without:
        raise InputError(
            f"a linear probe needs a training image of each class, and there is none of {shown(without)}: "
            "add some, or train the head in steps, as the strategy 'features' does"
        )


def linear_probe(
    model: Model,
    data: Data,
    *,
    batch_size: int = 64,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> tuple[Model, Probe]:
    """Replaces a model's head by the one that fits the features of the training images best; the body stays as it is.

    The regularisation is chosen on a fifth of the *training* images: validation images play no part. It is the first
    half of LP-FT (Kumar et al., 2022, "Fine-Tuning can Distort Pretrained Features"): a head that fits keeps the
    gradients of the first steps from distorting the body. Training images are seen with evaluation preprocessing, and
    where the data's sampling is balanced they count as if all classes had as many.

    Args:
        model: with as many classes as the data and a head of one linear layer.
        data: opened with this model, with an image of each class to train on.
        batch_size: images at once.
        strengths: as for ``fit_probe``, like ``seed``, ``label_smoothing`` and ``class_weights``.

    Raises:
        InputError: the model does not fit the data, its head is not one linear layer, or a class has no image.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20.letters", num_classes=10)
    >>> data = jaxtl.open_data("digits", model, samples_per_class=5)
    >>> probed, probe = linear_probe(model, data)
    >>> jaxtl.evaluate(probed, data)["accuracy"] > jaxtl.evaluate(model, data)["accuracy"]
    True
    """
    check_fits(model, data)
    check_head(model)
    check_every_class(data.train.labels, data.classes)
    features = extract(model, data, batch_size=batch_size)
    probe = fit_probe(
        features[HEAD],
        features.labels,
        model.num_classes,
        strengths=strengths,
        seed=seed,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        balanced=data.sampling == "balanced",
    )
    return with_probe(model, probe).replace(classes=data.classes), probe


def _checked(features: Any, labels: Any, num_classes: int, what: str) -> Labelled:
    features, labels = np.asarray(features, np.float32), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{what} must be an array (N, D) with whole-number labels (N,); "
            f"got {features.shape} and {labels.dtype} {labels.shape}"
        )
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(1)))
        raise InputError(f"{what} are not finite in row {row}; look at that image, or at the weights")
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise InputError(
            f"labels of {what} go from {labels.min()} to {labels.max()}; {num_classes} classes have 0 to "
            f"{num_classes - 1}"
        )
    return features, labels.astype(np.int32)


def _checked_strengths(strengths: Sequence[float]) -> tuple[float, ...]:
    wanted = tuple(sorted({float(strength) for strength in strengths}))
    if not wanted or not all(np.isfinite(wanted)) or wanted[0] <= 0:
        raise InputError(f"strengths must be finite numbers above 0, not {tuple(strengths)}")
    return wanted


def _held_out(labels: np.ndarray, seed: int) -> np.ndarray:
    """True for a fifth of each class, at least one image and never all of them."""
    generator = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        held[members[: min(max(1, round(HELD_OUT * len(members))), len(members) - 1)]] = True
    return held


def _score(given: Labelled, weights: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> tuple[float, float]:
    """Accuracy and the negative mean cross entropy of weighted images."""
    features, labels = given
    logits = features.astype(np.float64) @ kernel + bias
    shifted = logits - logits.max(1, keepdims=True)
    cross_entropy = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
    right = logits.argmax(1) == labels
    return float(np.average(right, weights=weights)), -float(np.average(cross_entropy, weights=weights))
