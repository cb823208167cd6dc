"""Changes single fields of nested mappings by their dotted names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from jaxtl.errors import InputError
from jaxtl.recipe.kinds import kinds_at, renamed

Fields = dict[str, Any]


def with_changes(
    fields: Mapping[str, Any],
    changes: Iterable[tuple[str, Any]],
    default: Callable[[tuple[str, ...], Fields], Fields],
    takes_out: Callable[[list[str]], bool] = lambda keys: False,
) -> Fields:
    """A copy with each ``(dotted name, value)`` put in its place, in order; mappings on the way are made where missing.

    Everything after ``groups.`` is one key, since globs hold dots; a new rule there goes before all others. ``default``
    gives what else a mapping that was missing holds, from the keys that lead to it and all fields once they are
    changed. ``takes_out`` says of which keys the value None means that they go.

    Raises:
        InputError: a name that leads to nothing that can be set, or taken out.

    >>> with_changes({"a": {"b": 1}}, [("a.c", 2), ("groups.layer4.*", "slow")], lambda keys, fields: {"*": "frozen"})
    {'a': {'b': 1, 'c': 2}, 'groups': {'layer4.*': 'slow', '*': 'frozen'}}
    """
    changed = copy.deepcopy(dict(fields))
    made: dict[tuple[str, ...], Fields] = {}
    for name, value in changes:
        first, *rest = path(name)
        value = as_given(value)
        if value is None and takes_out([first, *rest]):
            _take_out(changed, [first, *rest], name)
            made = {keys: section for keys, section in made.items() if keys[: len(rest) + 1] != (first, *rest)}
            continue
        if not rest:
            changed[first] = value
            made = {keys: section for keys, section in made.items() if keys[0] != first}
            continue
        section = _section(changed, [first, *rest[:-1]], name, made)
        if first == "groups" and rest[-1] not in section:
            earlier = dict(section)
            section.clear()
            section |= {rest[-1]: value, **earlier}
        elif rest[-1] == "name" and (kinds := kinds_at([first, *rest[:-1]])):
            known = renamed(section, value, kinds)
            section.clear()
            section |= known
        else:
            section[rest[-1]] = value
    for keys, section in sorted(made.items(), key=lambda entry: entry[0][0] != "groups"):
        _fill(section, default(keys, changed))
    return changed


def _fill(section: Fields, more: Mapping[str, Any]) -> None:
    """What is more comes in its own order, behind what is new to it."""
    new = {key: value for key, value in section.items() if key not in more}
    known = {key: section.get(key, value) for key, value in more.items()}
    for key, value in known.items():
        if isinstance(value, dict) and isinstance(more[key], Mapping):
            _fill(value, more[key])
    section.clear()
    section |= {**new, **known}


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


def as_given(value: Any) -> Any:
    """The value with each section in it as a mapping of the fields that it was given, and of its kind's name.

    Fields at their defaults are left out, so that another name does not meet the fields of the kind before.

    >>> from jaxtl.recipe.optimizers import SGD
    >>> as_given({"fast": SGD(lr=0.1)})
    {'fast': {'lr': 0.1, 'name': 'sgd'}}
    """
    if isinstance(value, BaseModel):
        given = value.model_fields_set | {"name"}
        return {name: as_given(getattr(value, name)) for name in type(value).model_fields if name in given}
    if isinstance(value, Mapping):
        return {key: as_given(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [as_given(inner) for inner in value]
    return value


def _take_out(fields: Fields, keys: list[str], name: str) -> None:
    section: Any = fields
    for key in keys[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
    if len(keys) > 1 and not (isinstance(section, dict) and keys[-1] in section):
        raise InputError(f"{name!r} cannot be taken out by null: the recipe does not have it")
    section.pop(keys[-1], None)


def _section(fields: Fields, keys: list[str], name: str, made: dict[tuple[str, ...], Fields]) -> Fields:
    section = fields
    for depth, key in enumerate(keys, 1):
        if section.get(key) is None:
            section[key] = {}
            if not any(tuple(keys[:shorter]) in made for shorter in range(1, depth)):
                made[tuple(keys[:depth])] = section[key]
        if isinstance(word := section[key], str) and kinds_at(keys[:depth]):
            section[key] = {"name": word}
        section = section[key]
        if not isinstance(section, dict):
            above = ".".join(keys[:depth])
            raise InputError(
                f"{name!r} cannot be set: {above} is {section!r}, which has no fields; set {above} as a whole"
            )
    return section
