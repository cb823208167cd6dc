"""Says in plain words, and all at once, what is wrong with a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jaxtl.errors import nearest

Place = tuple[int | str, ...]


def explain(error: ValidationError, data: Mapping[str, Any], root: type[BaseModel]) -> list[str]:
    """One sentence for each field that does not fit; the model's own, overall check is left out."""
    silent = ("default_factory_not_called",)
    return [_sentence(e, data, root) for e in error.errors() if e["loc"] and e["type"] not in silent]


def listed(place: str, problems: Sequence[str]) -> str:
    """One message of them all.

    >>> listed("a.yaml", ["it rains"])
    'a.yaml: it rains'
    >>> print(listed("a.yaml", ["it rains", "it pours"]))
    a.yaml: 2 problems
      it rains
      it pours
    """
    if len(problems) == 1:
        return f"{place}: {problems[0]}"
    return "\n  ".join([f"{place}: {len(problems)} problems", *problems])


def _sentence(error: ErrorDetails, data: Mapping[str, Any], root: type[BaseModel]) -> str:
    place = _place_in(data, error)
    name = ".".join(map(str, place))
    value = error["input"]
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"{'.'.join(map(str, place[:-1]))} lacks {place[-1]!r}"
        case "extra_forbidden":
            return _unknown_field(place, _known_fields(root, error["loc"][:-1]))
        case "union_tag_invalid":
            tags = context["expected_tags"]
            tag = context["tag"]
            return f"{name}.name must be {tags.replace(', ', ' or ')}, not {tag!r}" + nearest(tag, _unquoted(tags))
        case "literal_error" if isinstance(value, str):
            return f"{name} must be {context['expected']}, not {value!r}" + nearest(
                value, _unquoted(context["expected"])
            )
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{name} must be a mapping of fields, not {value!r}"
        case "string_pattern_mismatch":
            return f"{name}: {value!r} is no name for a group; use letters, digits, '_' and '-'"
        case "value_error":
            return f"{name} {context['error']}"
    return f"{name} {error['msg'].replace('Input should', 'must')}, not {value!r}"


def _unquoted(names: str) -> list[str]:
    return names.replace(" or ", ", ").replace("'", "").split(", ")


def _unknown_field(place: Place, known: list[str]) -> str:
    *above, name = map(str, place)
    where = f"in {'.'.join(above)}" if above else "at top level"
    return f"unknown field {name!r} {where}" + (nearest(name, known) or f"; there are {', '.join(known)}")


def _place_in(data: Any, error: ErrorDetails) -> Place:
    """The place as the user wrote it: pydantic's own also names which member of a union it tried."""
    place: list[int | str] = []
    for part in error["loc"]:
        inside = isinstance(data, Mapping) and part in data
        if inside or (isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)):
            place.append(part)
            data = data[part]
    if error["type"] == "missing":
        place.append(error["loc"][-1])
    return tuple(place)


def _known_fields(root: type[BaseModel], place: Place) -> list[str]:
    sections = [root]
    for part in place:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        if fields:
            sections = [found for field in fields for found in _sections(field.annotation)]
        else:
            named = [s for s in sections if "name" in s.model_fields and s.model_fields["name"].default == part]
            sections = named or sections
    return list(dict.fromkeys(name for section in sections for name in section.model_fields))


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _sections(inner)]
