"""What ``jaxtl.load`` returns: a static graph, and beside it parameters and statistics as plain nested dicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from jaxtl.data.answers import TASKS
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError, nearest
from jaxtl.jitted import jit
from jaxtl.models.graph import EVALUATION, Graph, Modes
from jaxtl.trees import Tree, flatten

_SHOWN = 3  # paths of a message


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "batch_stats"],
    meta_fields=[
        "graph",
        "preprocess",
        "name",
        "classes",
        "notes",
        "license",
        "pretrained",
        "loaded_preprocess",
        "task",
    ],
)
@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, as data: a pytree whose leaves are the arrays.

    Attributes:
        params: nested dict of float32 arrays, string keys; a leaf's path is timm's module name and Flax's leaf
            name, ``layer4.2.conv3.kernel``.
        batch_stats: nested dict of the BatchNorms' running means and variances, float32.
        preprocess: the evaluation preprocessing that belongs to these weights.
        graph: the architecture; shared, static, without arrays.
        name: what was loaded, ``resnet50.a1_in1k``.
        classes: names of the classes in the order of the logits, where they are known.
        notes: what loading changed (a replaced head, adapted input channels, ...), one sentence each.
        license: licence of the pretrained weights, where known.
        pretrained: whether the body's weights were loaded, and not drawn at random.
        loaded_preprocess: ``preprocess`` as loading gave it, whatever is replaced later.
        task: what the head answers: "class" (one class an image: logits of a softmax), "multi-label" (any number of
            classes: a logit for each) or "regression" (numbers).

    >>> import jaxtl, numpy as np
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=3)
    >>> model(np.zeros((2, 32, 32, 3), np.float32)).shape
    (2, 3)
    >>> model.features(np.zeros((2, 32, 32, 3), np.float32)).shape
    (2, 64)
    """

    graph: Graph
    params: Tree
    batch_stats: Tree
    preprocess: Preprocess
    name: str
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    license: str | None = None
    pretrained: bool = True
    loaded_preprocess: Preprocess | None = None
    task: str = "class"

    @property
    def stages(self) -> tuple[str, ...]:
        """The ordered names of the parts, head last: ``("stem", "layer1", ..., "layer4", "fc")``."""
        return self.graph.stages

    @property
    def num_classes(self) -> int:
        """Size of the logits; 0 when the network ends with its features."""
        return self.graph.network.num_classes

    def __call__(self, images: Any) -> jax.Array:
        """Logits (B, num_classes) in evaluation mode, for float images (B, H, W, C), already normalised."""
        return self.graph.logits_jitted(self.params, self.batch_stats, self._checked(images))

    def answers(self, logits: jax.Array) -> jax.Array:
        """What logits (..., num_classes) mean by the model's task: probabilities that add up to one, probabilities of
        their own, or the numbers themselves.

        >>> import jaxtl, jax.numpy as jnp
        >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=2)
        >>> [model.replace(task=task).answers(jnp.zeros(2)).tolist() for task in ("class", "multi-label", "regression")]
        [[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]]
        """
        if self.task == "regression":
            return logits
        return jax.nn.sigmoid(logits) if self.task == "multi-label" else jax.nn.softmax(logits)

    def features(self, images: Any) -> jax.Array:
        """Pooled features (B, num_features) before the head, for images as ``__call__`` takes them."""
        return self.graph.features_jitted(self.params, self.batch_stats, self._checked(images))

    def intermediates(self, images: Any, stages: Iterable[str] | None = None) -> dict[str, jax.Array]:
        """What stages of the body give, in evaluation mode, for images as ``__call__`` takes them.

        Args:
            images: (B, H, W, C).
            stages: one or several names from ``stages``, the head's left out; ``None``: all. Nothing behind the last is
                computed.

        Returns:
            By stage, in the order of the network: (B, rows, columns, channels), or, of transformers on a run of tokens,
            (B, tokens, width).

        Raises:
            InputError: names that are no stage of the body.

        >>> import jaxtl, numpy as np
        >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=3)
        >>> {name: x.shape for name, x in model.intermediates(np.zeros((2, 32, 32, 3), np.float32), ["layer2"]).items()}
        {'layer2': (2, 16, 16, 32)}
        """
        wanted = self.stages[:-1] if stages is None else (stages,) if isinstance(stages, str) else tuple(stages)
        run = self.graph.remember(("intermediates", wanted), lambda: jit(partial(self.graph.stage_maps, stages=wanted)))
        found = run(self.params, self.batch_stats, self._checked(images))
        return {stage: found[stage] for stage in self.stages if stage in found}

    def apply(
        self,
        params: Tree,
        batch_stats: Tree,
        images: jax.Array,
        modes: Modes = EVALUATION,
        rng: jax.Array | None = None,
    ) -> tuple[jax.Array, Tree]:
        """``(logits, new batch_stats)`` as a pure function of its arguments, for training loops of one's own.

        ``modes`` says which BatchNorms adapt and which dropouts are active: ``jaxtl.training_modes(model, label)``.

        Raises:
            InputError: images that ``__call__`` would not take.
        """
        return self.graph.apply(params, batch_stats, self._checked(images), modes, rng)

    def replace(self, **changes: Any) -> Model:
        """The same model with other ``params``, ``batch_stats``, ``classes``, ... .

        Raises:
            InputError: parameters or statistics under other paths than those of the network, or not a name in
                ``classes`` for each of its outputs; an unknown ``task``.
        """
        if (task := changes.get("task", TASKS[0])) not in TASKS:
            raise InputError(f"task '{task}' is none of {', '.join(TASKS)}{nearest(str(task), TASKS)}")
        classes = None if changes.get("classes") is None else class_names(changes["classes"])
        new = dataclasses.replace(self, **(changes if classes is None else {**changes, "classes": classes}))
        if classes is not None and len(classes) != new.num_classes:
            raise InputError(
                f"classes has {len(classes)} names and {new.name} {new.num_classes} outputs; give one for each, or "
                "None where they have no names"
            )
        for name in changes.keys() & {"params", "batch_stats"}:
            _check_paths(new, name)
        return new

    def _checked(self, images: Any) -> Any:
        shape = jax.numpy.shape(images)
        channels = self.preprocess.channels
        if len(shape) != 4 or shape[-1] != channels:
            raise InputError(
                f"{self.name} takes images of shape (batch, height, width, {channels}), normalised floats; got {shape}"
            )
        dtype = jax.numpy.result_type(images)
        if not jax.numpy.issubdtype(dtype, jax.numpy.floating):  # layers would compute in it, weights included
            raise InputError(
                f"{self.name} takes normalised float images; got {dtype}: use jaxtl.predict for files, or for pixels "
                "from 0 to 255 jaxtl.normalise(images, model.preprocess.mean, model.preprocess.std) first"
            )
        return images

    def __repr__(self) -> str:
        count = sum(leaf.size for leaf in flatten(self.params).values())
        return (
            f"Model({self.name}, stages={'/'.join(self.stages)}, classes={self.num_classes}, "
            f"parameters={count:,}, input={'x'.join(map(str, self.preprocess.size))}x{self.preprocess.channels})"
        )


def class_names(classes: Any) -> tuple[str, ...]:
    """Names as a tuple; ``InputError`` where these are none.

    >>> class_names(["ant", "bee"])
    ('ant', 'bee')
    """
    names = () if isinstance(classes, str) or not isinstance(classes, Iterable) else tuple(classes)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"classes must be names, like ('cat', 'dog'), not {names or classes!r}")
    return names


def check_whole(model: Model) -> None:
    """``InputError`` where a model's parameters or statistics are not those of its network, by path and shape."""
    for name in ("params", "batch_stats"):
        _check_paths(model, name)
        wanted, found = getattr(model.graph, name), flatten(getattr(model, name))
        other = [
            f"{path} of shape {jax.numpy.shape(found[path])} and not {wanted[path].shape}"
            for path in wanted
            if jax.numpy.shape(found[path]) != wanted[path].shape
        ]
        if other:
            raise InputError(f"the model's {name} are not those of {model.name}: {_some(other)}")


def _check_paths(model: Model, name: str) -> None:
    wanted, found = getattr(model.graph, name), flatten(getattr(model, name))
    lacking, unknown = (
        [path for path in one if path not in other] for one, other in ((wanted, found), (found, wanted))
    )
    if lacking or unknown:
        said = [f"{_some(paths)} {verb}" for paths, verb in ((lacking, "lacking"), (unknown, "unknown")) if paths]
        remedy = "; state.params holds only what trains: use state.to_model(model)" if name == "params" else ""
        raise InputError(f"the model's {name} are not those of {model.name}: {'; '.join(said)}{remedy}")


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
