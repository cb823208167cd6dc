"""What is told of a network's answers beside loss and accuracy; scikit-learn computes it."""

from __future__ import annotations

import numpy as np


def further_metrics(loss: str, labels: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """Numbers that a share of right answers hides, over the images of a split.

    Args:
        loss: the task's name. ``sigmoid``: several answers an image; ``mse``: numbers; any other: one class an image.
        labels: int (N,), or (N, K).
        answers: the likeliest classes, int (N,); of ``sigmoid`` the logits and of ``mse`` the outputs, (N, K).

    Returns:
        For classes ``balanced_accuracy``, the mean over the classes that have images of the share that was found, and
        ``macro_f1``, the mean F1 score of the classes that have images or were answered. For several answers
        ``macro_f1``, likewise of those that some image has or that were given, and ``mean_average_precision``, over
        those that some image has. For numbers ``mae``, the mean absolute error, and from two images on ``r2``, the
        share of the variance that is explained. Those of logits and outputs are NaN where one of these is not finite.

    >>> found = further_metrics("softmax", np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    >>> found["balanced_accuracy"], round(found["macro_f1"], 4)
    (0.5, 0.4286)
    """
    from sklearn import metrics

    if loss in ("mse", "sigmoid") and not (np.isfinite(labels).all() and np.isfinite(answers).all()):
        names = ("mae", "r2") if loss == "mse" else ("macro_f1", "mean_average_precision")
        return dict.fromkeys(names, float("nan"))
    if loss == "mse":
        labels, answers = labels.reshape(answers.shape), answers.astype(np.float64)  # whose sums overflow in float32
        found = {"mae": float(metrics.mean_absolute_error(labels, answers))}
        return found | ({"r2": float(metrics.r2_score(labels, answers))} if len(labels) > 1 else {})
    if loss == "sigmoid":
        labels = labels.reshape(answers.shape) > 0.5
        some = labels.any(0)
        precision = metrics.average_precision_score(labels[:, some], answers[:, some]) if some.any() else 0.0
        return {"macro_f1": _macro_f1(labels, answers > 0), "mean_average_precision": float(precision)}
    labels = labels.argmax(-1) if labels.ndim == 2 else labels
    recall = metrics.recall_score(labels, answers, labels=np.unique(labels), average="macro", zero_division=0)
    f1 = metrics.f1_score(labels, answers, average="macro", zero_division=0)
    return {"balanced_accuracy": float(recall), "macro_f1": float(f1)}


def _macro_f1(labels: np.ndarray, answers: np.ndarray) -> float:
    """Over the columns (N, K) with a yes; scikit-learn counts the others as 0, and of a single column the no too."""
    yes = labels.sum(0) + answers.sum(0)
    right = (labels & answers).sum(0)
    return float((2 * right[yes > 0] / yes[yes > 0]).mean()) if yes.any() else 0.0
