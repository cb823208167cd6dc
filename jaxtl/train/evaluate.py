"""Accuracy and loss of a model over a whole split."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxtl.backend import on_cpu
from jaxtl.compiled import keep_compiled
from jaxtl.data.dataset import Data
from jaxtl.model import Model
from jaxtl.recipe import AnyLoss
from jaxtl.train.fits import check_fits
from jaxtl.train.losses import make_task
from jaxtl.train.metrics import further_metrics
from jaxtl.train.state import TrainState
from jaxtl.train.step import Batch, make_eval_step
from jaxtl.train.task import LOSS_OF_TASK, task_to_measure

Answered = tuple[dict[str, Any], tuple[Any, Any]]


def evaluate(
    model: Model, data: Data, batch_size: int = 64, split: str = "val", tta: str | None = None
) -> dict[str, Any]:
    """``{"loss", "accuracy", "balanced_accuracy", "macro_f1", "correct", "count"}`` over all images of a split.

    BatchNorms use stored statistics. The last batch is padded and masked: every image counts once and the result does
    not depend on the batch size. What is measured goes by the model's ``task``, or, where its classes have no names, by
    the data's: `jaxtl.train.metrics` says how the metrics are meant, and which there are for several labels an image
    (the loss is then ``sigmoid``) and for numbers (``mse``).

    Args:
        model: the network.
        data: opened with this model.
        batch_size: images at once.
        split: "val" or "train".
        tta: test-time augmentation, "flip" or "crops": the probabilities of variants of each image are averaged.

    Raises:
        InputError: the model's classes, preprocessing or task are not the data's; a ``tta`` of another name.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1)
    >>> evaluate(model, jaxtl.open_data("digits", model), batch_size=180)["count"]
    359
    """
    keep_compiled()
    check_fits(model, data)
    loss = LOSS_OF_TASK[task_to_measure(model, data)]
    batches = data.eval_batches(batch_size, split=split)
    return run_evaluation(_eval_step(model, loss, tta), model, batches, loss.name)


def run_evaluation(
    eval_step: Callable[..., Any], state: Model | TrainState, batches: Iterable[Batch], loss: str = "softmax"
) -> dict[str, Any]:
    """The same with an evaluation step for a loss and masked batches at hand."""
    return finished_evaluation(begun_evaluation(eval_step, state, batches), loss)


def begun_evaluation(
    eval_step: Callable[..., Any], state: Model | TrainState, batches: Iterable[Batch]
) -> Iterable[Answered]:
    """All batches, under way in the evaluation step, with their labels and masks. Nothing is waited for; but a CPU
    begins each batch when it is asked for, because each takes memory of its own."""
    under_way = ((eval_step(state, batch), (batch["label"], batch["mask"])) for batch in batches)
    return under_way if on_cpu() else list(under_way)


def finished_evaluation(under_way: Iterable[Answered], loss: str) -> dict[str, Any]:
    """What comes out of them all together."""
    found, labels = zip(*map(jax.device_get, under_way), strict=True)
    count = sum(int(metrics["count"]) for metrics in found)
    mean_loss = float(np.sum([float(metrics["loss"]) * int(metrics["count"]) for metrics in found]) / count)
    known = np.concatenate([label[mask] for label, mask in labels])
    answers = np.concatenate([metrics["answers"][mask] for metrics, (_, mask) in zip(found, labels, strict=True)])
    more = further_metrics(loss, known, answers)
    if "accuracy" not in found[0]:
        return {"loss": mean_loss, **more, "count": count}
    correct = sum(metrics["correct"].item() for metrics in found)
    correct = round(correct) if float(correct).is_integer() else correct
    return {"loss": mean_loss, "accuracy": correct / count, **more, "correct": correct, "count": count}


def _eval_step(model: Model, loss: AnyLoss, tta: str | None) -> Any:
    key = ("eval_step", model.preprocess, loss.name, tta)
    return model.graph.remember(key, lambda: make_eval_step(model, loss=make_task(loss), tta=tta))
