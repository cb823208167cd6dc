"""``jaxtl.fine_tune``: a model, data and a recipe in; a tuned model and its history out."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxtl.backend import on_cpu, say_which_is_used
from jaxtl.compiled import keep_compiled
from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.finetune.misuse import warnings_for
from jaxtl.finetune.phases import position
from jaxtl.finetune.strategies import expand
from jaxtl.huge_pages import say_where_lacking
from jaxtl.jax_settings import place_of
from jaxtl.judged import score
from jaxtl.model import Model
from jaxtl.notices import say
from jaxtl.recipe import Recipe, as_recipe
from jaxtl.train.cached_phases import CachedPhase
from jaxtl.train.checkpoint import Checkpoints, Records, check_same, saved_identity
from jaxtl.train.fits import check_batches, check_fits, check_kinds
from jaxtl.train.fitted import check_fittable, fitted
from jaxtl.train.interrupts import AtOnceError, held_back
from jaxtl.train.loop import Loop
from jaxtl.train.precision import settled
from jaxtl.train.progress import Progress
from jaxtl.train.state import TrainState
from jaxtl.train.task import check_labels, check_task, task_of
from jaxtl.train.written import check_output, checkpoint_folder, sole_writer, write_history, write_recipe, write_results
from jaxtl.trees import unflatten

MANY_PIXELS = 2**18  # of a batch, from which on huge pages make a difference


@dataclass(frozen=True)
class Result:
    """What ``fine_tune`` returns.

    Attributes:
        model: the tuned model after the last epoch, with the data's class names; with ``ema`` the averaged weights.
        history: one record a validation (of each epoch, unless ``eval_every`` says otherwise): ``epoch``, ``step``,
            ``phase`` (from 1), ``train_loss``, ``train_accuracy``, ``val_loss``, ``val_accuracy`` (0 to 1),
            ``learning_rate`` by group (of the last step, as the optimizer used it), ``images_per_second``,
            ``seconds``. Before it, where a linear probe or new statistics come first, a record of epoch 0. Without
            accuracies for regression.
        best: the record with the highest validation accuracy; for several labels an image with the highest mean
            average precision, for numbers with the lowest loss.
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
    recipe: Recipe | Mapping[str, Any] | str | os.PathLike[str] | None = None,
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
            Or the path of a YAML file, whose ``model`` and ``data`` are not used, or a mapping of fields.
        resume: continue the run in ``recipe.output`` from its last validation, to the same bits as if it had never
            stopped (on the same kind of device; on a GPU where XLA's kernels are deterministic and the compiled
            programs are kept: docs/recipes.md).
        progress: show a bar and a line a validation on standard error.
        fields: of the recipe, to change: ``epochs=3``, ``groups={"head": "fast", "*": "frozen"}``, ... .

    Raises:
        InputError: recipe, model and data do not fit together; or the output holds a run already and ``resume`` is
            not given, or holds another run and it is, or another process is training into it.
        FloatingPointError: the loss is not finite any more; the first tensor that is not is named.

    A run that ends so, or by Ctrl-C, first writes the models of its validated epochs until then.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1)
    >>> data = jaxtl.open_data("digits", model, samples_per_class=2)
    >>> result = fine_tune(model, data, epochs=1, batch_size=20, eval_batch_size=360, progress=False)
    >>> result.history[0]["step"], result.model.classes[:3]
    (1, ('0', '1', '2'))
    """
    keep_compiled()
    check_kinds(model, data)
    _check_keywords(fields)
    recipe = as_recipe(recipe)
    recipe = recipe.replace(**fields) if fields else recipe
    check_output(recipe.output, resume)
    if on_cpu() and recipe.batch_size * math.prod(data.train_preprocess.size) >= MANY_PIXELS:
        say_where_lacking()
    say_which_is_used(place_of((model.params, model.batch_stats)))
    check_fits(model, data)
    if recipe.strategy == "scratch":
        model = _without_weights(model, recipe.seed)
    recipe = settled(expand(recipe, model.graph))
    check_task(recipe, data)
    check_labels(recipe, data)
    check_batches(recipe, data)
    check_fittable(model, data, recipe)
    output = None if recipe.output is None else Path(recipe.output)

    with ExitStack() as stack:
        if output is not None and jax.process_index() == 0:
            stack.enter_context(sole_writer(output))
        folder = None if output is None else checkpoint_folder(output, resume)
        begun_with = saved_identity(output / "checkpoints") if resume and output is not None else {}
        if begun_with:
            check_same(begun_with, _own_identity(model, recipe), f"{output}/checkpoints", all_of_it=False)
            data = _kept_as_begun(data, begun_with)
        same_data = begun_with.get("data") == data.fingerprint
        loop = stack.enter_context(Loop(model, data, recipe, begun_with.get("features") if same_data else None))
        for warning in warnings_for(model, data, recipe):
            say(warning)
        checkpoints = None
        if folder is not None:
            checkpoints = stack.enter_context(Checkpoints(folder, _identity(model, data, recipe, loop.cached)))
        saved = checkpoints if checkpoints is not None and checkpoints.latest is not None else None
        if saved is not None:
            loop.restore(saved)
        if output is not None:
            write_recipe(output, recipe)
            data.write_split(output / "split.json")
        if saved is None:
            if resume:
                say(f"{output} holds no checkpoint: the run starts at the beginning")
            begun = time.perf_counter() if recipe.linear_probe or recipe.recalibrate else None
            loop.start(fitted(model, data, recipe), begun)
            if checkpoints is not None and loop.history:
                checkpoints.save(0, loop.state, loop.history)
        if output is not None:
            write_history(output, loop.history)
        bar = stack.enter_context(Progress(loop.most_steps, loop.steps, recipe.batch_size, progress))
        answering = {"classes": data.classes, "task": task_of(recipe.loss.name)}
        try:
            while position(recipe, loop.history) is not None and recipe.epochs:
                loop.advance(bar)
                if checkpoints is not None and output is not None:
                    checkpoints.save(loop.history[-1]["epoch"], loop.state, loop.history)
                    write_history(output, loop.history)
                bar.record(loop.history[-1], recipe.epochs)
        except AtOnceError:
            raise
        except (KeyboardInterrupt, FloatingPointError):
            alone = jax.process_count() == 1  # an interrupt reaches one process, and restoring waits for all
            if checkpoints is not None and output is not None and alone:
                _leave_results(output, recipe, data, checkpoints, loop, model.replace(**answering))
            raise

        with held_back():
            tuned = _model_of(loop.state, model.replace(**answering))
            best = max(loop.history, key=lambda record: (score(record), record["epoch"]))
            if output is not None:
                models = _results(checkpoints, loop, tuned, loop.history[-1])
                write_results(output, recipe, data, loop.history, models)
    return Result(tuned, loop.history, best, output)


def _check_keywords(fields: Mapping[str, Any]) -> None:
    """Refuses what belongs to a loop of one's own."""
    optimizers = fields.get("optimizer")
    given = optimizers.values() if isinstance(optimizers, Mapping) else [optimizers]
    own = ["a label function"] if callable(fields.get("groups")) else []
    own += ["an optimizer of optax's"] if any(isinstance(one, optax.GradientTransformation) for one in given) else []
    if own:
        raise InputError(
            f"fine_tune does not take {' or '.join(own)}, which are for jaxtl.make_train_step; write parts of the "
            "network and optimizers by name: groups={'head': 'fast', 'layer4': 'slow', '*': 'frozen'}, "
            "optimizer={'fast': {'name': 'adamw', 'lr': 1e-3}, 'slow': {'lr': 1e-4}}"
        )


def _model_of(state: TrainState, like: Model) -> Model:
    """The model with a state's arrays, for states that no step takes any more: a copy could be one too many."""
    return like.replace(params=state.averaged.all_params, batch_stats=state.averaged.batch_stats)


def _results(
    checkpoints: Checkpoints | None, loop: Loop, last: Model, record: dict[str, Any]
) -> Iterator[tuple[str, Model, dict[str, Any]]]:
    """What a run leaves, each by the name of its folder, with its record; the best is read when the last is written."""
    yield "model", last, record
    if checkpoints is not None and checkpoints.best is not None:
        yield "best", *_restored(checkpoints, checkpoints.best, loop, last)


def _restored(checkpoints: Checkpoints, epoch: int, loop: Loop, like: Model) -> tuple[Model, dict[str, Any]]:
    """The model after an epoch, its arrays NumPy's, and its record."""
    record = checkpoints.records(epoch)[-1]
    state, _ = checkpoints.restore(epoch, loop.like(max(record["phase"] - 1, 0)))
    return _model_of(state, like), record


def _leave_results(output: Path, recipe: Recipe, data: Data, checkpoints: Checkpoints, loop: Loop, like: Model) -> None:
    """Writes what a run has come to that stops before its end, and says where; what stopped it is not to be hidden."""
    last = checkpoints.latest
    try:
        if last is None:
            return
        records = checkpoints.records(last)
        write_history(output, records)
        models = _results(checkpoints, loop, *_restored(checkpoints, last, loop, like))
        write_results(output, recipe, data, records, models)
    except Exception as error:
        say(f"the models of the epochs so far could not be written to {output}: {error}")
        return
    said = f"{output / 'model'} holds the model after epoch {last}"
    say(f"{said}, {output / 'best'} that after epoch {checkpoints.best}, the best")


def _kept_as_begun(data: Data, begun_with: dict[str, Any]) -> Data:
    """What the machine has room for by now must not change the pixels of a run that goes on."""
    kind = begun_with.get("storage")
    same_images = data.images_fingerprint == begun_with.get("images")
    return data.kept_as(kind) if kind is not None and same_images and data.fingerprint != begun_with["data"] else data


def _without_weights(model: Model, seed: int) -> Model:
    """The same network, everything freshly initialised."""
    graph = model.graph
    fresh = jax.tree.map(jax.numpy.asarray, graph.initialise([*graph.params, *graph.batch_stats], seed))
    return model.replace(
        params=unflatten({path: fresh[path] for path in graph.params}),
        batch_stats=unflatten({path: fresh[path] for path in graph.batch_stats}),
        pretrained=False,
    )


def _identity(model: Model, data: Data, recipe: Recipe, cached: tuple[CachedPhase | None, ...]) -> dict[str, Any]:
    """Everything that the bits of a run depend on, by name."""
    identity = {
        **_own_identity(model, recipe),
        "images": data.images_fingerprint,
        "data": data.fingerprint,
        "storage": data.storage.kind,
        "features": [phase and phase.identity for phase in cached],
    }
    if any(cached) or recipe.recalibrate or recipe.linear_probe:
        identity["eval_batch_size"] = recipe.eval_batch_size  # features and statistics are computed in such batches
    return json.loads(json.dumps(identity, default=repr))


def _own_identity(model: Model, recipe: Recipe) -> dict[str, Any]:
    """The part of it that data and machine have nothing to do with."""
    fields = recipe.model_dump(mode="json", exclude={"output", "model", "data", "eval_batch_size"})
    identity = {
        **fields,
        "groups": list(recipe.groups.items()),  # their order counts
        "model": model.name,
        "architecture": [model.graph.architecture, {k: v for k, v in model.graph.options.items() if v is not None}],
        "weights": weights_fingerprint(model),
    }
    return json.loads(json.dumps(identity, default=repr))


def weights_fingerprint(model: Model) -> str:
    """16 hex digits that change with any bit of a model's parameters and statistics.

    >>> import jaxtl
    >>> one, other = (jaxtl.load("cifar_resnet20", weights=None, seed=seed) for seed in (0, 1))
    >>> len(weights_fingerprint(one)), weights_fingerprint(one) == weights_fingerprint(other)
    (16, False)
    """
    import hashlib

    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((model.params, model.batch_stats)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
