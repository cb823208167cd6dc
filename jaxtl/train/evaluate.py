"""Accuracy and loss of a model over a whole split."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxtl.compiled import keep_compiled
from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.train.state import TrainState
from jaxtl.train.step import Batch, make_eval_step


def evaluate(model: Model, data: Data, batch_size: int = 64, split: str = "val") -> dict[str, Any]:
    """``{"loss", "accuracy", "correct", "count"}`` over all images of a split, on stored statistics.

    The last batch is padded and masked: every image counts once and the result does not depend on the batch size.

    Raises:
        InputError: the model's classes or preprocessing are not the data's, or labels are not one class an image.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1)
    >>> evaluate(model, jaxtl.open_data("digits", model), batch_size=180)["count"]
    359
    """
    keep_compiled()
    check_fits(model, data)
    if data.task not in (None, "class"):
        raise InputError(
            f"{data.name}: accuracy is for one class an image, and its labels are for {data.task}; for these "
            "take the loss of the run, or make_eval_step with the loss"
        )
    return run_evaluation(_eval_step(model), model, data.eval_batches(batch_size, split=split))


def run_evaluation(
    eval_step: Callable[..., Any], state: Model | TrainState, batches: Iterable[Batch]
) -> dict[str, Any]:
    """The same with an evaluation step and masked batches at hand. Nothing is fetched before the last batch is under
    way."""
    found = jax.device_get([eval_step(state, batch) for batch in batches])
    count = sum(int(metrics["count"]) for metrics in found)
    loss = float(np.sum([float(metrics["loss"]) * int(metrics["count"]) for metrics in found]) / count)
    if "accuracy" not in found[0]:
        return {"loss": loss, "count": count}
    correct = sum(metrics["correct"].item() for metrics in found)
    correct = round(correct) if float(correct).is_integer() else correct
    return {"loss": loss, "accuracy": correct / count, "correct": correct, "count": count}


def _eval_step(model: Model) -> Any:
    return model.graph.remember(("eval_step", model.preprocess), lambda: make_eval_step(model))


def check_fits(model: Model, data: Data) -> None:
    """Raises ``InputError`` when a model does not fit some data: classes or preprocessing differ."""
    problems = []
    if model.num_classes != len(data.classes):
        problems.append(
            f"it has {model.num_classes} classes and the data has {len(data.classes)}: "
            f"load it with num_classes={len(data.classes)}"
        )
    elif model.classes is not None and model.classes != data.classes:
        different = [
            f"{ours!r} against {theirs!r}"
            for ours, theirs in zip(model.classes, data.classes, strict=True)
            if ours != theirs
        ]
        problems.append(
            f"its classes are not the data's ({', '.join(different[:5])}): use data with the same class names, "
            "or a new head (model.replace(classes=None) if only the names differ)"
        )
    ours, theirs = model.preprocess.to_dict(), data.preprocess.to_dict()
    if ours != theirs:
        fields = [f"{key} {ours[key]} against {theirs[key]}" for key in ours if ours[key] != theirs[key]]
        problems.append(f"its preprocessing is not the data's ({'; '.join(fields)}): open the data with this model")
    if problems:
        raise InputError(f"{model.name} does not fit {data.name}: " + "; ".join(problems))
