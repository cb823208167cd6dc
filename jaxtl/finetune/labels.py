"""Label functions: from a parameter's path to its group. The group ``"frozen"`` is never trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from jaxtl.errors import InputError, nearest
from jaxtl.models.graph import Graph
from jaxtl.trees import flatten

FROZEN = "frozen"

Label = Callable[[str, Any], str]
"""``label(path, leaf) -> group``, with a path like ``"layer4.2.conv3.kernel"``."""


def groups_of(params: Mapping[str, Any], label: Label) -> dict[str, str]:
    """The group of each parameter, by path.

    Raises:
        InputError: when the label function returns anything but a non-empty string; all such paths are listed.

    >>> groups_of({"fc": {"bias": 0}, "conv1": {"kernel": 0}}, lambda path, _: "fast" if "fc" in path else "frozen")
    {'fc.bias': 'fast', 'conv1.kernel': 'frozen'}
    """
    groups = {path: label(path, leaf) for path, leaf in flatten(params).items()}
    wrong = {path: group for path, group in groups.items() if not isinstance(group, str) or not group}
    if wrong:
        raise InputError(
            "the label function must return a group's name for every path; it returned "
            + ", ".join(f"{value!r} for {some_paths(paths)}" for value, paths in by_group(wrong).items())
        )
    return groups


def from_groups(groups: Mapping[str, str], graph: Graph) -> Label:
    """A label function from a mapping of parts to groups, as recipes write it: the first part that matches wins.

    A part is a stage's name, ``"head"`` for the last stage, or a glob over parameter paths (``"*.bn*.scale"``).

    Raises:
        InputError: a part that matches no parameter, or parameters that no part matches.

    >>> from jaxtl.models.graph import Graph
    >>> label = from_groups({"head": "fast", "layer4": "slow", "*": "frozen"}, Graph("resnet18"))
    >>> label("layer4.0.conv1.kernel", None), label("fc.bias", None), label("conv1.kernel", None)
    ('slow', 'fast', 'frozen')
    """
    matched: set[str] = set()
    table: dict[str, str] = {}
    for path in graph.params:
        stage = graph.stage_of(path)
        fitting = [part for part in groups if _matches(part, path, stage, graph)]
        matched.update(fitting)
        if fitting:
            table[path] = groups[fitting[0]]
    unused = [part for part in groups if part not in matched and part != "*"]
    if unused:
        near = nearest(unused[0], graph.stages)
        raise InputError(
            f"groups: {', '.join(map(repr, unused))} match no parameter of {graph.architecture}{near or ''}; "
            f"its stages are {', '.join(graph.stages)}"
        )
    rest = [path for path in graph.params if path not in table]
    if rest:
        raise InputError(
            f"groups: nothing matches {some_paths(rest)}; add a last line '\"*\": frozen', or another group"
        )
    return lambda path, leaf: table[path]


def _matches(part: str, path: str, stage: str, graph: Graph) -> bool:
    if part in graph.stages or part == "head":
        return stage == (graph.stages[-1] if part == "head" else part)
    return fnmatchcase(path, part)


def by_group(groups: Mapping[str, Any]) -> dict[Any, list[str]]:
    """Paths by group, in the order of appearance."""
    paths: dict[Any, list[str]] = {}
    for path, group in groups.items():
        paths.setdefault(group if isinstance(group, str) else repr(group), []).append(path)
    return paths


def some_paths(paths: list[str], most: int = 5) -> str:
    """A list of paths that fits into a message.

    >>> some_paths(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(paths[:most])
    return shown if len(paths) <= most else f"{shown} and {len(paths) - most} more"
