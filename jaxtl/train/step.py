"""The jitted train and evaluation steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtl.backend import on_cpu
from jaxtl.data.preprocess import normalise
from jaxtl.errors import InputError, nearest
from jaxtl.finetune.batch_norm import modes_of
from jaxtl.finetune.frozen_prefix import frozen_prefix
from jaxtl.finetune.labels import FROZEN, some_paths
from jaxtl.finetune.optimizer import Optimizer, bound_to, groups_in
from jaxtl.jitted import jit
from jaxtl.model import Model
from jaxtl.models.graph import POOLED, Graph, Modes
from jaxtl.recipe.training import AnyPrecision, BatchNormPolicy, Precision
from jaxtl.train.gradients import all_finite
from jaxtl.train.losses import Task
from jaxtl.train.mixing import mix
from jaxtl.train.precision import computed_in
from jaxtl.train.state import TrainState
from jaxtl.train.step_settings import GivenLoss, settings_of
from jaxtl.train.test_time import averaged, variants
from jaxtl.train.update import updated
from jaxtl.trees import Tree, combine, flatten, partition

Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]

_MIXING = 2**31  # dropouts count the keys that they fold in up from 0, and parts of a batch from 2


def make_train_step(
    model: Model,
    optimizer: Optimizer,
    *,
    loss: GivenLoss = None,
    label_smoothing: float = 0.0,
    batch_norm: BatchNormPolicy = "follow",
    accumulate: int = 1,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    ema: float | None = None,
    precision: AnyPrecision = "f32",
    after: str | None = None,
) -> jax.stages.Wrapped:
    """A jitted ``train_step(state, batch, rates=None) -> (state, metrics)`` that donates the state.

    Only the trained parameters are differentiated, so what is frozen costs its forward pass alone, whatever wraps the
    optimizer. Statistics never meet the optimizer. BatchNorms and dropout follow the labels: see
    ``jaxtl.training_modes``. A step whose loss or gradients are not finite changes nothing but ``state.step``.

    Args:
        model: gives the graph and the mean and std for uint8 images; its arrays are not used.
        optimizer: from ``jaxtl.multi_transform``. Its update gets the loss as ``value``, for transforms that take it.
        loss: "softmax", "sigmoid", "focal" or "mse", or a section of a recipe, ``{"name": "focal", "gamma": 1}``; or
            a function ``loss(logits, labels) -> (B,)``, or a task. Default: by ``model.task`` softmax cross entropy
            for "class", "sigmoid" for "multi-label" and "mse" for "regression".
        label_smoothing: for the losses that are named.
        batch_norm: policy for the statistics, as in a recipe: "follow", "frozen", "adapt", or parts to one of these.
        accumulate: compute the batch in so many equal parts, one after the other; BatchNorms see one part at a time.
        mixup: alpha of mixup; 0: none.
        cutmix: alpha of CutMix; 0: none.
        ema: decay per step of the moving averages in ``state.average``, at most (1 + step) / (10 + step), for a state
            made with ``ema=True``; None: none.
        precision: what the network computes in: "f32", or "bf16" for bfloat16 between layers, with parameters,
            statistics, gradients, logits and losses in float32; "auto" as in a recipe. Products of "f32" have the
            precision of ``jax.default_matmul_precision``, which is less than float32's on TPUs and on GPUs from Ampere
            on.
        after: a frozen stage's name, or "pooled": ``batch["image"]`` then holds that stage's output, or the pooled
            features, and nothing up to there is computed.

    The batch: ``"image"`` (B, H, W, C), uint8 as read or float already normalised; ``"label"`` int (B,), or what the
    loss takes; of a label that is no class the loss is NaN. ``rates``: group -> rate for optimizers that take them
    (those of recipes); None: their own schedules.
    The metrics: ``"loss"`` and ``"accuracy"``, means over the batch, and ``"finite"``, left on the device; no accuracy
    with a loss of one's own whose labels are no classes.

    Raises:
        InputError: labels and transforms that do not fit together, or settings that a recipe would be refused for. By
            the step: a batch with a mask, images that are neither, labels that are not for the loss, a loss that does
            not give one number an image, rates that an optimizer does not take, moving averages in the state or in the
            step alone, or a state of another optimizer.

    >>> import jaxtl, optax, numpy as np
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> head = lambda path, leaf: "fast" if path.startswith("fc") else "frozen"
    >>> optimizer = jaxtl.multi_transform({"fast": optax.sgd(0.1)}, head)
    >>> train_step = make_train_step(model, optimizer)
    >>> state = TrainState.create(model, optimizer)
    >>> batch = {"image": np.zeros((2, 8, 8, 3), np.uint8), "label": np.array([0, 1])}
    >>> state, metrics = train_step(state, batch)
    >>> int(state.step), sorted(metrics)
    (1, ['accuracy', 'finite', 'loss'])
    """
    task, settings = settings_of(
        "make_train_step",
        model,
        loss,
        label_smoothing=label_smoothing,
        batch_norm=batch_norm,
        accumulate=accumulate,
        mixup=mixup,
        cutmix=cutmix,
        ema=ema,
        precision=precision,
    )
    step = train_step_function(
        model,
        optimizer,
        task=task,
        batch_norm=settings.batch_norm,
        accumulate=settings.accumulate,
        mixup=settings.mixup,
        cutmix=settings.cutmix,
        ema=settings.ema,
        precision=computed_in(settings),
        after=after,
    )
    return jit(step, donate_argnums=0)


def train_step_function(
    model: Model,
    optimizer: Optimizer,
    *,
    task: Task,
    batch_norm: BatchNormPolicy,
    accumulate: int,
    mixup: float,
    cutmix: float,
    ema: float | None,
    precision: Precision,
    after: str | None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """What ``make_train_step`` compiles."""
    groups = groups_in(optimizer, model)
    bound = bound_to(optimizer, model)
    modes = modes_of(model.graph, groups, batch_norm)
    classes = model.num_classes
    _check_after(model, groups, modes, after, mixes=bool(mixup or cutmix))

    def gradients_of(state: TrainState, stats: Tree, batch: Batch, rng: jax.Array) -> tuple[Any, Tree]:
        images, labels = prepared(batch["image"], model.preprocess, precision), batch["label"]
        if mixup or cutmix:
            images, targets = mix(jax.random.fold_in(rng, _MIXING), images, labels, classes, mixup=mixup, cutmix=cutmix)
        else:
            targets = labels
        objective = make_objective(model.graph, task, modes, state.frozen, stats, images, targets, rng, after)
        (value, (logits, stats)), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        score = task.score(logits, labels)
        return (gradients, value, None if score is None else score.mean()), stats

    def train_step(
        state: TrainState, batch: Batch, rates: Mapping[str, jax.Array] | None = None
    ) -> tuple[TrainState, Metrics]:
        _check_given(batch, rates, bound)
        task.check_labels(batch["label"])
        _check_state(state, groups, bound)
        rng = jax.random.fold_in(state.rng, state.step)
        if accumulate == 1:
            (gradients, value, score), stats = gradients_of(state, state.batch_stats, batch, rng)
        else:
            parts = {name: _parts(jnp.asarray(array), accumulate) for name, array in batch.items()}
            shares = None if mixup or cutmix else task.shares(parts["label"])

            def one(stats: Tree, part: tuple[jax.Array, Batch, jax.Array | None]) -> tuple[Tree, Any]:
                number, images, share = part
                (gradients, value, score), stats = gradients_of(state, stats, images, jax.random.fold_in(rng, number))
                if share is not None:
                    gradients, value = jax.tree.map(lambda found: found * share, (gradients, value))
                return stats, (gradients, value, score)

            stats, found = _summed(one, state.batch_stats, (jnp.arange(accumulate) + 2, parts, shares))
            gradients, value, score = jax.tree.map(lambda total: total / accumulate, found)
        finite = all_finite((value, gradients))
        update = partial(bound.update, value=value, **({} if rates is None else {"rates": rates}))
        params, opt_state = updated(update, gradients, state.opt_state, state.params, finite)
        stats = optax.tree.where(finite, stats, state.batch_stats)
        average = optax.tree.where(finite, _averaged(state, params, stats, ema, modes), state.average)
        new = state.replace(step=state.step + 1, params=params, batch_stats=stats, opt_state=opt_state, average=average)
        return new, {"loss": value, **({} if score is None else {task.score_name: score}), "finite": finite}

    return train_step


def _check_given(batch: Batch, rates: Mapping[str, jax.Array] | None, optimizer: Optimizer) -> None:
    if "mask" in batch:
        raise InputError(
            "the training batch has a mask, and every image of it would be trained on, in BatchNorms too: leave out "
            "the images that fill it up, or take batches from data.train_batches, which have none"
        )
    own = [group for group in optimizer.transforms if group not in optimizer.rates]
    if rates is not None and own:
        raise InputError(
            f"rates are given, and the optimizer of {', '.join(map(repr, own))} has its own and takes none: leave "
            "rates out; or, for a transform of yours that takes them, name its group in optimizer.rates"
        )


def _check_state(state: TrainState, groups: Mapping[str, str], optimizer: Optimizer) -> None:
    remedy = "make it with the optimizer of the step, jaxtl.TrainState.create(model, optimizer)"
    trained = {path for path, group in groups.items() if group != FROZEN}
    found = set(flatten(state.params))
    if found != trained:
        of_one = [
            f"the {which} alone trains {some_paths(sorted(paths))}"
            for which, paths in (("state", found - trained), ("step", trained - found))
            if paths
        ]
        raise InputError(f"the state is not for this step: {'; '.join(of_one)}: {remedy}")
    wanted: Any = jax.tree.structure(jax.eval_shape(optimizer.init, state.params))
    if wanted != jax.tree.structure(state.opt_state):
        raise InputError(f"the state holds the memory of another optimizer than this step's: {remedy}")


def _check_after(model: Model, groups: Mapping[str, str], modes: Modes, after: str | None, *, mixes: bool) -> None:
    if after is None:
        return
    if mixes:
        raise InputError("mixup and cutmix mix images, and with after there are none; use one of the two")
    fixed, order = frozen_prefix(model.graph, groups, modes), (*model.stages[:-1], POOLED)
    if after not in order:
        raise InputError(f"after: {model.name} has no {after!r}{nearest(after, order)}; there are {', '.join(order)}")
    if fixed is None or order.index(after) > order.index(fixed):
        raise InputError(
            f"after is {after!r}, but training changes what comes before it"
            + (f"; the last fixed stage is {fixed!r}" if fixed else "")
        )


def make_objective(
    graph: Graph,
    task: Task,
    modes: Modes,
    frozen: Tree,
    stats: Tree,
    images: jax.Array,
    targets: jax.Array,
    rng: Any,
    after: str | None = None,
) -> Callable[[Tree], tuple[jax.Array, tuple[jax.Array, Tree]]]:
    """``objective(trained params) -> (mean loss, (logits, new statistics))`` of one batch."""
    drawn = rng if modes.random else None

    def objective(params: Tree) -> tuple[jax.Array, tuple[jax.Array, Tree]]:
        logits, new_stats = graph.apply(combine(params, frozen), stats, images, modes, drawn, after=after)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        return task.losses(logits, targets).mean(), (logits, new_stats)

    return objective


def _parts(array: jax.Array, count: int) -> jax.Array:
    if array.shape[0] % count:
        raise InputError(f"a batch of {array.shape[0]} images cannot be computed in {count} equal parts (accumulate)")
    return array.reshape(count, -1, *array.shape[1:])


def _summed(body: Callable[[Tree, Any], tuple[Tree, Any]], carry: Tree, xs: Any) -> tuple[Tree, Any]:
    """``lax.scan`` that adds the outputs up, so that they take the memory of one. On a CPU, where XLA's loops run
    convolutions slowly, the steps follow each other without a loop."""
    shapes = jax.eval_shape(body, carry, jax.tree.map(lambda x: x[0], xs))[1]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def step(loop: tuple[Tree, Any], x: Any) -> tuple[tuple[Tree, Any], None]:
        loop, x = jax.lax.optimization_barrier((loop, x))  # a step begins when the last one's memory is free
        carry, found = body(loop[0], x)
        return (carry, jax.tree.map(jnp.add, loop[1], found)), None

    return jax.lax.scan(step, (carry, zeros), xs, unroll=on_cpu())[0]


def _averaged(state: TrainState, params: Tree, stats: Tree, ema: float | None, modes: Modes) -> Tree:
    """The moving averages after a step. Statistics that stay as they are keep their bits."""
    if not state.average and ema is not None:
        raise InputError(
            "the train step has ema and the state keeps no moving averages; make it with "
            "jaxtl.TrainState.create(..., ema=True): give both or neither"
        )
    if not state.average:
        return {}
    if ema is None:
        raise InputError("the state keeps moving averages and the train step has no ema; give both or neither")
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(ema, (1 + step) / (10 + step))

    def blended(old: Tree, new: Tree) -> Tree:
        return jax.tree.map(lambda old, new: (decay * old + (1 - decay) * new).astype(old.dtype), old, new)

    def moves(path: str) -> bool:
        return path.rpartition(".")[0] in modes.adapt

    moving, still = partition(state.average["batch_stats"], moves)
    of_stats = combine(blended(moving, partition(stats, moves)[0]), still)
    return {"params": blended(state.average["params"], params), "batch_stats": of_stats}


def make_eval_step(
    model: Model,
    *,
    loss: GivenLoss = None,
    precision: AnyPrecision = "f32",
    after: str | None = None,
    tta: str | None = None,
) -> Callable[[TrainState | Model, Batch], Metrics]:
    """A jitted ``eval_step(state_or_model, batch) -> metrics`` on stored statistics.

    The batch is that of the train step; with ``"mask"`` bool (B,) only the images marked True count. The metrics:
    ``"loss"`` and ``"accuracy"`` as means, ``"correct"`` (the sum behind the accuracy), ``"count"``, and ``"answers"``:
    the likeliest class of every image, int32 (B,), or for the losses ``sigmoid`` and ``mse`` the logits (B, K). With a
    loss of one's own whose labels are no classes there is no accuracy, and the answers are the logits. A state with
    moving averages is evaluated with them. ``loss``, ``precision`` and ``after`` are those of ``make_train_step``.
    ``tta``: "flip" or "crops", the variants of each image whose probabilities are averaged, or with ``mse`` and a loss
    of one's own whose labels are no classes the outputs; `jaxtl.train.test_time`.

    Raises:
        InputError: another loss, precision or ``tta``, or ``tta`` together with ``after``. By the step: labels that are
            not for the loss.

    >>> import jaxtl, numpy as np
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> batch = {"image": np.zeros((2, 8, 8, 3), np.uint8), "label": np.array([0, 1]), "mask": np.array([True, False])}
    >>> int(make_eval_step(model)(model, batch)["count"])
    1
    """
    graph, preprocess = model.graph, model.preprocess
    task, settings = settings_of("make_eval_step", model, loss, precision=precision)
    precision = computed_in(settings)
    if tta is not None and after is not None:
        raise InputError("test-time augmentation changes images, and with after there are none; use one of the two")

    def eval_step(state: TrainState | Model, batch: Batch) -> Metrics:
        if isinstance(state, Model):
            params, stats = state.params, state.batch_stats
        else:
            params, stats = state.averaged.all_params, state.averaged.batch_stats
        labels = batch["label"]
        task.check_labels(labels)
        images = prepared(batch["image"], preprocess, precision)
        found = [graph.apply(params, stats, variant, after=after)[0] for variant in variants(images, tta)]
        wide = jnp.promote_types(found[0].dtype, jnp.float32)
        found = [one.astype(wide) for one in found]
        are_numbers = task.score(found[0], labels) is None
        logits = averaged(found, "mse" if are_numbers else task.name)
        mask = batch.get("mask", jnp.ones(logits.shape[:1], bool))
        count = mask.sum()
        total = jnp.where(mask, task.losses(logits, labels), 0).sum()
        score = task.score(logits, labels)
        answers = logits if score is None or task.name in ("sigmoid", "mse") else logits.argmax(-1)
        metrics = {"loss": total / count, "count": count, "answers": answers}
        if score is None:
            return metrics
        correct = jnp.where(mask, score, 0).sum()
        return {**metrics, task.score_name: correct / count, "correct": correct}

    return jit(eval_step)


def prepared(images: jax.Array, preprocess: Any, precision: Precision = "f32") -> jax.Array:
    """uint8 images normalised on the device; float images, or a stage's outputs, as they are; in that precision.

    Raises:
        InputError: images of any other type: layers compute in the type of what they are given, weights included.
    """
    if images.dtype == jnp.uint8:
        images = normalise(images, preprocess.mean, preprocess.std)
    elif not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"the batch's images are {images.dtype}; give pixels from 0 to 255 as uint8, which are normalised here, or "
            "floats that are normalised already"
        )
    return images.astype(jnp.bfloat16) if precision == "bf16" else images
