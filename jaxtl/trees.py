"""Paths of nested dicts: flatten, unflatten, partition and combine.

Parameters and statistics are plain nested dicts with string keys. A leaf's path is its keys joined by dots:
``"layer4.2.conv3.kernel"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Tree = dict[str, Any]


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a nested dict by path, in the dict's own order. Empty dicts inside vanish.

    >>> flatten({"fc": {"kernel": 1, "bias": 2}})
    {'fc.kernel': 1, 'fc.bias': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{path}": leaf for path, leaf in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """The nested dict whose ``flatten`` is ``flat``.

    Raises ``ValueError`` when one path is both a leaf and the beginning of another.

    >>> unflatten({"fc.kernel": 1, "fc.bias": 2})
    {'fc': {'kernel': 1, 'bias': 2}}
    """
    tree: Tree = {}
    for path, leaf in flat.items():
        *parents, last = path.split(".")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path!r} begins with another leaf's path, {key!r}")
        if last in node:
            raise ValueError(f"{path!r} is a leaf and the beginning of another leaf's path")
        node[last] = leaf
    return tree


def map_with_path(function: Callable[[str, Any], Any], tree: Mapping[str, Any]) -> Tree:
    """The same nested dict with each leaf replaced by ``function(path, leaf)``.

    >>> map_with_path(lambda path, leaf: f"{path}={leaf}", {"fc": {"bias": 2}})
    {'fc': {'bias': 'fc.bias=2'}}
    """
    return unflatten({path: function(path, leaf) for path, leaf in flatten(tree).items()})


def partition(tree: Mapping[str, Any], keep: Callable[[str], bool]) -> tuple[Tree, Tree]:
    """Splits a nested dict into the leaves whose path ``keep`` accepts and the rest; neither holds placeholders.

    ``combine`` puts the two together again.

    >>> partition({"fc": {"kernel": 1}, "conv1": {"kernel": 2}}, lambda path: path.startswith("fc"))
    ({'fc': {'kernel': 1}}, {'conv1': {'kernel': 2}})
    """
    flat = flatten(tree)
    kept = {path: leaf for path, leaf in flat.items() if keep(path)}
    rest = {path: leaf for path, leaf in flat.items() if path not in kept}
    return unflatten(kept), unflatten(rest)


def combine(*trees: Mapping[str, Any]) -> Tree:
    """One nested dict with the leaves of all, keys sorted as JAX sorts them.

    Raises ``ValueError`` when two trees hold the same path.

    >>> combine({"fc": {"kernel": 1}}, {"conv1": {"kernel": 2}})
    {'conv1': {'kernel': 2}, 'fc': {'kernel': 1}}
    """
    merged: dict[str, Any] = {}
    for tree in trees:
        for path, leaf in flatten(tree).items():
            if path in merged:
                raise ValueError(f"two trees hold the leaf {path!r}; combine wants trees without common paths")
            merged[path] = leaf
    return _sorted(unflatten(merged))


def _sorted(tree: Tree) -> Tree:
    return {key: _sorted(value) if isinstance(value, dict) else value for key, value in sorted(tree.items())}
