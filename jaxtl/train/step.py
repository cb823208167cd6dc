"""The jitted train and evaluation steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtl.data.preprocess import normalise
from jaxtl.finetune.batch_norm import modes_of
from jaxtl.finetune.optimizer import Optimizer, groups_in
from jaxtl.model import Model
from jaxtl.train.state import TrainState
from jaxtl.trees import Tree, combine

Batch = Mapping[str, Any]
Loss = Callable[[jax.Array, jax.Array], jax.Array]
Metrics = dict[str, jax.Array]


def softmax_cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """Cross entropy per image of logits (B, K) and integer labels (B,).

    With smoothing s the target is 1 - s + s/K on the label and s/K elsewhere (Szegedy 2016), as in torch.

    >>> loss = softmax_cross_entropy()
    >>> loss(jnp.zeros((1, 4)), jnp.array([2])).round(3).tolist()
    [1.3860000371932983]
    """

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), label_smoothing)
        return optax.softmax_cross_entropy(logits, targets)

    return loss


def make_train_step(
    model: Model, optimizer: Optimizer, *, loss: Loss | None = None, label_smoothing: float = 0.0
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """A jitted ``train_step(state, batch) -> (state, metrics)`` that donates the state.

    Only the trained parameters are differentiated, so what is frozen costs its forward pass alone, whatever wraps the
    optimizer. Statistics never meet the optimizer. BatchNorms and dropout follow the labels: see
    ``jaxtl.training_modes``.

    Args:
        model: gives the graph and the mean and std for uint8 images; its arrays are not used.
        optimizer: from ``jaxtl.multi_transform``.
        loss: ``loss(logits, labels) -> (B,)``. Default: softmax cross entropy.
        label_smoothing: for the default loss.

    The batch: ``"image"`` (B, H, W, C), uint8 as read or float already normalised; ``"label"`` int (B,).
    The metrics: ``"loss"`` and ``"accuracy"``, means over the batch, left on the device.

    Raises:
        InputError: labels and transforms that do not fit together.

    >>> import jaxtl, optax, numpy as np
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> head = lambda path, leaf: "fast" if path.startswith("fc") else "frozen"
    >>> optimizer = jaxtl.multi_transform({"fast": optax.sgd(0.1)}, head)
    >>> train_step = make_train_step(model, optimizer)
    >>> state = TrainState.create(model, optimizer)
    >>> batch = {"image": np.zeros((2, 8, 8, 3), np.uint8), "label": np.array([0, 1])}
    >>> state, metrics = train_step(state, batch)
    >>> int(state.step), sorted(metrics)
    (1, ['accuracy', 'loss'])
    """
    graph, preprocess = model.graph, model.preprocess
    modes = modes_of(graph, groups_in(optimizer, model))
    per_image = loss or softmax_cross_entropy(label_smoothing)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        images = prepared(batch["image"], preprocess)
        rng = jax.random.fold_in(state.rng, state.step) if modes.random else None

        def objective(params: Tree) -> tuple[jax.Array, tuple[jax.Array, Tree]]:
            logits, stats = graph.apply(combine(params, state.frozen), state.batch_stats, images, modes, rng)
            return per_image(logits, batch["label"]).mean(), (logits, stats)

        (value, (logits, stats)), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        new = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=stats,
            opt_state=opt_state,
        )
        return new, {"loss": value, "accuracy": (logits.argmax(-1) == batch["label"]).mean()}

    return jax.jit(train_step, donate_argnums=0)


def make_eval_step(model: Model, *, loss: Loss | None = None) -> Callable[[TrainState | Model, Batch], Metrics]:
    """A jitted ``eval_step(state_or_model, batch) -> metrics`` on stored statistics.

    The batch is that of the train step; with ``"mask"`` bool (B,) only the images marked True count. The metrics:
    ``"loss"`` and ``"accuracy"`` as means, ``"correct"`` and ``"count"`` as whole numbers.

    >>> import jaxtl, numpy as np
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> batch = {"image": np.zeros((2, 8, 8, 3), np.uint8), "label": np.array([0, 1]), "mask": np.array([True, False])}
    >>> int(make_eval_step(model)(model, batch)["count"])
    1
    """
    graph, preprocess = model.graph, model.preprocess
    per_image = loss or softmax_cross_entropy()

    def eval_step(state: TrainState | Model, batch: Batch) -> Metrics:
        params = state.params if isinstance(state, Model) else state.all_params
        logits, _ = graph.apply(params, state.batch_stats, prepared(batch["image"], preprocess))
        labels = batch["label"]
        mask = batch.get("mask", jnp.ones(labels.shape[:1], bool))
        count = mask.sum()
        correct = ((logits.argmax(-1) == labels) & mask).sum()
        total = jnp.where(mask, per_image(logits, labels), 0).sum()
        return {"loss": total / count, "accuracy": correct / count, "correct": correct, "count": count}

    return jax.jit(eval_step)


def prepared(images: jax.Array, preprocess: Any) -> jax.Array:
    """uint8 images normalised on the device; float images as they are."""
    if images.dtype == jnp.uint8:
        return normalise(images, preprocess.mean, preprocess.std)
    return images
