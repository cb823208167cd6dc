"""Names of a network inside of somebody's own module, such as ``backbone.conv1.weight``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from jaxtl.errors import InputError
from jaxtl.models.graph import Graph
from jaxtl.pretrained import names
from jaxtl.pretrained.selection import Selection
from jaxtl.pretrained.source import Source
from jaxtl.pretrained.torchvision_names import places


def unwrapped(source: Source, options: Mapping[str, Any], until: str | None, notes: list[str]) -> Source:
    """The same source without the prefix behind which it holds all names of the network's body, timm's or
    torchvision's; any other source as it is. What has no such prefix keeps its name.

    Raises:
        InputError: the body is there behind several prefixes.
    """
    if source.arrays is None:
        return source
    found = names.source_shapes(source.arrays)
    body = _body(Graph.shared(source.architecture, **options), until)
    if not body or body <= found.keys():
        return source
    prefixes = _prefixes(found, body)
    prefixes |= _prefixes(found, {place for place, _ in places(source.architecture, body).values()})
    if len(prefixes) > 1:
        several = " and ".join(repr(prefix) for prefix in sorted(prefixes))
        raise InputError(
            f"{source.where} holds the network {len(prefixes)} times, under {several}; hand the state dict of one of "
            "them to jaxtl.from_torch"
        )
    for prefix in prefixes:
        original = {name.removeprefix(prefix): name for name in found}
        if len(original) == len(found):
            notes.append(f"{prefix!r} in front of the names in the weights is taken off")
            return replace(source, arrays=Selection(source.arrays, list(original), original))
    return source


def _body(graph: Graph, until: str | None) -> set[str]:
    """torch's names of all that is needed in front of the head."""
    stages = graph.stages[: graph.stages.index(until) + 1] if until in graph.stages else graph.stages
    paths = (path for path in graph.params | graph.batch_stats if not graph.in_head(path))
    return {names.torch_name(path) for path in paths if graph.stage_of(path) in stages}


def _prefixes(found: Iterable[str], wanted: set[str]) -> set[str]:
    """What stands, with a dot at its end, in front of each wanted name."""
    held, longest = set(found), max(wanted, key=len, default="")
    before = {name.removesuffix(longest) for name in held if longest and name.endswith(f".{longest}")}
    return {prefix for prefix in before if all(f"{prefix}{name}" in held for name in wanted)}
