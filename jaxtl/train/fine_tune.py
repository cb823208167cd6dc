"""``jaxtl.fine_tune``: a model, data and a recipe in; a tuned model and its history out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.files import make_folder
from jaxtl.finetune.from_recipe import make_optimizer
from jaxtl.finetune.optimizer import Optimizer
from jaxtl.model import Model
from jaxtl.notices import say
from jaxtl.pretrained.save import save
from jaxtl.recipe import Recipe
from jaxtl.train.checkpoint import Checkpoints, Records
from jaxtl.train.evaluate import check_fits, run_evaluation
from jaxtl.train.progress import Progress
from jaxtl.train.state import TrainState
from jaxtl.train.step import make_eval_step, make_train_step

Tools = tuple[Optimizer, Callable[..., Any], Callable[..., Any]]


@dataclass(frozen=True)
class Result:
    """What ``fine_tune`` returns.

    Attributes:
        model: the tuned model after the last epoch, with the data's class names.
        history: one record an epoch: ``epoch``, ``step``, ``train_loss``, ``train_accuracy``, ``val_loss``,
            ``val_accuracy`` (0 to 1), ``learning_rate`` by group, ``images_per_second``, ``seconds``.
        best: the record with the highest validation accuracy.
        output: the folder that was written, if any: ``model/`` and ``best/`` for ``jaxtl.load``, ``history.jsonl``,
            ``curves.png``, ``recipe.yaml``, ``checkpoints/``.
    """

    model: Model
    history: Records
    best: dict[str, Any]
    output: Path | None


def fine_tune(
    model: Model,
    data: Data,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
    **fields: Any,
) -> Result:
    """Trains a model on data as a recipe says. The given model is not changed.

    Args:
        model: from ``jaxtl.load``, with as many classes as the data.
        data: from ``jaxtl.open_data``, opened with this model.
        recipe: default ``Recipe()``: everything trains for 5 epochs, the head at 1e-3 and the body at 1e-4 (AdamW).
        resume: continue the run in ``recipe.output`` from its last whole epoch, to the same bits as if it had never
            stopped (on the same kind of device).
        progress: show a bar and a line an epoch on standard error.
        fields: of the recipe, to change: ``epochs=3``, ``groups={"head": "fast", "*": "frozen"}``, ... .

    Raises:
        InputError: recipe, model and data do not fit together; or the output holds a run already and ``resume`` is
            not given, or holds another run and it is.
        FloatingPointError: the loss is not finite any more.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1)
    >>> data = jaxtl.open_data("digits", model, samples_per_class=2)
    >>> result = fine_tune(model, data, epochs=1, batch_size=20, eval_batch_size=360, progress=False)
    >>> result.history[0]["step"], result.model.classes[:3]
    (1, ('0', '1', '2'))
    """
    recipe = (recipe or Recipe()).replace(**fields) if fields else recipe or Recipe()
    check_fits(model, data)
    steps_per_epoch = data.steps_per_epoch(recipe.batch_size)
    optimizer, train_step, eval_step = _tools(model, recipe, steps_per_epoch)
    state = TrainState.create(model, optimizer, seed=recipe.seed)
    output = None if recipe.output is None else Path(recipe.output)
    if resume and output is None:
        raise InputError("a run is continued from its output; give the recipe the output of the run")
    history: Records = []

    with ExitStack() as stack:
        checkpoints = None
        if output is not None:
            checkpoints = stack.enter_context(
                Checkpoints(_checkpoint_folder(output, resume), _identity(model, data, recipe))
            )
            if checkpoints.latest is not None:
                state, history = checkpoints.restore(checkpoints.latest, state)
            elif resume:
                say(f"{output} holds no checkpoint: the run starts at the beginning")
            _write(output / "recipe.yaml", recipe.to_yaml())
            _write_history(output, history)
        done = history[-1]["epoch"] if history else 0
        start = done * steps_per_epoch
        batches = stack.enter_context(closing(data.train_batches(recipe.batch_size, seed=recipe.seed, start=start)))
        bar = stack.enter_context(Progress(recipe.epochs * steps_per_epoch, start, recipe.batch_size, progress))
        while done < recipe.epochs:
            epoch = min(done + recipe.eval_every, recipe.epochs)
            bar.epoch(epoch, recipe.epochs)
            begun = time.perf_counter()
            metrics = []
            for _ in range((epoch - done) * steps_per_epoch):
                state, found = train_step(state, next(batches))
                metrics.append(found)
                bar.step(found)
            train = jax.device_get(metrics)
            trained = time.perf_counter()
            measured = run_evaluation(eval_step, state, data, recipe.eval_batch_size)
            last = epoch * steps_per_epoch - 1
            _check_finite(epoch, train, measured)
            record = {
                "epoch": epoch,
                "step": epoch * steps_per_epoch,
                "train_loss": float(np.mean([m["loss"] for m in train])),
                "train_accuracy": float(np.mean([m["accuracy"] for m in train])),
                "val_loss": measured["loss"],
                "val_accuracy": measured["accuracy"],
                "learning_rate": {group: float(rate(last)) for group, rate in optimizer.rates.items()},
                "images_per_second": len(metrics) * min(recipe.batch_size, len(data.train)) / (trained - begun),
                "seconds": time.perf_counter() - begun,
            }
            history.append(record)
            if checkpoints is not None and output is not None:
                checkpoints.save(epoch, state, history)
                _write_history(output, history)
            bar.record(record, recipe.epochs)
            done = epoch

        tuned = state.to_model(model).replace(classes=data.classes)
        best = max(history, key=lambda record: (record["val_accuracy"], record["epoch"]))
        if checkpoints is not None and output is not None:
            _write_results(output, tuned, state, history, best, checkpoints, recipe)
    return Result(tuned, history, best, output)


def _tools(model: Model, recipe: Recipe, steps_per_epoch: int) -> Tools:
    """Optimizer and compiled steps, shared by all runs that differ in weights, data and seed alone."""
    shaping = recipe.model_dump_json(
        include={"groups", "optimizer", "schedule", "epochs", "clip_norm", "label_smoothing"}
    )

    def make() -> Tools:
        optimizer = make_optimizer(recipe, model, steps_per_epoch)
        train_step = make_train_step(model, optimizer, label_smoothing=recipe.label_smoothing)
        return optimizer, train_step, make_eval_step(model)

    return model.graph.remember((shaping, steps_per_epoch, model.preprocess), make)


def _checkpoint_folder(output: Path, resume: bool) -> Path:
    folder = output / "checkpoints"
    make_folder(output)
    saved = folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir())
    if not resume and (saved or any((output / name).exists() for name in ("model", "best"))):
        raise InputError(f"{output} holds a run already: --resume (resume=True) continues it; or choose another output")
    if resume and not saved and (output / "model").exists():
        raise InputError(f"{output} holds the results of a run and not its checkpoints; choose another output")
    return folder


def _identity(model: Model, data: Data, recipe: Recipe) -> dict[str, Any]:
    """Everything that the bits of a run depend on, by name."""
    fields = recipe.model_dump(mode="json", exclude={"output", "model", "data", "eval_batch_size"})
    identity = {
        **fields,
        "groups": list(recipe.groups.items()),  # their order counts
        "model": model.name,
        "architecture": [model.graph.architecture, {k: v for k, v in model.graph.options.items() if v is not None}],
        "weights": _fingerprint(model),
        "data": data.fingerprint,
    }
    return json.loads(json.dumps(identity, default=repr))


def _fingerprint(model: Model) -> str:
    import hashlib

    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((model.params, model.batch_stats)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def _check_finite(epoch: int, train: list[dict[str, Any]], measured: dict[str, Any]) -> None:
    losses = [*(float(metrics["loss"]) for metrics in train), measured["loss"]]
    if not np.isfinite(losses).all():
        where = f"step {np.isfinite(losses).argmin() + 1}" if not np.isfinite(losses[:-1]).all() else "validation"
        raise FloatingPointError(
            f"the loss is not finite in epoch {epoch} ({where}): lower the learning rates, or set clip_norm; "
            "checkpoints of earlier epochs, where there are any, are whole"
        )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def _write_history(output: Path, history: Records) -> None:
    _write(output / "history.jsonl", "".join(json.dumps(record) + "\n" for record in history))


def _write_results(
    output: Path,
    tuned: Model,
    state: TrainState,
    history: Records,
    best: dict[str, Any],
    checkpoints: Checkpoints,
    recipe: Recipe,
) -> None:
    from jaxtl.report.curves import plot_history

    training = recipe.model_dump(mode="json", exclude={"output"})
    save(tuned, output / "model", training={"recipe": training, "result": history[-1]})
    best_epoch = checkpoints.best
    if best_epoch is not None:
        best_state, _ = checkpoints.restore(best_epoch, state)
        save(best_state.to_model(tuned), output / "best", training={"recipe": training, "result": best})
    plot_history(history, output / "curves.png")
