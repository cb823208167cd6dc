"""From a source's arrays to those of a graph: strictly, except for a new head, a cut, and other input channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxtl.errors import InputError
from jaxtl.models.graph import Graph
from jaxtl.models.registry import option_names
from jaxtl.pretrained import names
from jaxtl.pretrained.heads import head_is_new, renumbered, stored_head
from jaxtl.pretrained.selection import Selection
from jaxtl.pretrained.source import Source


def fill(
    source: Source,
    num_classes: int | None,
    in_chans: int | None,
    until: str | None,
    seed: int,
    options: dict[str, Any],
    notes: list[str],
    other_head: bool = False,
    other_classes: bool = False,
) -> tuple[Graph, dict[str, Any], bool]:
    """The graph, its arrays by path, and whether the head is a new one.

    ``other_head``: hidden widths were asked for that are not known to be the stored ones. ``other_classes``: classes
    were, and the source does not name the same.
    """
    assert source.arrays is not None
    whole = Graph.shared(source.architecture, **options)
    arrays = _renamed(source.arrays, type(whole.network).aliases)
    found = names.source_shapes(arrays)
    head_weight = [names.torch_name(f"{whole.head}.kernel"), *stored_head(found, whole.head)][-1]
    wants_head = bool(num_classes)
    if num_classes is None:
        num_classes = _stored_classes(source, whole, found, head_weight)
    stem_weight = names.torch_name(whole.first_conv)
    stored_channels = found[stem_weight][1] if stem_weight in found else 3
    in_chans = in_chans or stored_channels
    graph = Graph.shared(source.architecture, num_classes=num_classes, in_chans=in_chans, until=until, **options)
    if renamed := renumbered(found, graph):
        arrays = Selection(
            arrays, [renamed.get(name, name) for name in found], {new: old for old, new in renamed.items()}
        )
        found = names.source_shapes(arrays)
        head_weight = stored_head(found, whole.head)[-1]

    dropped = _cut(graph, whole, found, notes)
    shapes = {path: tuple(leaf.shape) for path, leaf in (graph.params | graph.batch_stats).items()}
    head = {path for path in shapes if graph.in_head(path)}
    new_head = bool(head) and (
        other_classes
        or head_is_new(
            graph, found, source.where, classes_given=wants_head, other_given=other_head, cut=until is not None
        )
    )
    if new_head or not head:
        modules = whole.network.stage_modules[whole.head] or (whole.head,)
        dropped |= {name for name in found if any(name.startswith(f"{module}.") for module in modules)}
    if new_head:
        before = f"{found[head_weight][0]} classes" if head_weight in found else "none"
        if other_classes and before == f"{num_classes} classes":
            before += " with other names" if source.classes else " without names"
        hidden = " and ".join(map(str, graph.options.get("head", ())))
        behind = f" behind hidden layers of {hidden}" if hidden else ""
        notes.append(
            f"the head {graph.head!r} ({before} in the weights) is new: "
            f"{num_classes} classes{behind}, initialised from seed {seed}"
        )
    kept = Selection(arrays, [name for name in found if name not in dropped])
    stem = graph.first_conv
    if stored_channels != in_chans:
        shapes[stem] = (*shapes[stem][:2], stored_channels, *shapes[stem][3:])
        notes.append(f"{stem} is adapted from {stored_channels} to {in_chans} input channels")
    adapters = _needed_adapters(graph, source, found, shapes, notes)
    fresh = {path for path in _lacking(source, shapes) if names.torch_name(path) not in found}
    if fresh:
        notes.append(f"{', '.join(source.lacks)} is not in the weights and starts afresh")
    fresh |= head if new_head else set()
    wanted = {path: shape for path, shape in shapes.items() if path not in fresh}
    filled: dict[str, Any] = graph.initialise(sorted(fresh), seed)
    for path, array in names.converted(kept, wanted, source.where, remedy=_remedy(graph, wanted, kept.shapes())):
        array = adapt_input(array, in_chans) if path == stem else array
        filled[path] = jax.device_put(adapters[path](array) if path in adapters else array)
    return graph, filled, new_head


def _remedy(graph: Graph, wanted: Iterable[str], found: Mapping[str, Any]) -> str:
    """What to do about weights that do not fit, as far as that shows."""
    needed = {names.torch_name(path) for path in wanted}
    missing = {name.rpartition(".")[0] for name in needed if name not in found}
    unused = {name.rpartition(".")[0] for name in found if name not in needed and not name.endswith(names.COUNTER)}
    if not unused:
        return _cut_there(graph, wanted, found)
    if not {"norm", "fc_norm"} <= missing | unused or "global_pool" not in (known := option_names(graph.architecture)):
        return ""
    if "norm" in missing and "fc_norm" in unused:
        return "the weights pool another way: pass global_pool='avg' (in a recipe model.global_pool=avg)"
    if "fc_norm" in missing and "norm" in unused:
        behind = "fc_norm" if "fc_norm" in known else "use_fc_norm"
        return f"the weights pool another way: pass global_pool='token', or {behind}=False if they pool an average"
    return ""


def _cut_there(graph: Graph, wanted: Iterable[str], found: Mapping[str, Any]) -> str:
    """What to do about weights that end early, as those of a network that was cut do."""
    there = {graph.stage_of(path): False for path in wanted}
    for path in wanted:
        there[graph.stage_of(path)] |= names.torch_name(path) in found
    body = [stage for stage in graph.stages if stage in there and stage != graph.head]
    last = max((place for place, stage in enumerate(body) if there[stage]), default=-1)
    if last == -1 or last + 1 == len(body) or not all(there[stage] for stage in body[:last]):
        return ""
    missing, end = ", ".join(body[last + 1 :]), body[last]
    return f"nothing of {missing} is in the weights: cut the network with until={end!r} (in a recipe model.until={end})"


def _lacking(source: Source, paths: Iterable[str]) -> set[str]:
    return {path for path in paths if any(path.startswith(f"{module}.") for module in source.lacks)}


def _stored_classes(source: Source, whole: Graph, found: Mapping[str, Any], head_weight: str) -> int:
    """How many classes the weights are for."""
    if head_weight in found:
        return found[head_weight][0]
    if 0 in (source.num_classes, whole.network.num_classes):
        return 0
    body = {names.torch_name(p) for p in whole.params | whole.batch_stats if not whole.in_head(p)}
    if body <= found.keys():
        raise InputError(
            f"{source.where} holds no head ({head_weight}); pass num_classes=N for a new one, or 0 for features alone"
        )
    return whole.network.num_classes  # more than the head is missing: all of it is listed together


def _needed_adapters(
    graph: Graph,
    source: Source,
    found: Mapping[str, tuple[int, ...]],
    shapes: dict[str, tuple[int, ...]],
    notes: list[str],
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The network's adapters for leaves that are stored in another shape, which ``shapes`` then takes over, or for
    another grid."""
    needed: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    for path, adapter in graph.network.adapters.items():
        stored = found.get(names.torch_name(path))
        if stored is None or path not in shapes:
            continue
        wanted = names.torch_shape(path, shapes[path])
        before, after = str(stored), str(wanted)
        new = graph.network.grids.get(path)
        if new is not None:
            old = _stored_grid(source, path, stored)
            adapter = partial(adapter, old=old)
            if old is not None:
                before, after = (f"a grid of {rows} x {columns}" for rows, columns in (old, new))
        if stored == wanted:
            if before == after:
                continue
            if not _says_options(source):
                notes.append(f"{path} is taken to be for {after} and not {before}; the weights do not say which")
                continue
        needed[path] = adapter
        notes.append(f"{path} is resized from {before} to {after}")
        shapes[path] = tuple(names.to_flax(path, np.broadcast_to(np.float32(0), stored)).shape)
    return needed


def _stored_grid(source: Source, path: str, stored: tuple[int, ...]) -> tuple[int, int] | None:
    """The grid of a leaf in the network that the weights were made in, as far as their source says it: one with its
    options, which may be none. ``None`` if the leaf has another number of places there."""
    made_in = Graph.shared(source.architecture, **source.options)
    leaf = made_in.params.get(path)
    fits = leaf is not None and names.torch_shape(path, leaf.shape)[:-1] == stored[:-1]
    return made_in.network.grids[path] if fits else None


def _says_options(source: Source) -> bool:
    """Whether its options are those that the weights were made with: a ``config.json``, which also says the number of
    classes, holds all that differ from the architecture's."""
    return source.num_classes is not None and not source.assumed


def adapt_input(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first convolution's kernel (H, W, C, O) for another number of input channels, by timm's rule.

    One channel: the filters are summed. Otherwise they are repeated and scaled by C / channels, so that an image
    with equal channels gives the same output as before.

    >>> adapt_input(np.ones((1, 1, 3, 1), np.float32), 1).ravel().tolist()
    [3.0]
    >>> adapt_input(np.ones((1, 1, 3, 1), np.float32), 6).ravel().tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    """
    stored = kernel.shape[2]
    if stored == channels:
        return kernel
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.tile(kernel, (1, 1, -(-channels // stored), 1))[:, :, :channels]
    return repeated * np.float32(stored / channels)


def _cut(graph: Graph, whole: Graph, found: Mapping[str, Any], notes: list[str]) -> set[str]:
    cut = [stage for stage in whole.stages if stage not in graph.stages]
    names_cut = {names.torch_name(path) for path in (whole.params | whole.batch_stats) if whole.stage_of(path) in cut}
    counters = {f"{name.rpartition('.')[0]}.{names.COUNTER}" for name in names_cut}
    dropped = (names_cut | counters) & set(found)
    if dropped:
        notes.append(f"{', '.join(cut)} cut off; the network ends after {graph.stages[-2]}")
    return dropped


def _renamed(arrays: Mapping[str, Any], aliases: Mapping[str, str]) -> Mapping[str, Any]:
    pairs = {}
    for name in arrays:
        top, dot, rest = name.partition(".")
        pairs[f"{aliases.get(top, top)}{dot}{rest}"] = name
    return Selection(arrays, list(pairs), pairs)
