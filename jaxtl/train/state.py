"""Everything a training run changes, as one pytree."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxtl.errors import InputError
from jaxtl.finetune.labels import FROZEN
from jaxtl.finetune.optimizer import Optimizer, groups_in
from jaxtl.model import Model
from jaxtl.trees import Tree, combine, partition


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "frozen", "batch_stats", "opt_state", "rng"],
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
    """

    step: jax.Array
    params: Tree
    frozen: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    rng: jax.Array

    @classmethod
    def create(cls, model: Model, optimizer: Optimizer, seed: int = 0) -> TrainState:
        """The state before the first step. The arrays are copies: the model stays usable when the state is donated.

        Raises:
            InputError: labels and transforms that do not fit together, or nothing left to train.

        >>> import jaxtl, optax
        >>> model = jaxtl.load("cifar_resnet20", weights=None)
        >>> head = lambda path, leaf: "fast" if path.startswith("fc") else "frozen"
        >>> state = TrainState.create(model, jaxtl.multi_transform({"fast": optax.adam(1e-3)}, head))
        >>> list(state.params), "fc" in state.frozen
        (['fc'], False)
        """
        groups = groups_in(optimizer, model)
        if all(group == FROZEN for group in groups.values()):
            raise InputError("the label function freezes every parameter; give at least one path another group")
        params, frozen = partition(_copy(model.params), lambda path: groups[path] != FROZEN)
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen=frozen,
            batch_stats=_copy(model.batch_stats),
            opt_state=jax.tree.map(jnp.array, optimizer.init(params)),
            rng=jax.random.key(seed),
        )

    @property
    def all_params(self) -> Tree:
        """Trained and frozen parameters in one tree, as ``model.params``."""
        return combine(self.params, self.frozen)

    def replace(self, **changes: Any) -> TrainState:
        """The same state with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_model(self, model: Model) -> Model:
        """The model with this state's parameters and statistics, copied."""
        return model.replace(params=_copy(self.all_params), batch_stats=_copy(self.batch_stats))


def _copy(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
