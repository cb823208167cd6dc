"""Checkpoints of a run: the latest, to continue from, and the best."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxtl.errors import InputError
from jaxtl.judged import score
from jaxtl.train.interrupts import held_back
from jaxtl.train.state import TrainState

Records = list[dict[str, Any]]


class Checkpoints:
    """The checkpoints of one run, in Orbax's layout, one an epoch; only the latest and the best are kept.

    Args:
        folder: where; made when the first one is saved.
        identity: what must be the same for a run to be continued, as JSON. A run saved with another is refused.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        import orbax.checkpoint as ocp
        from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

        logging.getLogger("absl").setLevel(logging.ERROR)
        self._ocp = ocp
        self._identity = identity

        def best(metrics: dict[str, float]) -> float:
            return metrics["score"]

        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(1), BestN(get_metric_fn=best, n=1)]),
            best_fn=best,
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self._folder = folder

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """The last epoch that was saved whole; None before the first."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The best epoch by validation, the latest of several."""
        return self._manager.best_step()

    def save(self, epoch: int, state: TrainState, history: Records) -> None:
        """Saves the state after an epoch. When this returns it is on disk, whole; a Ctrl-C meanwhile waits for it."""
        args = self._ocp.args.Composite(
            state=self._ocp.args.StandardSave(_storable(state)),
            run=self._ocp.args.JsonSave({"identity": self._identity, "history": history}),
        )
        with held_back():
            self._manager.save(epoch, args=args, metrics={"score": score(history[-1])}, force=True)

    def records(self, epoch: int) -> Records:
        """The history as it was saved after an epoch."""
        return self._run(epoch)["history"]

    def _run(self, epoch: int) -> dict[str, Any]:
        with held_back():
            return self._manager.restore(epoch, args=self._ocp.args.Composite(run=self._ocp.args.JsonRestore()))["run"]

    def restore(self, epoch: int, like: TrainState) -> tuple[TrainState, Records]:
        """The state and the history as they were saved after an epoch. The state's arrays are NumPy's: how many copies
        a device has room for is the caller's to know.

        Args:
            epoch: of a checkpoint.
            like: a state of the same shapes and types, of arrays or of ``jax.ShapeDtypeStruct``.

        Raises:
            InputError: as ``check``.
        """
        self.check(epoch)
        example = jax.tree.map(_on_host, jax.eval_shape(_storable, like))
        args = self._ocp.args.Composite(state=self._ocp.args.StandardRestore(example))
        with held_back():
            stored = self._manager.restore(epoch, args=args)["state"]
        leaves, structure = jax.tree.flatten(like.opt_state)
        state = like.replace(
            step=stored["step"],
            params=stored.get("params", {}),
            frozen=stored.get("frozen", {}),
            batch_stats=stored.get("batch_stats", {}),
            opt_state=jax.tree.unflatten(structure, [stored["opt_state"][str(i)] for i in range(len(leaves))]),
            rng=jax.random.wrap_key_data(stored["rng"]),
            average={**like.average, **stored.get("average", {})},
        )
        return state, self.records(epoch)

    def check(self, epoch: int) -> None:
        """Refuses a checkpoint of another run.

        Raises:
            InputError: it belongs to a run with another recipe, data or model; every difference is named.
        """
        check_same(self._run(epoch)["identity"], self._identity, str(self._folder))


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], place: str, *, all_of_it: bool = True) -> None:
    """Refuses to go on with another run than the one that was saved.

    Args:
        before: the identity of that.
        now: of this.
        place: where that was saved.
        all_of_it: whether what ``now`` has not is a difference too.

    Raises:
        InputError: every difference is named.

    >>> check_same({"seed": 1, "data": "12ab"}, {"seed": 1}, "out", all_of_it=False)
    >>> check_same({"seed": 1}, {"seed": 2}, "out")
    Traceback (most recent call last):
    jaxtl.errors.InputError: out holds another run, so it cannot be continued: seed: 1 then, 2 now. Restore these \
settings, or choose another output
    """
    different = {
        key: f"{key}: {before.get(key)!r} then, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys() if all_of_it else now.keys())
        if before.get(key) != now.get(key)
    }
    if None in (before.get("eval_batch_size"), now.get("eval_batch_size")):
        different.pop("eval_batch_size", None)  # which counts where something else says so
    if "images" in different:
        different.pop("data", None)  # which follows
    if len(different) > 1:
        different.pop("features", None)  # which follow from the rest
    if "data" not in different:
        different.pop("storage", None)  # it changes no pixels
    if different:
        raise InputError(
            f"{place} holds another run, so it cannot be continued: {'; '.join(different.values())}. "
            "Restore these settings, or choose another output"
        )


def saved_identity(folder: Path) -> dict[str, Any]:
    """The identity of the run whose checkpoints lie in a folder; empty where there are none.

    >>> saved_identity(Path("nowhere"))
    {}
    """
    if not folder.is_dir():
        return {}
    with Checkpoints(folder, {}) as saved:
        return {} if saved.latest is None else saved._run(saved.latest)["identity"]


def _storable(state: TrainState) -> dict[str, Any]:
    """The state as nested dicts of arrays, without empty ones."""
    stored = {
        "step": state.step,
        "params": state.params,
        "frozen": state.frozen,
        "batch_stats": state.batch_stats,
        "opt_state": {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(state.opt_state))},
        "rng": jax.random.key_data(state.rng),
        "average": {name: tree for name, tree in state.average.items() if tree},
    }
    return {key: value for key, value in stored.items() if not isinstance(value, dict) or value}


def _on_host(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """By which Orbax knows shape and type, and that it is to restore to NumPy; it takes no memory."""
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)
