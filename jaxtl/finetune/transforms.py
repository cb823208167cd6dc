"""The optimizer that a recipe's entry describes, with a learning rate that may be given from outside at each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtl.errors import InputError, nearest
from jaxtl.recipe import LAMB, LARS, SGD, Adafactor, Adam, AdamW, AnyOptimizer, Lion, Muon


class TransformState(NamedTuple):
    """The state of one group's transform.

    Attributes:
        step: number of updates so far, int32; a schedule's step.
        inner: the state of optax's optimizer. Its arrays lie in trees like the parameters', under their paths.
    """

    step: jax.Array
    inner: optax.OptState


def make_transform(entry: AnyOptimizer, group: str, schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """The transform of a group, ``update(gradients, state, params, *, rates=None)``.

    The rate of an update is ``rates[group]``, and without ``rates`` the schedule's at the transform's own step.
    It may be an array, so that no rate costs a compilation, and 0, with which no parameter moves.

    For every optimizer the update is optax's for a rate of 1, times the rate. So weight decay is always multiplied by
    the rate, and a new rate acts at once: optax's own ``adafactor`` decays without the rate, and its ``lars`` and its
    ``adafactor`` with momentum have former rates in their momentum. All else is as optax has it:

    - ``adam`` and ``sgd`` add weight decay to the gradient, as torch does; the others keep it apart from the gradient's
      statistics (``lars``: before its trust ratio).
    - ``lamb`` and ``lars`` apply their trust ratio to all arrays, norms and biases included.
    - ``adafactor`` takes the rate relative to an array's own size, its root mean square, at least 0.001.
    - ``muon`` orthogonalises kernels as matrices of (all other axes) x (last axis), which for a convolution is
      (H * W * I, O); norms and biases go by AdamW at the same rate.

    Weight decay and ``l2_sp`` act on kernels alone, not on norms, biases, tokens and position embeddings, and with
    ``decay_norm_and_bias`` on everything. ``l2_sp`` adds ``l2_sp * (w - w_start)`` to the gradient (Li, Grandvalet and
    Davoine 2018, arXiv:1802.01483); ``w_start``, the parameters that ``init`` saw, is held in the state. Neither is
    part of the gradients that a recipe's ``clip_norm`` limits.

    Raises:
        InputError: by ``update``: ``rates`` without this group, or no ``params``.

    >>> params = {"fc": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    >>> transform = make_transform(AdamW(lr=0.1, weight_decay=0.5), "fast", optax.constant_schedule(0.1))
    >>> state = transform.init(params)
    >>> no_gradient = jax.tree.map(jnp.zeros_like, params)
    >>> updates, state = transform.update(no_gradient, state, params)
    >>> round(float(updates["fc"]["kernel"][0, 0]), 6), bool(updates["fc"]["bias"].any()), int(state.step)
    (-0.05, False, 1)
    >>> updates, state = transform.update(no_gradient, state, params, rates={"fast": 0.01})
    >>> round(float(updates["fc"]["kernel"][0, 0]), 6)
    -0.005
    """
    inner = optax.with_extra_args_support(_at_rate_one(entry))

    def init(params: optax.Params) -> TransformState:
        return TransformState(jnp.zeros((), jnp.int32), inner.init(params))

    def update(
        updates: optax.Updates,
        state: TransformState,
        params: optax.Params | None = None,
        *,
        rates: Mapping[str, jax.typing.ArrayLike] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, TransformState]:
        if params is None:
            raise InputError(f"the optimizer of the group {group!r} needs the parameters: update(..., state, params)")
        if rates is not None and group not in rates:
            raise InputError(
                f"rates has none for the group {group!r}, only for {', '.join(map(repr, rates)) or 'no group'}"
                + nearest(group, rates)
            )
        rate = schedule(state.step) if rates is None else rates[group]
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        updates = jax.tree.map(lambda leaf: (rate * leaf).astype(leaf.dtype), updates)
        return updates, TransformState(optax.safe_increment(state.step), inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


_KERNELS = ("kernel", "weight")  # the second are kernels with axes of their own


def kernels(params: optax.Params) -> Any:
    """True for the arrays that activations are multiplied with: no norm's parameter, no bias, no embedding or token.

    >>> kernels({"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "pos_embed": jnp.ones((1, 4, 2))})
    {'bias': False, 'kernel': True, 'pos_embed': False}
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf.ndim > 1 and path[-1].key in _KERNELS, params)


def _at_rate_one(entry: AnyOptimizer) -> optax.GradientTransformation:
    mask = None if entry.decay_norm_and_bias else kernels
    pulls = []
    if entry.l2_sp:
        pull = _towards_start(entry.l2_sp)
        pulls.append(pull if mask is None else optax.masked(pull, mask))
    if isinstance(entry, Adam | SGD):
        pulls.append(optax.add_decayed_weights(entry.weight_decay, mask))
    return optax.chain(*pulls, _optimizer(entry, mask))


def _optimizer(entry: AnyOptimizer, mask: Any) -> optax.GradientTransformation:
    decay = entry.weight_decay
    match entry:
        case AdamW():
            return optax.adamw(1.0, entry.b1, entry.b2, entry.eps, weight_decay=decay, mask=mask)
        case Adam():
            return optax.adam(1.0, entry.b1, entry.b2, entry.eps)
        case SGD():
            return optax.sgd(1.0, momentum=entry.momentum or None, nesterov=entry.nesterov)
        case LAMB():
            return optax.lamb(1.0, entry.b1, entry.b2, entry.eps, weight_decay=decay, mask=mask)
        case LARS():
            return optax.lars(1.0, decay, mask, trust_coefficient=entry.trust_coefficient, momentum=entry.momentum)
        case Lion():
            return optax.lion(1.0, entry.b1, entry.b2, weight_decay=decay, mask=mask)
        case Adafactor():
            return optax.adafactor(1.0, momentum=entry.momentum, weight_decay_rate=decay, weight_decay_mask=mask)
        case Muon():
            return _muon(entry)


def _muon(entry: Muon) -> optax.GradientTransformation:
    """Muon and AdamW side by side: optax's ``muon`` alone would give norms and biases AdamW with Nesterov momentum."""
    muon = optax.contrib.muon(
        1.0, beta=entry.momentum, weight_decay=entry.weight_decay, muon_weight_dimension_numbers=_as_matrices
    )
    decay = entry.weight_decay if entry.decay_norm_and_bias else 0.0
    adamw = optax.adamw(1.0, entry.b1, entry.b2, weight_decay=decay)

    def kinds(params: optax.Params) -> Any:
        return jax.tree.map(lambda is_kernel: "kernels" if is_kernel else "others", kernels(params))

    return optax.partition({"kernels": muon, "others": adamw}, kinds)


def _as_matrices(params: optax.Params) -> Any:
    def axes(leaf: Any) -> optax.contrib.MuonDimensionNumbers:
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree.map(axes, params)


def _towards_start(strength: float) -> optax.GradientTransformation:
    """L2-SP; its state is a copy of the parameters: a step that donates its state cannot take an array twice."""

    def init(params: optax.Params) -> optax.Params:
        return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)

    def update(updates: optax.Updates, start: optax.Params, params: optax.Params | None = None) -> Any:
        pulled = jax.tree.map(lambda gradient, w, w0: gradient + strength * (w - w0), updates, params, start)
        return pulled, start

    return optax.GradientTransformation(init, update)
