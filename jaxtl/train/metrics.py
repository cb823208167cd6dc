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
        For classes ``balanced_accuracy``, the mean over the classes of the share that was found (of classes that have
        images), and ``macro_f1``, the mean of their F1 scores. For several answers ``macro_f1`` and
        ``mean_average_precision``, the latter over the answers that some image has. For numbers ``mae``, the mean
        absolute error, and from two images on ``r2``, the share of the variance that is explained.

    >>> found = further_metrics("softmax", np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    >>> found["balanced_accuracy"], round(found["macro_f1"], 4)
    (0.5, 0.4286)
    """
    from sklearn import metrics

    if loss == "mse":
        labels = labels.reshape(answers.shape)
        found = {"mae": float(metrics.mean_absolute_error(labels, answers))}
        return found | ({"r2": float(metrics.r2_score(labels, answers))} if len(labels) > 1 else {})
    if loss == "sigmoid":
        labels = labels.reshape(answers.shape) > 0.5
        some = labels.any(0)
        precision = metrics.average_precision_score(labels[:, some], answers[:, some]) if some.any() else 0.0
        f1 = metrics.f1_score(labels, answers > 0, average="macro", zero_division=0)
        return {"macro_f1": float(f1), "mean_average_precision": float(precision)}
    labels = labels.argmax(-1) if labels.ndim == 2 else labels
    recall = metrics.recall_score(labels, answers, labels=np.unique(labels), average="macro", zero_division=0)
    f1 = metrics.f1_score(labels, answers, average="macro", zero_division=0)
    return {"balanced_accuracy": float(recall), "macro_f1": float(f1)}
