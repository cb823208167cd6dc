"""What an override takes out of a recipe: a field set to null, and what a strategy stands for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from inspect import isclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from jaxtl.recipe.coherence import STRATEGY_FIELDS

GROUPS_OF_STRATEGIES = ("slow", "fast")


def takes_out(root: type[BaseModel], keys: Sequence[str]) -> bool:
    """Whether null takes out what keys lead to, so that its default holds: an entry, or a field that takes no null.

    >>> from jaxtl.recipe import Recipe
    >>> [takes_out(Recipe, keys) for keys in (["optimizer", "slow"], ["loss"], ["data", "size"], ["no such field"])]
    [True, True, False, False]
    """
    found: list[Any] = [root]
    for key in keys:
        inside = [_behind(kind, key) for kind in found]
        found = [kind for annotation in inside if annotation is not None for kind in _kinds(annotation)]
    return bool(found) and NoneType not in found


def _behind(kind: Any, key: str) -> Any:
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if isclass(kind) and issubclass(kind, BaseModel) and key in kind.model_fields:
        return kind.model_fields[key].annotation
    return None


def _kinds(annotation: Any) -> list[Any]:
    """The members of a union, or what is none."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for member in get_args(annotation) for kind in _kinds(member)]
    return [annotation]


def without_decided(fields: Mapping[str, Any], kept: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Fields without those that a strategy decides, and the names of what was left out.

    Optimizers for slow and fast stay; where both are there, those for other groups go. The epochs of phases stay as
    ``epochs``. Fields in ``kept`` stay.

    >>> without_decided({"groups": {"*": "fast"}, "seed": 1}, kept=())
    ({'seed': 1}, ['groups'])
    """
    left_out = [name for name in STRATEGY_FIELDS if name in fields and name not in kept]
    rest = {name: value for name, value in fields.items() if name not in left_out}
    if "phases" in left_out and "epochs" not in fields:
        rest |= _epochs(fields["phases"])
    optimizer = fields.get("optimizer")
    if isinstance(optimizer, Mapping) and "optimizer" not in kept and set(optimizer) > set(GROUPS_OF_STRATEGIES):
        rest["optimizer"] = {group: optimizer[group] for group in optimizer if group in GROUPS_OF_STRATEGIES}
        left_out += [f"optimizer.{group}" for group in optimizer if group not in GROUPS_OF_STRATEGIES]
    return rest, left_out


def _epochs(phases: Any) -> dict[str, int]:
    given = [phase.get("epochs") for phase in phases or () if isinstance(phase, Mapping)]
    counts = [count for count in given if isinstance(count, int)]
    return {"epochs": sum(counts)} if counts else {}
