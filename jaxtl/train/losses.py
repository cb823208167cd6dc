"""What a network is trained for: losses per image and the score that says how good an answer is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtl.errors import InputError
from jaxtl.recipe import MSE, AnyLoss, Focal, Sigmoid, Softmax

PerImage = Callable[[jax.Array, jax.Array], jax.Array]
Score = Callable[[jax.Array, jax.Array], jax.Array | None]


@dataclass(frozen=True)
class Task:
    """A loss with its score; both take logits (B, K) and labels and give one number an image.

    Attributes:
        name: of the loss, as in a recipe.
        per_image: ``per_image(logits, labels) -> (B,)``, to be averaged over the batch.
        score: ``score(logits, labels) -> (B,)``; higher is better. None for labels that it says nothing about.
        score_name: "accuracy", or "negative_mse".
        class_weights: that the loss was made with.
        assumed: nobody named the loss. Labels (B, K) may then be shares of classes as well as several answers or
            numbers, and are refused.
    """

    name: str
    per_image: PerImage
    score: Score
    score_name: str
    class_weights: tuple[float, ...] | None = None
    assumed: bool = False

    def check_labels(self, labels: jax.Array) -> None:
        """Raises ``InputError`` for labels (B, K) where softmax was only assumed."""
        if self.assumed and self.name == "softmax" and jnp.ndim(labels) == 2:
            raise InputError(
                f"labels {_described(labels)}, and no loss is named that says what they are: for any number of classes "
                "an image give loss='sigmoid', for numbers loss='mse', for shares of the classes loss='softmax'"
            )

    def losses(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """``per_image``, where it gives one number an image.

        Raises:
            InputError: it gives anything else, such as the mean over the batch or a number for each output.
        """
        found = self.per_image(logits, labels)
        if jnp.shape(found) != logits.shape[:1]:
            raise InputError(
                f"the loss gives {_described(jnp.asarray(found))} for logits {_described(logits)} and labels "
                f"{_described(labels)}; it must give one number an image, {logits.shape[:1]}, of which the step takes "
                "the mean"
            )
        return found

    def shares(self, labels: jax.Array) -> jax.Array | None:
        """What the loss of each part of a batch counts in the whole batch's, for the parts' labels (parts, images);
        None where all count the same. A batch with class weights is divided by its labels' mean weight.

        >>> make_task(Softmax(), class_weights=[1, 3]).shares(jnp.array([[0, 0], [1, 1]])).tolist()
        [0.5, 1.5]
        """
        if self.class_weights is None or self.name not in ("softmax", "focal") or labels.ndim > 2:
            return None
        means = jnp.asarray(self.class_weights, jnp.float32)[labels].mean(1)
        return means / means.mean()


def make_task(loss: AnyLoss, *, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> Task:
    """The task of a recipe's loss.

    ``softmax``: torch's ``CrossEntropyLoss``. Labels are classes, int (B,), or shares (B, K), as mixup makes them; the
    loss of a label that is no class is NaN, and it is never answered right.
    Smoothing s moves s/K of the target to every class (Szegedy 2016). With class weights torch divides the sum of a
    batch's losses by the sum of its labels' weights, but with shares by the batch's size; the losses are scaled such
    that their mean over the batch is torch's value. For this reason, and because smoothing raises the loss of good
    answers, validate with ``make_task(loss)`` alone.

    ``focal``: each class's term times (1 - p)^gamma (Lin et al. 2017, arXiv:1708.02002), in the form for one class an
    image: p is the softmax's. torchvision's ``sigmoid_focal_loss`` is the form for yes or no. Labels, smoothing and
    weights as with ``softmax``, which it is for ``gamma=0``.

    ``sigmoid``: torch's ``BCEWithLogitsLoss``, mean over the classes. Labels are 0 to 1, (B, K). Smoothing s moves a
    target t to t(1 - s) + s/2. The class weights are its ``pos_weight``: what a yes counts, where a no counts 1.

    ``mse``: the mean squared error over the outputs. Labels are numbers, (B, K).

    With one output (K = 1) ``sigmoid`` and ``mse`` also take labels (B,).

    The scores: whether the likeliest class is the label's likeliest (``softmax``, ``focal``); the share of right
    answers, a yes from a logit above 0 (``sigmoid``); the negative squared error (``mse``).

    Raises:
        InputError: settings that the loss has no use for or that are out of range; and, when the task is first used,
            labels or weights that do not fit the logits.

    >>> task = make_task(Softmax())
    >>> task.per_image(jnp.zeros((1, 4)), jnp.array([2])).round(3).tolist(), task.score_name
    ([1.3860000371932983], 'accuracy')
    >>> make_task(MSE()).score(jnp.array([[3.0], [1.0]]), jnp.array([1.0, 1.0])).tolist()
    [-4.0, -0.0]
    """
    if not 0 <= label_smoothing < 1:
        raise InputError(f"label_smoothing is a part of the target, from 0 to below 1, not {label_smoothing}")
    if isinstance(loss, MSE) and (label_smoothing or class_weights is not None):
        raise InputError("label_smoothing and class_weights have no meaning for the loss 'mse'; remove them")
    weights = _checked(class_weights)
    known = None if weights is None else tuple(weights.tolist())
    match loss:
        case Softmax():
            per_image = _cross_entropy(label_smoothing, weights)
            return Task(loss.name, per_image, _likeliest_is_right, "accuracy", known)
        case Focal():
            per_image = _cross_entropy(label_smoothing, weights, loss.gamma)
            return Task(loss.name, per_image, _likeliest_is_right, "accuracy", known)
        case Sigmoid():
            per_image = _binary_cross_entropy(label_smoothing, weights)
            return Task(loss.name, per_image, _answers_right, "accuracy", known)
        case MSE():
            return Task(
                loss.name, _squared_error, lambda logits, labels: -_squared_error(logits, labels), "negative_mse"
            )


def own_task(per_image: PerImage) -> Task:
    """The task of a loss of one's own, ``per_image(logits, labels) -> (B,)``, which may take any labels.

    Its score is accuracy where the labels are classes, int (B,), and else there is none.

    >>> task = own_task(lambda logits, labels: (logits[:, 0] - labels) ** 2)
    >>> task.losses(jnp.zeros((1, 2)), jnp.array([3.0])).tolist(), task.score(jnp.zeros((1, 2)), jnp.array([3.0]))
    ([9.0], None)
    """

    def score(logits: jax.Array, labels: jax.Array) -> jax.Array | None:
        fits = logits.shape[-1] > 1 and _are_classes(logits, labels)
        return _likeliest_is_right(logits, labels) if fits else None

    return Task("custom", per_image, score, "accuracy")


def softmax_cross_entropy(label_smoothing: float = 0.0) -> PerImage:
    """Cross entropy per image of logits (B, K) and integer labels (B,) or shares (B, K).

    With smoothing s the target is 1 - s + s/K on the label and s/K elsewhere (Szegedy 2016), as in torch.

    >>> loss = softmax_cross_entropy()
    >>> loss(jnp.zeros((1, 4)), jnp.array([2])).round(3).tolist()
    [1.3860000371932983]
    """
    return _cross_entropy(label_smoothing, None)


def class_shares(labels: jax.Array, num_classes: int, dtype: Any = jnp.float32) -> jax.Array:
    """Labels (B,) as shares (B, K) that are 1 for the label's class. What is no class is NaN, and so is every loss of
    it, so that no step goes by it.

    >>> class_shares(jnp.array([1, 2]), 2).tolist()
    [[0.0, 1.0], [nan, nan]]
    """
    known = (labels >= 0) & (labels < num_classes)
    return jnp.where(known[:, None], jax.nn.one_hot(labels, num_classes, dtype=dtype), jnp.nan)


def no_classes(labels: Any, num_classes: int) -> list[int]:
    """Those of the labels (B,) that are none of the classes 0 to K - 1, each once; of labels of another form none.

    >>> no_classes([0, 4, -1, 4], 4), no_classes([[0.0, 7.0]], 2)
    ([-1, 4], [])
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return []
    return np.unique(labels[(labels < 0) | (labels >= num_classes)]).tolist()


def balanced_weights(labels: Sequence[int] | np.ndarray, num_classes: int) -> tuple[float, ...]:
    """Class weights inverse to the classes' shares of labels (N,): N / (K * count), scikit-learn's "balanced".

    Raises:
        InputError: a class without images, or a label that is no class.

    >>> balanced_weights([0, 0, 0, 1], 2)
    (0.6666666666666666, 2.0)
    """
    labels = np.asarray(labels)
    if wrong := no_classes(labels, num_classes):
        raise InputError(f"balanced class weights: {wrong[0]} is no class; there are {num_classes}, from 0")
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        missing = np.flatnonzero(counts == 0).tolist()
        raise InputError(
            f"balanced class weights: no training image has the class {', '.join(map(str, missing))}; "
            "add images of it or give the weights as numbers"
        )
    return tuple((labels.size / (num_classes * counts)).tolist())


def _checked(class_weights: Sequence[float] | None) -> np.ndarray | None:
    if class_weights is None:
        return None
    weights = np.asarray(class_weights, np.float64)
    if weights.ndim != 1 or not (np.isfinite(weights) & (weights > 0)).all():
        raise InputError(f"class_weights must be one number above 0 for each class, not {class_weights}")
    return weights


def _fitting(weights: np.ndarray, logits: jax.Array) -> jax.Array:
    if len(weights) != logits.shape[-1]:
        raise InputError(f"class_weights has {len(weights)} numbers and the network {logits.shape[-1]} classes")
    return jnp.asarray(weights, logits.dtype)


def _cross_entropy(label_smoothing: float, class_weights: np.ndarray | None, gamma: float = 0.0) -> PerImage:
    def per_image(logits: jax.Array, labels: jax.Array) -> jax.Array:
        targets = optax.smooth_labels(_shares(logits, labels), label_smoothing)
        log_p = jax.nn.log_softmax(logits)
        terms = -targets * log_p
        if gamma:
            # Below the resolution of p the slope of a power under 1 has no bound.
            terms *= jnp.maximum(-jnp.expm1(log_p), jnp.finfo(logits.dtype).eps) ** gamma
        if class_weights is None:
            return terms.sum(-1)
        weights = _fitting(class_weights, logits)
        losses = (terms * weights).sum(-1)
        return losses if labels.ndim == 2 else losses / weights[labels].mean()

    return per_image


def _binary_cross_entropy(label_smoothing: float, class_weights: np.ndarray | None) -> PerImage:
    def per_image(logits: jax.Array, labels: jax.Array) -> jax.Array:
        targets = _numbers("sigmoid", logits, labels)
        targets = targets * (1 - label_smoothing) + label_smoothing / 2
        yes = 1.0 if class_weights is None else _fitting(class_weights, logits)
        losses = yes * targets * jax.nn.softplus(-logits) + (1 - targets) * jax.nn.softplus(logits)
        return losses.mean(-1)

    return per_image


def _squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.square(logits - _numbers("mse", logits, labels)).mean(-1)


def _likeliest_is_right(logits: jax.Array, labels: jax.Array) -> jax.Array:
    likeliest = labels if _are_classes(logits, labels) else _shares(logits, labels).argmax(-1)
    return (logits.argmax(-1) == likeliest).astype(jnp.float32)


def _answers_right(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return ((logits > 0) == (_numbers("sigmoid", logits, labels) > 0.5)).mean(-1, dtype=jnp.float32)


def _shares(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of each class (B, K)."""
    if logits.shape[-1] == 1:
        raise InputError(
            f"labels {_described(labels)} for logits {_described(logits)}: a softmax of one output is always 1; for a "
            "number give the loss 'mse', for yes or no the loss 'sigmoid'"
        )
    if labels.shape == logits.shape:
        return labels.astype(logits.dtype)
    if not _are_classes(logits, labels):
        raise InputError(
            f"labels {_described(labels)} for logits {_described(logits)}: this loss takes one whole number an image, "
            "(B,), or a share for each class, (B, K); for many classes an image use the loss 'sigmoid', for numbers "
            "'mse'"
        )
    return class_shares(labels, logits.shape[-1], logits.dtype)


def _are_classes(logits: jax.Array, labels: jax.Array) -> bool:
    return labels.shape == logits.shape[:1] and jnp.issubdtype(labels.dtype, jnp.integer)


def _numbers(name: str, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """A number for each output (B, K)."""
    if labels.ndim == 1 and logits.shape[-1] == 1:
        labels = labels[:, None]
    if labels.shape != logits.shape:
        raise InputError(
            f"labels {_described(labels)} for logits {_described(logits)}: the loss {name!r} takes a number for each "
            "output, (B, K); for one class an image use the loss 'softmax'"
        )
    return labels.astype(logits.dtype)


def _described(array: Any) -> str:
    return f"{array.dtype} {tuple(array.shape)}"
