"""One transform per group of parameters, on top of ``optax.multi_transform``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtl.errors import InputError
from jaxtl.finetune.labels import FROZEN, Label, Unbound, by_group, check_label, groups_of, label_of, some_paths
from jaxtl.model import Model
from jaxtl.models.graph import Graph
from jaxtl.trees import map_with_path

ByScale = Callable[[float], optax.GradientTransformation | optax.MultiSteps]
"""From the factor of a group's rate to its transform."""


class Optimizer(optax.GradientTransformationExtraArgs):
    """An optax transformation that knows its groups: use it wherever optax takes one.

    Attributes:
        label: the label function, or one that ``bind`` still has to tell the network.
        transforms: the transform of each trained group; where ``multi_transform`` got a function, none until ``bind``.
        rates: each group's rate as a function of the step, where it is known (recipes set it); else empty.
        clip_norm: limit of the global norm of the trained parameters' gradients, or None.
    """

    label: Label | Unbound
    transforms: dict[str, optax.GradientTransformation]
    rates: dict[str, optax.Schedule]
    clip_norm: float | None
    _by_scale: ByScale | None

    def bind(self, graph: Graph) -> Optimizer:
        """The optimizer for one network; the optimizer itself where its label needs no network.

        It depends on the graph alone: bound twice, the states have the same structure.

        Raises:
            InputError: what the label says of parts that the network does not have.
        """
        if not isinstance(self.label, Unbound):
            return self
        transforms: Mapping[str, optax.GradientTransformation | optax.MultiSteps] = self.transforms
        if self._by_scale is not None:
            transforms = {group: self._by_scale(scale) for group, scale in _scales(self.label, graph).items()}
        optimizer = multi_transform(transforms, self.label.bind(graph), clip_norm=self.clip_norm)
        optimizer.rates = self.rates
        return optimizer

    def groups(self, params: Mapping[str, Any]) -> dict[str, str]:
        """The group of each parameter, by path, checked against the transforms.

        Raises:
            InputError: a group without a transform, a transform that no path uses, a label that is no name. All
                of them are listed, with their paths. Or an optimizer that is not bound to a network yet.
        """
        groups = groups_of(params, self.label)
        paths = by_group(groups)
        problems = [
            f"no transform for the group {group!r}, which the label function gives to {some_paths(members)}"
            for group, members in paths.items()
            if group != FROZEN and group not in self.transforms
        ]
        beginnings = some_paths(sorted({path.partition(".")[0] for path in groups}), most=12)
        problems += [
            f"no parameter is in the group {group!r}, which has a transform; the groups in use are "
            f"{', '.join(map(repr, paths))} (the paths begin with {beginnings})"
            for group in self.transforms
            if group not in paths
        ]
        if problems:
            raise InputError("the label function and the transforms do not fit together: " + "; ".join(problems))
        return groups


def multi_transform(
    transforms: Mapping[str, optax.GradientTransformation | optax.MultiSteps] | ByScale,
    label: Label | Unbound,
    *,
    clip_norm: float | None = None,
) -> Optimizer:
    """One transform per group; parameters labelled ``"frozen"`` get no update and hold no optimizer memory.

    What ``optimizer.update`` gets besides gradients, state and parameters goes on to every transform that takes it.

    Args:
        transforms: group -> an optax transformation that gets by with gradients, parameters and the loss (``value``);
            so no line search, no ``optax.lookahead``. ``"frozen"`` needs none; ``optax.set_to_zero()`` is accepted.
            Or, for labels that scale rates, a function from a group's factor to its transformation:
            ``lambda scale: optax.adamw(1e-3 * scale)`` with ``jaxtl.labels.layerwise()``.
        label: ``label(path, leaf) -> group``, with paths like ``"layer4.2.conv3.kernel"``, or one of ``jaxtl.labels``.
        clip_norm: limit of the global norm of the trained parameters' gradients; frozen ones do not count.

    Raises:
        InputError: what is no optax transformation, or one for ``"frozen"`` that would move parameters. Whatever else
            does not fit is said by ``init``, ``jaxtl.TrainState.create`` and ``jaxtl.make_train_step``, which see
            the parameters.

    >>> import jax.numpy as jnp, optax
    >>> optimizer = multi_transform({"fast": optax.sgd(0.1)}, lambda path, _: "fast" if "fc" in path else "frozen")
    >>> params = {"conv1": {"kernel": jnp.ones(2)}, "fc": {"bias": jnp.ones(2)}}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> updates["conv1"]["kernel"].tolist(), [round(float(u), 3) for u in updates["fc"]["bias"]]
    ([-0.0, -0.0], [-0.1, -0.1])
    """
    check_label(label)
    by_scale = None if isinstance(transforms, Mapping) else _checked_function(transforms, label)
    given = {
        group: transform.gradient_transformation() if isinstance(transform, optax.MultiSteps) else transform
        for group, transform in (transforms.items() if isinstance(transforms, Mapping) else ())
    }
    wrong = [group for group, transform in given.items() if not isinstance(transform, optax.GradientTransformation)]
    if wrong:
        raise InputError(f"no optax transformation: {', '.join(map(repr, wrong))}; give for example optax.adamw(1e-3)")
    trained = {group: transform for group, transform in given.items() if group != FROZEN}
    if FROZEN in given and not _does_nothing(given[FROZEN]):
        raise InputError(
            'the group "frozen" is never updated, and the transform given for it would update it; '
            "remove it or give the group another name"
        )

    def labels(tree: Mapping[str, Any]) -> dict[str, Any]:
        return map_with_path(lambda path, leaf: label(path, leaf), tree)

    inner = optax.multi_transform({**trained, FROZEN: _no_update()}, labels)
    if clip_norm is not None:
        only_trained = dict.fromkeys(trained, optax.identity()) | {FROZEN: _no_update()}
        inner = optax.chain(optax.multi_transform(only_trained, labels), optax.clip_by_global_norm(clip_norm), inner)

    def init(params: Mapping[str, Any]) -> optax.OptState:
        optimizer.groups(params)
        state = inner.init(params)
        if holds(state, optax.LookaheadState):
            raise InputError(
                "optax.lookahead trains two sets of parameters, and there is one: give the transform inside it alone, "
                "with moving averages (ema) if you like"
            )
        return state

    optimizer = Optimizer(init, optax.with_extra_args_support(inner).update)
    optimizer.label = label
    optimizer.transforms = trained
    optimizer.rates = {}
    optimizer.clip_norm = clip_norm
    optimizer._by_scale = by_scale
    return optimizer


def holds(state: optax.OptState, kind: type) -> bool:
    """Whether an optimizer's state has one of a kind in it.

    >>> holds(optax.adam(0.1).init({"bias": jnp.ones(1)}), optax.ScaleByAdamState)
    True
    """
    return any(isinstance(node, kind) for node in jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kind)))


def bound_to(optimizer: Any, model: Model) -> Optimizer:
    """The optimizer bound to a model's network, and to its parameters where the label goes by their values.

    Raises:
        InputError: an optimizer that knows no groups, or what its label says of parts that the network does not have.
    """
    if not isinstance(optimizer, Optimizer):
        raise InputError(
            f"the optimizer is a {type(optimizer).__name__} and knows no groups; "
            'make it with jaxtl.multi_transform({"fast": optax.adamw(1e-3)}, label)'
        )
    bound = optimizer.bind(model.graph)
    if not _goes_by_values(bound.label, model.params):
        return bound
    groups = groups_of(model.params, bound.label)
    fixed = multi_transform(bound.transforms, label_of(groups, model.graph), clip_norm=bound.clip_norm)
    fixed.rates = bound.rates
    return fixed


def _goes_by_values(label: Label, params: Mapping[str, Any]) -> bool:
    """Whether a label cannot tell a group by path, shape and type; optax asks it again where there is no more."""
    try:
        jax.eval_shape(lambda tree: (groups_of(tree, label), None)[1], params)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):
        return True
    return False


def groups_in(optimizer: Any, model: Model) -> dict[str, str]:
    """The checked groups of a model's parameters by path; ``InputError`` for an optimizer that knows no groups."""
    return bound_to(optimizer, model).groups(model.params)


def _checked_function(function: Any, label: Label | Unbound) -> ByScale:
    if not callable(function):
        raise InputError(
            f"transforms is a {type(function).__name__}; give a transformation for each group, like "
            '{"fast": optax.adamw(1e-3)}, or a function of the scale for jaxtl.labels.layerwise()'
        )
    if not hasattr(label, "scales"):
        raise InputError(
            "a function from scale to transformation needs a label that has scales, like jaxtl.labels.layerwise(0.75); "
            'for this one give a transformation for each group, like {"fast": optax.adamw(1e-3)}'
        )
    return function


def _scales(label: Any, graph: Graph) -> dict[str, float]:
    return label.scales(graph)


def _no_update() -> optax.GradientTransformation:
    """Updates of -0.0: adding it keeps the sign of -0.0, which adding 0.0 does not.

    Numbers below float32's normal range are beyond any update: outside jit, XLA on a CPU takes them for 0 when it adds.
    """
    return optax.stateless(lambda updates, params: jax.tree.map(lambda leaf: jnp.full_like(leaf, -0.0), updates))


def _does_nothing(transform: optax.GradientTransformation) -> bool:
    params = {"kernel": jnp.ones((1, 1))}
    updates, _ = transform.update(params, transform.init(params), params)
    return not np.any(np.asarray(updates["kernel"]))
