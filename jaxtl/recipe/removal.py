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

    Optimizers for slow and fast stay, those for other groups go. The epochs of phases stay as ``epochs``. What a dotted
    name in ``kept`` means or is inside of stays.

    >>> without_decided({"groups": {"*": "fast"}, "seed": 1}, kept=())
    ({'seed': 1}, ['groups'])
    >>> optimizer = {"fast": {"lr": 0.1}, "early": {"lr": 1e-5}, "late": {"lr": 1e-4}}
    >>> without_decided({"optimizer": optimizer}, kept=["optimizer.fast.lr", "optimizer.late.lr"])[1]
    ['optimizer.early']
    """
    staying = [name.split(".") for name in kept]
    left_out = [name for name in STRATEGY_FIELDS if name in fields and not any(name == keys[0] for keys in staying)]
    rest = {name: value for name, value in fields.items() if name not in left_out}
    if "phases" in left_out and "epochs" not in fields:
        rest |= _epochs(fields["phases"])
    optimizer = fields.get("optimizer")
    if isinstance(optimizer, Mapping) and ["optimizer"] not in staying:
        named = {keys[1] for keys in staying if keys[0] == "optimizer"}
        others = [group for group in optimizer if group not in {*GROUPS_OF_STRATEGIES, *named}]
        rest["optimizer"] = {group: entry for group, entry in optimizer.items() if group not in others}
        if not rest["optimizer"]:
            del rest["optimizer"]
        left_out += [f"optimizer.{group}" for group in others]
    return rest, left_out


def _epochs(phases: Any) -> dict[str, int]:
    given = [phase.get("epochs") for phase in phases or () if isinstance(phase, Mapping)]
    counts = [count for count in given if isinstance(count, int)]
    return {"epochs": sum(counts)} if counts else {}
