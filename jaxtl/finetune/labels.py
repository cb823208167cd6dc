"""Label functions: from a parameter's path to its group. The group ``"frozen"`` is never trained."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from jaxtl.errors import InputError, nearest
from jaxtl.finetune.parts import paths_of
from jaxtl.models.graph import Graph
from jaxtl.trees import flatten

FROZEN = "frozen"

Label = Callable[[str, Any], str]
"""``label(path, leaf) -> group``, with a path like ``"layer4.2.conv3.kernel"``."""


def groups_of(params: Mapping[str, Any], label: Label) -> dict[str, str]:
    """The group of each parameter, by path.

    Raises:
        InputError: when the label function returns anything but a non-empty string; all such paths are listed. Or when
            it does not take a path and a leaf.

    >>> groups_of({"fc": {"bias": 0}, "conv1": {"kernel": 0}}, lambda path, _: "fast" if "fc" in path else "frozen")
    {'fc.bias': 'fast', 'conv1.kernel': 'frozen'}
    """
    check_label(label)
    groups = {path: label(path, leaf) for path, leaf in flatten(params).items()}
    wrong = {path: group for path, group in groups.items() if not isinstance(group, str) or not group}
    if wrong:
        raise InputError(
            "the label function must return a group's name for every path; it returned "
            + ", ".join(f"{value!r} for {some_paths(paths)}" for value, paths in by_group(wrong).items())
        )
    return groups


def check_label(label: Any) -> None:
    """Raises ``InputError`` for what cannot be called as ``label(path, leaf)``.

    >>> check_label(lambda path: "fast")
    Traceback (most recent call last):
    jaxtl.errors.InputError: a label function is called as label(path, leaf) and returns a group; this one takes (path)
    """
    if not callable(label):
        raise InputError(
            f"the label is a {type(label).__name__}; give a function label(path, leaf) -> group, or for parts of the "
            "network by name jaxtl.labels.by_pattern({'head': 'fast', '*': 'frozen'})"
        )
    if inspect.isfunction(label) and label.__module__ == "jaxtl.finetune.label_makers":
        name = f"jaxtl.labels.{label.__name__}"
        raise InputError(f"{name} makes a label function: call it, {name}{inspect.signature(label)}")
    try:
        signature = inspect.signature(label)
    except ValueError:  # of some builtins nothing is known
        return
    try:
        signature.bind("path", None)
    except TypeError:
        raise InputError(
            f"a label function is called as label(path, leaf) and returns a group; this one takes {signature}"
        ) from None


def from_groups(groups: Mapping[str, str], graph: Graph) -> Label:
    """A label function from a mapping of parts to groups, as recipes write it: the first part that matches wins.

    ``jaxtl.labels.by_pattern`` says what a part is.

    Raises:
        InputError: a part that matches no parameter, or parameters that no part matches.

    >>> from jaxtl.models.graph import Graph
    >>> label = from_groups({"head": "fast", "layer4": "slow", "*": "frozen"}, Graph("resnet18"))
    >>> label("layer4.0.conv1.kernel", None), label("fc.bias", None), label("conv1.kernel", None)
    ('slow', 'fast', 'frozen')
    """
    members = {part: paths_of(part, graph) for part in groups}
    unused = [part for part, paths in members.items() if not paths]
    if unused:
        near = nearest(unused[0], [*graph.stages, "head", "norms", "biases"])
        raise InputError(
            f"groups: {', '.join(map(repr, unused))} match no parameter of {graph.architecture}{near}; "
            f"its stages are {', '.join(graph.stages)}; other parts are head, norms, biases, 'from STAGE', "
            "'last N blocks' and globs like '*.bn1.*'"
        )
    table: dict[str, str] = {}
    for part, group in groups.items():
        for path in members[part]:
            table.setdefault(path, group)
    rest = [path for path in graph.params if path not in table]
    if rest:
        raise InputError(
            f"groups: nothing matches {some_paths(rest)}; add a last line '\"*\": frozen', or another group"
        )
    return label_of(table, graph)


def check_all_reached(groups: Mapping[str, str], graph: Graph) -> None:
    """``InputError`` where parts that come first leave no parameter for a group that would train.

    >>> check_all_reached({"from layer4": "slow", "head": "fast", "*": "frozen"}, Graph("resnet18"))
    Traceback (most recent call last):
    jaxtl.errors.InputError: groups: nothing is left for 'fast', because all of 'head' goes to 'from layer4' in front \
of it; put 'head' first, or leave it out
    """
    taken: dict[str, str] = {}
    for part in groups:
        for path in paths_of(part, graph):
            taken.setdefault(path, part)
    reached = {groups[part] for part in taken.values()}
    problems = []
    for group in dict.fromkeys(groups.values()):
        if group != FROZEN and group not in reached:
            own = [part for part in groups if groups[part] == group]
            takers = {taken[path] for part in own for path in paths_of(part, graph)}
            first, last = (", ".join(map(repr, some)) for some in ([part for part in groups if part in takers], own))
            problems.append(
                f"nothing is left for {group!r}, because all of {last} goes to {first} in front of it; put {last} "
                "first, or leave it out"
            )
    if problems:
        raise InputError("groups: " + "; ".join(problems))


def label_of(table: Mapping[str, str], graph: Graph) -> Label:
    """The label function that looks groups up by path, for one network and no other."""

    def label(path: str, leaf: Any) -> str:
        if path not in table:
            raise InputError(f"the label function is bound to {graph.architecture}, which has no parameter {path!r}")
        return table[path]

    return label


class Unbound(ABC):
    """A label that needs to know the network before it can label anything.

    ``jaxtl.multi_transform`` takes one wherever it takes a label function, and whatever uses the optimizer binds it:
    ``jaxtl.TrainState.create``, ``make_train_step``, ``explain``. For everything else there is ``bind``.
    """

    @abstractmethod
    def bind(self, graph: Graph) -> Label:
        """The label function for one network.

        Raises:
            InputError: what the label says of parts that the network does not have.
        """

    def __call__(self, path: str, leaf: Any) -> str:
        raise InputError(
            f"{self} does not know its network yet: give it to jaxtl.multi_transform and the optimizer to "
            "jaxtl.TrainState.create, make_train_step or explain, which bind it, or call .bind(model.graph) first"
        )


def bound(label: Label | Unbound, graph: Graph) -> Label:
    """A label function for a network: one that needs binding is bound, any other is returned as it is."""
    return label.bind(graph) if isinstance(label, Unbound) else label


def with_depth(label: Label | Unbound, graph: Graph, decay: float) -> tuple[Label, dict[str, float]]:
    """Splits each trained group of a label into one for each block depth, and gives the factors of their rates.

    The group "slow" at depth 3 becomes "slow.d3", which learns at ``decay ** 3`` times the rate of "slow"; "frozen"
    stays. ``base_group`` leads back.

    Returns:
        The label, and for each of its trained groups ``decay ** depth``, head first.

    Raises:
        InputError: a decay that is not above 0 and at most 1, or a group that is called like a split one.

    >>> label = lambda path, leaf: {"fc": "fast", "layer4": "slow"}.get(path.partition(".")[0], "frozen")
    >>> label, scales = with_depth(label, Graph("resnet18"), decay=0.5)
    >>> scales, label("layer4.0.bn1.scale", None), label("conv1.kernel", None)
    ({'fast.d0': 1.0, 'slow.d1': 0.5, 'slow.d2': 0.25}, 'slow.d2', 'frozen')
    """
    check_decay(decay)
    groups = groups_of(graph.params, bound(label, graph))
    taken = [group for group in by_group(groups) if base_group(group) != group]
    if taken:
        raise InputError(
            f"groups called {', '.join(map(repr, taken))} cannot be split by depth; name them without '.dN'"
        )
    depths = {path: graph.depth_of(path) for path in sorted(graph.params, key=graph.depth_of)}
    table = {path: groups[path] if groups[path] == FROZEN else f"{groups[path]}.d{depths[path]}" for path in depths}
    return label_of(table, graph), {group: decay ** depths[path] for path, group in table.items() if group != FROZEN}


def base_group(group: str) -> str:
    """The group that ``with_depth`` made this one of; any other group is its own.

    >>> base_group("slow.d3"), base_group("slow")
    ('slow', 'slow')
    """
    return re.sub(r"\.d\d+$", "", group)


def check_decay(decay: float) -> None:
    """``InputError`` for what is no decay from block to block."""
    if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 < decay <= 1:
        raise InputError(f"a layer-wise decay is a number above 0 and at most 1, not {decay!r}")


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
