"""What an optimizer does to a model, stage by stage, before the first step."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtl.finetune.batch_norm import Policy, modes_of
from jaxtl.finetune.first_update import STEPS, first_updates
from jaxtl.finetune.labels import FROZEN, by_group
from jaxtl.finetune.optimizer import Optimizer, bound_to, groups_in
from jaxtl.model import Model
from jaxtl.trees import flatten, unflatten


@dataclass(frozen=True)
class Row:
    """One group within one stage.

    Attributes:
        rate: size of the first update for a gradient of 1, as measured; with a schedule, at its peak.
        decay: weight decay over the rate, as measured: (smallest, largest) over the row's parameters.
        decay_in_gradient: there is weight decay, but its size cannot be told because the update normalises it
            together with the gradient, as in Adam with L2 or in LAMB; ``decay`` is None then.
        batch_norms: how many BatchNorms adapt, and how many keep their stored statistics. Their scale and bias
            train unless the group is "frozen".
        parameters: how many numbers.
        bytes: of the parameters.
        optimizer_bytes: of the optimizer's state for them.
    """

    stage: str
    group: str
    rate: float | None
    decay: tuple[float, float] | None
    batch_norms: tuple[int, int]
    parameters: int
    bytes: int
    optimizer_bytes: int
    decay_in_gradient: bool = False


@dataclass(frozen=True)
class Explanation:
    """``explain``'s answer: rows as data, and a table as text."""

    model: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def trained(self) -> int:
        """Number of trained parameters."""
        return sum(row.parameters for row in self.rows if row.group != FROZEN)

    def __str__(self) -> str:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        total = sum(row.parameters for row in self.rows)
        table = Table(title=f"{self.model}: trains {self.trained:,} of {total:,} parameters", box=box.SIMPLE_HEAD)
        for column in ("stage", "group", "rate", "weight decay", "BatchNorm"):
            table.add_column(column, no_wrap=True)
        for column in ("parameters", "MB", "optimizer MB"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(
                row.stage,
                row.group,
                "-" if row.rate is None else f"{row.rate:.3g}",
                "in the gradient" if row.decay_in_gradient else _decay_text(row.decay),
                _norm_text(*row.batch_norms, trained=row.group != FROZEN),
                f"{row.parameters:,}",
                f"{row.bytes / 1e6:.2f}",
                f"{row.optimizer_bytes / 1e6:.2f}",
            )
        text = io.StringIO()
        Console(file=text, width=140).print(table)
        return "\n".join(line.rstrip() for line in [*text.getvalue().splitlines(), *self.notes]).strip("\n")


def explain(model: Model, optimizer: Optimizer, batch_norm: Policy = "follow") -> Explanation:
    """The whole decision as a table: per stage its group, rate, weight decay, BatchNorm mode, counts and bytes.

    Rates and weight decays are not read off settings but measured: each group's transform gets a gradient of 1 and a
    parameter of 0, and the other way round. With a schedule it is measured at its peak, which for one of optax's is
    that of the first 100,000 steps, and accumulated gradients are given until they make an update.

    Args:
        model: that would be trained.
        optimizer: from ``jaxtl.multi_transform``.
        batch_norm: policy for the statistics, as ``jaxtl.training_modes`` takes it.

    Raises:
        InputError: labels and transforms that do not fit together, or a policy that does not fit the network.

    >>> import jaxtl, optax
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> head = lambda path, leaf: "fast" if path.startswith("fc") else "frozen"
    >>> explanation = explain(model, jaxtl.multi_transform({"fast": optax.adamw(1e-3, weight_decay=0.1)}, head))
    >>> row = explanation.rows[-1]
    >>> row.stage, row.group, round(row.rate, 6), round(row.decay[0], 3)
    ('fc', 'fast', 0.001, 0.1)
    """
    optimizer = bound_to(optimizer, model)
    groups = groups_in(optimizer, model)
    params = flatten(model.params)
    adapt = modes_of(model.graph, groups, batch_norm).adapt
    state_bytes = _state_bytes(optimizer, groups, params)
    rates, decays = _measured(optimizer, groups, params)
    members: dict[tuple[str, str], list[str]] = {}
    for path in sorted(params, key=model.graph.depth_of, reverse=True):
        members.setdefault((model.graph.stage_of(path), groups[path]), []).append(path)
    rows = []
    for (stage, group), paths in members.items():
        norms = [norm for norm in model.graph.batch_norms if f"{norm}.scale" in paths]
        moving = sum(norm in adapt for norm in norms)
        known = [decay for path in paths if (decay := decays.get(path)) is not None]
        in_gradient = any(path in decays and decays[path] is None for path in paths)
        rows.append(
            Row(
                stage=stage,
                group=group,
                rate=rates.get(group),
                decay=(min(known), max(known)) if known and not in_gradient else None,
                decay_in_gradient=in_gradient,
                batch_norms=(moving, len(norms) - moving),
                parameters=sum(params[path].size for path in paths),
                bytes=sum(params[path].nbytes for path in paths),
                optimizer_bytes=sum(state_bytes.get(path, 0) for path in paths),
            )
        )
    return Explanation(model.name, tuple(rows), model.notes)


def _measured(
    optimizer: Optimizer, groups: dict[str, str], params: dict[str, Any]
) -> tuple[dict[str, float], dict[str, float | None]]:
    """The rate of each group, and the weight decay of each path relative to it; None: it is there, of unknown size.

    A decay beside the gradient is the same whatever the gradient is, so opposite gradients leave it as their mean.
    """
    standing_for = {group: _probed(group, optimizer, groups, params) for group in optimizer.transforms}
    found = jax.device_get(jax.jit(lambda: _first_updates(optimizer, standing_for, params))())
    rates: dict[str, float] = {}
    decays: dict[str, float | None] = {}
    for group, paths in standing_for.items():
        pull, decay, up, down = ({path: four[i] for path, four in flatten(found[group]).items()} for i in range(4))
        first = max(float(np.abs(update).max()) for update in pull.values())
        known = optimizer.rates.get(group)
        rates[group] = first if known is None else _peak(known)
        for probed, members in paths.items():
            beside = np.allclose((up[probed] + down[probed]) / 2, decay[probed], rtol=1e-3, atol=1e-6 * first)
            size = float(np.abs(decay[probed]).max())
            over = size / first if known is None and first else size
            decays.update(dict.fromkeys(members, over if beside else None))
    return rates, decays


def _probed(group: str, optimizer: Optimizer, groups: dict[str, str], params: dict[str, Any]) -> dict[str, list[str]]:
    """The paths that are measured, each with those that it stands for.

    A recipe's transforms tell arrays apart by their name and number of axes alone; any other may have a mask by path.
    """
    standing_for: dict[Any, list[str]] = {}
    for path in by_group(groups)[group]:
        kind = (path.rpartition(".")[2], params[path].ndim)
        standing_for.setdefault(kind if group in optimizer.rates else path, []).append(path)
    return {paths[0]: paths for paths in standing_for.values()}


def _first_updates(
    optimizer: Optimizer, standing_for: dict[str, dict[str, list[str]]], params: dict[str, Any]
) -> dict[str, Any]:
    """Each group's updates (4, ...) for a gradient of 1, for a parameter of 1, and for both, the gradient up and down.

    At a rate of 1 where the transform takes one.
    """
    given = jnp.array([1.0, 0.0, 1.0, -1.0]), jnp.array([0.0, 1.0, 1.0, 1.0])
    found = {}
    for group, transform in optimizer.transforms.items():
        like = unflatten({path: jnp.ones((1,) * params[path].ndim) for path in standing_for[group]})
        extra: dict[str, Any] = {"rates": {group: 1.0}} if group in optimizer.rates else {}
        found[group] = first_updates(transform, like, given, value=1.0, **extra)
    return found


def _peak(rate: Any) -> float:
    return float(jnp.max(jax.vmap(rate)(jnp.asarray(STEPS))))


def _state_bytes(optimizer: Optimizer, groups: dict[str, str], params: dict[str, Any]) -> dict[str, int]:
    """Bytes of the optimizer's state by parameter path."""
    trained = unflatten({path: params[path] for path in params if groups[path] != FROZEN})
    state = jax.eval_shape(optimizer.init, trained)
    found: dict[str, int] = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        names = [str(key.key) for key in keys if isinstance(key, jax.tree_util.DictKey)]
        path = next((".".join(names[i:]) for i in range(len(names)) if ".".join(names[i:]) in params), None)
        if path is not None:
            found[path] = found.get(path, 0) + leaf.size * leaf.dtype.itemsize
    return found


def _decay_text(decay: tuple[float, float] | None) -> str:
    if decay is None:
        return "-"
    low, high = (f"{value:.3g}" for value in decay)
    return low if low == high else f"{high} ({low} on norms, biases)"


def _norm_text(adapting: int, stored: int, *, trained: bool) -> str:
    if trained:
        parts = [(adapting, "adapt"), (stored, "frozen stats" if adapting else "frozen stats, affine trained")]
    else:
        parts = [(adapting, "adapt, affine frozen"), (stored, "frozen")]
    return ", ".join(f"{count} {mode}" for count, mode in parts if count) or "-"
