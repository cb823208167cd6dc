"""Changes single fields of nested mappings by their dotted names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from jaxtl.errors import InputError

Fields = dict[str, Any]


def with_changes(
    fields: Mapping[str, Any], changes: Iterable[tuple[str, Any]], default: Callable[[str, Fields], Fields]
) -> Fields:
    """A copy with each ``(dotted name, value)`` put in its place, in order; mappings on the way are made where missing.

    Everything after ``groups.`` is one key, since globs hold dots; a new rule there goes before all others. ``default``
    gives the content of a top-level mapping that is missing, from its name and the fields so far.

    >>> with_changes({"a": {"b": 1}}, [("a.c", 2), ("groups.layer4.*", "slow")], lambda name, fields: {"*": "frozen"})
    {'a': {'b': 1, 'c': 2}, 'groups': {'layer4.*': 'slow', '*': 'frozen'}}
    """
    changed = copy.deepcopy(dict(fields))
    for name, value in sorted(changes, key=lambda change: not change[0].startswith("groups")):
        first, *rest = path(name)
        value = _plain(value)
        if not rest:
            changed[first] = value
            continue
        if first not in changed or changed[first] is None:
            changed[first] = default(first, changed)
        section = _section(changed, [first, *rest[:-1]], name)
        if first == "groups" and rest[-1] not in section:
            changed["groups"] = {rest[-1]: value, **section}
        else:
            section[rest[-1]] = value
    return changed


def path(name: str) -> list[str]:
    """The keys of a dotted name.

    >>> path("optimizer.fast.lr"), path('groups."layer4.*"')
    (['optimizer', 'fast', 'lr'], ['groups', 'layer4.*'])
    """
    first, _, rest = name.partition(".")
    if first == "groups" and rest:
        return [first, rest.strip("\"'")]
    keys = name.split(".")
    if not all(keys):
        raise InputError(f"{name!r} is no dotted name of a field; write for example 'optimizer.fast.lr'")
    return keys


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value


def _section(fields: Fields, keys: list[str], name: str) -> Fields:
    section = fields
    for depth, key in enumerate(keys, 1):
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            above = ".".join(keys[:depth])
            raise InputError(
                f"{name!r} cannot be set: {above} is {section!r}, which has no fields; set {above} as a whole"
            )
    return section
