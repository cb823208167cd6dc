"""Everything a training run changes, as one pytree."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtl.errors import InputError
from jaxtl.finetune.batch_norm import Policy, modes_of
from jaxtl.finetune.labels import FROZEN
from jaxtl.finetune.optimizer import Optimizer, bound_to, groups_in, holds
from jaxtl.finetune.phases import carried
from jaxtl.model import Model
from jaxtl.trees import Tree, combine, flatten, partition, unflatten


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "frozen", "batch_stats", "opt_state", "rng", "average"],
    meta_fields=[],
)
@dataclass(frozen=True, eq=False)
class TrainState:
    """The state of a run: a plain pytree.

    Attributes:
        step: number of steps taken, int32.
        params: the trained parameters alone.
        frozen: the parameters labelled ``"frozen"``: never differentiated, never updated.
        batch_stats: statistics of all BatchNorms; those of frozen ones do not change.
        opt_state: the optimizer's state, for ``params`` only.
        rng: key that dropout is drawn from, with ``step`` folded in.
        average: moving averages of ``params`` and ``batch_stats`` under these names; empty where none are kept.
    """

    step: jax.Array
    params: Tree
    frozen: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    rng: jax.Array
    average: Tree = field(default_factory=dict)

    @classmethod
    def create(cls, model: Model, optimizer: Optimizer, seed: int = 0, *, ema: bool = False) -> TrainState:
        """The state before the first step. The arrays are copies: the model stays usable when the state is donated.

        Args:
            model: where it starts.
            optimizer: from ``jaxtl.multi_transform``.
            seed: of dropout and the like.
            ema: keep moving averages, for a train step with ``ema``.

        Raises:
            InputError: labels and transforms that do not fit together, nothing left to train, or a transform whose
                parameters are not those to evaluate (``optax.contrib.schedule_free``).

        >>> import jaxtl, optax
        >>> model = jaxtl.load("cifar_resnet20", weights=None)
        >>> head = lambda path, leaf: "fast" if path.startswith("fc") else "frozen"
        >>> state = TrainState.create(model, jaxtl.multi_transform({"fast": optax.adam(1e-3)}, head))
        >>> list(state.params), "fc" in state.frozen
        (['fc'], False)
        """
        optimizer = bound_to(optimizer, model)
        groups = groups_in(optimizer, model)
        if all(group == FROZEN for group in groups.values()):
            raise InputError("the label function freezes every parameter; give at least one path another group")
        params, frozen = partition(_copy(model.params), lambda path: groups[path] != FROZEN)
        batch_stats = _copy(model.batch_stats)
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen=frozen,
            batch_stats=batch_stats,
            opt_state=_begun(optimizer, params),
            rng=jax.random.key(seed),
            average=_copy({"params": params, "batch_stats": batch_stats}) if ema else {},
        )

    def advance(self, model: Model, optimizer: Optimizer, batch_norm: Policy = "follow") -> TrainState:
        """The state at the beginning of a phase with another optimizer, which may train other groups.

        Groups that were training keep their moments and the counts of these, others start with fresh ones. Schedules
        are the new optimizer's and begin at their start; for one that goes on, give
        ``lambda step: schedule(step + done)``. A moving average goes on;
        what stops training keeps its average, and so do the statistics of BatchNorms that stop to adapt, by the labels
        and the policy ``batch_norm`` (as in a recipe).

        Raises:
            InputError: labels and transforms that do not fit together.
        """
        optimizer = bound_to(optimizer, model)
        groups = groups_in(optimizer, model)
        settled, batch_stats = self.frozen, self.batch_stats
        if self.average:
            adapt = modes_of(model.graph, groups, batch_norm).adapt
            adapting, _ = partition(batch_stats, lambda path: path.rpartition(".")[0] in adapt)
            _, averaged_ones = partition(self.average["batch_stats"], lambda path: path.rpartition(".")[0] in adapt)
            batch_stats = combine(adapting, _copy(averaged_ones))
            still = flatten(self.average["params"])
            stopped = {path: leaf for path, leaf in still.items() if groups[path] == FROZEN}
            running, _ = partition(self.params, lambda path: path not in stopped)
            params, frozen = partition(combine(running, unflatten(stopped), settled), lambda p: groups[p] != FROZEN)
            averaged = unflatten({path: still.get(path, leaf) for path, leaf in flatten(params).items()})
            average = _copy({"params": averaged, "batch_stats": self.average["batch_stats"]})
        else:
            params, frozen = partition(self.all_params, lambda path: groups[path] != FROZEN)
            average = {}
        opt_state = carried(self.opt_state, _begun(optimizer, params))
        return self.replace(params=params, frozen=frozen, batch_stats=batch_stats, opt_state=opt_state, average=average)

    @property
    def all_params(self) -> Tree:
        """Trained and frozen parameters in one tree, as ``model.params``."""
        return combine(self.params, self.frozen)

    @property
    def averaged(self) -> TrainState:
        """The state with its moving averages in place of parameters and statistics; itself where there are none."""
        return self.replace(average={}, **self.average) if self.average else self

    def replace(self, **changes: Any) -> TrainState:
        """The same state with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_model(self, model: Model) -> Model:
        """The model with this state's parameters and statistics, or their moving averages where it has some, copied."""
        state = self.averaged
        return model.replace(params=_copy(state.all_params), batch_stats=_copy(state.batch_stats))


def _begun(optimizer: Optimizer, params: Tree) -> optax.OptState:
    """The optimizer's state before its first step, by one program: array by array JAX would compile one for each shape,
    and each would take more than a megabyte of memory to the end of the process."""
    state = _copy(jax.jit(optimizer.init)(params))
    if holds(state, optax.contrib.ScheduleFreeState):
        raise InputError(
            "optax.contrib.schedule_free keeps the parameters to evaluate apart from those it trains, and evaluation "
            "and to_model would take the wrong ones; use another transform, with moving averages (ema) if you like"
        )
    return state


def _copy(tree: Any) -> Any:
    return jax.tree.map(_copied, tree)


def _copied(leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
        return jax.device_put(leaf, may_alias=False)  # without a program, of which jnp.array needs one for each shape
    return jnp.array(leaf, copy=True)
