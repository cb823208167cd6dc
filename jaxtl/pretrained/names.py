"""The one table between PyTorch's names and Flax's, for every architecture and in both directions.

Modules carry timm's attribute names, so a torch name and a jaxtl path differ in the leaf alone: ``layer1.0.bn1.weight``
is ``layer1.0.bn1.scale``, ``layer1.0.conv1.weight`` is ``layer1.0.conv1.kernel`` with its axes in Flax's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxtl.errors import InputError
from jaxtl.trees import flatten


@dataclass(frozen=True)
class Rule:
    """How one kind of leaf is called in torch, and where its axes go. Keys of ``to_flax`` are numbers of axes."""

    torch_name: str
    to_flax: Mapping[int, tuple[int, ...]]


_AXES = {
    2: (1, 0),  # linear: (out, in) -> (in, out)
    3: (2, 1, 0),  # conv1d: (out, in, width) -> (width, in, out)
    4: (2, 3, 1, 0),  # conv2d: (out, in, height, width) -> (height, width, in, out)
}

RULES: dict[str, Rule] = {
    "kernel": Rule("weight", _AXES),
    "scale": Rule("weight", {}),
    "mean": Rule("running_mean", {}),
    "var": Rule("running_var", {}),
}
"""Flax's leaf name -> torch's. A leaf that is not listed keeps its name and its axes."""

COUNTER = "num_batches_tracked"
"""torch's BatchNorm step counter: nothing in Flax reads it."""


def torch_name(path: str) -> str:
    """torch's name for the leaf at a path.

    >>> torch_name("layer1.0.bn1.mean"), torch_name("fc.kernel"), torch_name("fc.bias")
    ('layer1.0.bn1.running_mean', 'fc.weight', 'fc.bias')
    """
    parent, _, leaf = path.rpartition(".")
    name = RULES[leaf].torch_name if leaf in RULES else leaf
    return f"{parent}.{name}" if parent else name


def to_flax(path: str, array: np.ndarray) -> np.ndarray:
    """A torch array with its axes in the order of the leaf at ``path``; a view, nothing is copied.

    >>> to_flax("conv1.kernel", np.zeros((64, 3, 7, 7))).shape
    (7, 7, 3, 64)
    """
    axes = _axes(path, array.ndim)
    return array if axes is None else array.transpose(axes)


def to_torch(path: str, array: np.ndarray) -> np.ndarray:
    """The inverse of ``to_flax``.

    >>> to_torch("conv1.kernel", np.zeros((7, 7, 3, 64))).shape
    (64, 3, 7, 7)
    """
    axes = _axes(path, array.ndim)
    return array if axes is None else array.transpose(np.argsort(axes))


def _axes(path: str, ndim: int) -> tuple[int, ...] | None:
    rule = RULES.get(path.rpartition(".")[2])
    return rule.to_flax.get(ndim) if rule else None


def convert(
    source: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], where: str = "the weights"
) -> dict[str, np.ndarray]:
    """Arrays by path, converted from a torch state dict, strictly in both directions.

    All names and shapes are compared before the first array is read; arrays are then read one at a time.

    Args:
        source: torch name -> array. Has it a method ``shapes()``, that is asked instead of each array.
        shapes: path -> shape, for every leaf that must be filled.
        where: what the source is, for the message.

    Raises:
        InputError: when any leaf is missing, unused or of another shape; the message lists all of them. Or when one
            holds whole numbers.

    >>> arrays = convert({"fc.weight": np.ones((5, 8))}, {"fc.kernel": (8, 5)})
    >>> arrays["fc.kernel"].shape, arrays["fc.kernel"].dtype
    ((8, 5), dtype('float32'))
    """
    return dict(converted(source, shapes, where))


def converted(
    source: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], where: str = "the weights", remedy: str = ""
) -> Iterator[tuple[str, np.ndarray]]:
    """The items of ``convert``, one array in memory at a time. The arrays are copies. ``remedy`` is told of a
    mismatch."""
    found = source_shapes(source)
    wanted = {torch_name(path): (path, torch_shape(path, shape)) for path, shape in shapes.items()}
    missing = [f"{name} {shape}" for name, (_, shape) in wanted.items() if name not in found]
    unused = [f"{name} {shape}" for name, shape in found.items() if name not in wanted and not name.endswith(COUNTER)]
    misshapen = [
        f"{name} is {found[name]}, the network has {shape}"
        for name, (_, shape) in wanted.items()
        if name in found and found[name] != shape
    ]
    if missing or unused or misshapen:
        raise InputError(mismatch_message(where, missing, unused, misshapen, remedy))
    for name, (path, _) in wanted.items():
        yield path, _float32(to_flax(path, np.asarray(source[name])), name, where)


def source_shapes(source: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """torch name -> shape of everything in a source of weights."""
    if hasattr(source, "shapes"):
        return source.shapes()
    return {name: tuple(np.shape(array)) for name, array in source.items()}


def _float32(array: np.ndarray, name: str, where: str) -> np.ndarray:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(
            f"{where}: {name} holds {array.dtype}, not floating-point numbers; quantised weights do not fit"
        )
    return np.array(array, dtype=np.float32, order="C")


def mismatch_message(where: str, missing: list[str], unused: list[str], misshapen: list[str], remedy: str = "") -> str:
    """One message that lists every difference between a set of weights and a network, behind what to do."""
    parts = [
        f"{title} ({len(names)}):\n  " + "\n  ".join(names)
        for title, names in (
            ("missing from the weights", missing),
            ("in the weights but not in the network", unused),
            ("of another shape", misshapen),
        )
        if names
    ]
    first = f"{where} and the network do not fit together; nothing was loaded."
    return "\n".join([first, *([remedy] if remedy else []), *parts])


def torch_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = _axes(path, len(shape))
    return tuple(shape) if axes is None else tuple(shape[i] for i in np.argsort(axes))


def state_dict(params: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The torch state dict of a parameter tree and its statistics, as contiguous numpy arrays.

    Each BatchNorm gets torch's counter, at zero.

    >>> sorted(state_dict({"bn": {"scale": np.ones(2)}}, {"bn": {"mean": np.zeros(2)}}))
    ['bn.num_batches_tracked', 'bn.running_mean', 'bn.weight']
    """
    state = {}
    for path, leaf in (flatten(params) | flatten(batch_stats)).items():
        state[torch_name(path)] = np.ascontiguousarray(to_torch(path, np.asarray(leaf)))
        if path.endswith(".mean"):
            state[f"{path.removesuffix('.mean')}.{COUNTER}"] = np.zeros((), np.int64)
    return dict(sorted(state.items()))
