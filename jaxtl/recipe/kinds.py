"""The sections of a recipe that are of one of several kinds, told apart by their ``name``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from jaxtl.recipe.optimizers import AnyOptimizer
from jaxtl.recipe.schedules import AnySchedule
from jaxtl.recipe.training import AnyLoss


def kinds_at(keys: Sequence[str]) -> dict[str, type[BaseModel]]:
    """The kinds of the section that keys lead to, by name, the default first; none for other sections.

    >>> list(kinds_at(["loss"]))[0], list(kinds_at(["optimizer", "fast", "schedule"]))[0], kinds_at(["data"])
    ('softmax', 'cosine', {})
    """
    match keys:
        case ["loss"]:
            return _by_name(AnyLoss)
        case ["optimizer", _]:
            return _by_name(AnyOptimizer)
        case ["schedule"] | ["optimizer", _, "schedule"]:
            return _by_name(AnySchedule)
    return {}


def renamed(section: Mapping[str, Any], name: Any, kinds: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """A section as another kind: without the fields that this does not have and that had their defaults.

    >>> adamw = {"name": "adamw", "lr": 0.1, "b1": 0.9, "b2": 0.5}
    >>> renamed(adamw, "sgd", kinds_at(["optimizer", "fast"]))
    {'name': 'sgd', 'lr': 0.1, 'b2': 0.5}
    """
    before, after = kinds.get(section.get("name", next(iter(kinds)))), kinds.get(name)
    if before is None or after is None:
        return {**section, "name": name}
    defaults = {key: field.get_default(call_default_factory=True) for key, field in before.model_fields.items()}
    left = {
        key: value
        for key, value in section.items()
        if key in after.model_fields or key not in defaults or value != defaults[key]
    }
    return {**left, "name": name}


def _by_name(union: Any) -> dict[str, type[BaseModel]]:
    return {kind.model_fields["name"].default: kind for kind in get_args(union)}
