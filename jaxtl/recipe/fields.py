"""The types that a recipe's fields are made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-4 as text; nobody who writes it means text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"must go from the smaller to the larger number, not {list(pair)}")
    return pair


def _square(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def named(default: str, kinds: Any) -> BeforeValidator:
    """Takes a mapping without a ``name`` to be of the default kind of these, and a word to be the name alone."""

    def whole(value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        return {"name": default, **value} if isinstance(value, Mapping) else value

    return BeforeValidator(whole, json_schema_input_type=str | kinds)


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Range = Annotated[
    tuple[Annotated[Number, Field(gt=0)], Annotated[Number, Field(gt=0)]], Field(strict=False), AfterValidator(ordered)
]
Text = Annotated[str, Field(min_length=1)]
Location = Annotated[Text, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)]
Output = Annotated[Location, AfterValidator(os.path.expanduser)]
Size = Annotated[
    tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]],
    Field(strict=False),
    BeforeValidator(_square, json_schema_input_type=int | tuple[int, int]),
]
Names = Annotated[
    tuple[Text, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else value, json_schema_input_type=str | tuple[str, ...]
    ),
]
Group = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)
