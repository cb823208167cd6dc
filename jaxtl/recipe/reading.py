"""Reads recipes from YAML files."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from jaxtl.errors import InputError, nearest
from jaxtl.recipe.recipe import Recipe, changed


def load_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe from a YAML file and changes single fields of it.

    Args:
        path: the file.
        overrides: ``"epochs=3"``, ``"optimizer.fast.lr=3e-4"``, ``"groups.layer4.*=slow"``; the value is read as
            YAML. A group rule that is new goes before all others, so that it wins. ``null`` for a field that does not
            take it, or for an entry of groups or optimizers, takes it out; a strategy takes the place of what it
            decides, which is said.

    Raises:
        InputError: no such file, no YAML (with the line), or a recipe that does not hold, with every problem in it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "short.yaml")
    >>> _ = path.write_text("epochs: 2")
    >>> load_recipe(path, ["batch_size=16", "optimizer.slow.lr=1e-5"]).optimizer["slow"].lr
    1e-05
    """
    fields = _read(Path(path))
    changes = [_change(override) for override in overrides]
    place = f"{os.fspath(path)} with {' '.join(overrides)}" if changes else os.fspath(path)
    return changed(fields, changes, place)


def as_recipe(given: Recipe | Mapping[str, Any] | str | os.PathLike[str] | None) -> Recipe:
    """A recipe as it is, of a YAML file, of a mapping of fields, or, of None, the default one.

    Raises:
        InputError: something else, or what ``load_recipe`` and ``Recipe.from_keywords`` raise.

    >>> as_recipe({"epochs": 3, "optimizer.fast.lr": 1e-2}).optimizer["fast"].lr
    0.01
    """
    if given is None or isinstance(given, Recipe):
        return given or Recipe()
    if isinstance(given, str | os.PathLike):
        return load_recipe(given)
    if isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
        return Recipe.from_keywords(**given)
    raise InputError(
        f"a recipe is a jaxtl.Recipe, the path of a YAML file or a mapping of its fields, not {repr(given)[:80]}"
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        there = [str(file) for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise InputError(f"there is no recipe {str(path)!r}" + nearest(str(path), there))
    try:
        fields = _yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}{_line(error)}") from None
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise InputError(f"{path} holds {fields!r}, but a recipe is a mapping of fields, such as 'epochs: 5'")
    return fields


def _change(override: str) -> tuple[str, Any]:
    name, equals, value = override.partition("=")
    if not equals or not value.strip():
        raise InputError(f"{override!r} is no override; write field=value, for example epochs=3 or output=null")
    return name.strip(), read_value(value, override)


def read_value(text: str, word: str) -> Any:
    """What stands behind the ``=`` of a word of the command line, read as YAML.

    Raises:
        InputError: no YAML, or a part of it that YAML leaves out as a comment.

    >>> read_value("[1, 2]", "data.size=[1, 2]")
    [1, 2]
    """
    try:
        value = _yaml(text)
        commented = _has_comment(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"the value of {word!r} is no YAML{_line(error)}") from None
    if commented:
        raise InputError(
            f"{word!r}: to YAML a '#' at the beginning or after a blank starts a comment; "
            "put the value in quotes of its own, field='\"a #b\"'"
        )
    return value


def _has_comment(text: str) -> bool:
    """Whether there is a '#' between the tokens, which are all that YAML reads."""
    end = 0
    for token in yaml.scan(text):
        if "#" in text[end : token.start_mark.index]:
            return True
        end = token.end_mark.index
    return "#" in text[end:]


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice, where YAML's own way is to forget the first; dates are text to it."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        mark: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for mark, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in lines:
                problem = f"{key.value!r} is already set on line {lines[key.value]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def _line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f", line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return f": {error}"
