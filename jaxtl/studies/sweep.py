"""Which setting: a run for each of several values of a field, or for all combinations of several fields' values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jaxtl.errors import InputError
from jaxtl.files import expanded
from jaxtl.notices import quiet
from jaxtl.recipe import Recipe
from jaxtl.recipe.reading import read_value
from jaxtl.studies.comparison import check_results, seeded, written
from jaxtl.studies.runs import Row, run_all

_COUNT_WITHOUT_TRAINING = (
    "model",
    "data",
    "strategy",
    "linear_probe",
    "recalibrate",
    "precision",
    "class_weights",
)


def sweep(
    recipe: Recipe,
    fields: Mapping[str, Sequence[Any]],
    *,
    output: str | Path,
    seeds: int = 1,
    progress: bool = True,
) -> list[Row]:
    """Trains with every combination of some fields' values, and says what each comes to.

    A study that was interrupted is continued by the same call. The best of many accuracies on the same validation
    images is a little too good: measure the setting that is chosen on images of its own.

    Args:
        recipe: with ``model`` and ``data``.
        fields: values by dotted name, as ``parse_sweep`` gives them: ``{"optimizer.fast.lr": [1e-2, 1e-3]}``.
        output: folder for ``results.json``, ``curves.png`` and a folder for each run.
        seeds: runs of each combination, from the recipe's seed on.
        progress: print how it goes, and the table.

    Returns:
        Rows as ``compare`` gives them, each also with its ``settings`` by dotted name.

    Raises:
        InputError: fields or values that the recipe does not take, a field without a value, with one twice, or
            without an effect; and as ``compare``.
    """
    output = expanded(output)
    combinations = grid(fields)
    recipes = {}
    for number, (name, settings) in enumerate(combinations.items()):
        with quiet() if number else nullcontext():  # what a change leaves out is said once
            recipes[name] = seeded(recipe.replace(**settings), name, seeds, output)
    _check_effect(fields, recipes)
    check_results(output, recipes)
    title = f"validation images: {seeds} seed{'s' * (seeds != 1)}"
    found = run_all(recipes, progress=progress, title=title, label=", ".join(fields))
    return written(output, found, {"seeds": seeds}, combinations)


def _check_effect(fields: Mapping[str, Any], recipes: Mapping[str, Sequence[Recipe]]) -> None:
    """Raises ``InputError`` for fields of the training where no recipe trains."""
    idle = [field for field in fields if field.partition(".")[0] not in _COUNT_WITHOUT_TRAINING]
    if idle and not any(
        recipe.epochs and recipe.strategy != "linear-probe" for its in recipes.values() for recipe in its
    ):
        raise InputError(
            f"{', '.join(idle)} would change nothing: the recipe fits the head and trains for 0 epochs; give it "
            "another strategy, such as strategy=full"
        )


def grid(fields: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """All combinations of some fields' values, by a name that says them.

    Raises:
        InputError: no field, a field without a value, or a value that is given twice.

    >>> list(grid({"epochs": [1, 2], "optimizer.fast.lr": [0.1]}))
    ['epochs=1,optimizer.fast.lr=0.1', 'epochs=2,optimizer.fast.lr=0.1']
    """
    if not fields:
        raise InputError("nothing to sweep; give a field and its values, for example optimizer.fast.lr=1e-2,1e-3")
    combinations: list[dict[str, Any]] = [{}]
    for field, values in fields.items():
        if field in ("seed", "output"):
            raise InputError(f"{field!r} cannot be swept: a study sets it itself, and 'seeds' says how many seeds")
        shown = [str(value) for value in values]
        twice = [text for text in shown if shown.count(text) > 1]
        if twice or not shown:
            raise InputError(f"sweep of {field}: {f'{twice[0]} is given twice' if twice else 'it has no value'}")
        combinations = [{**before, field: value} for before in combinations for value in values]
    return {",".join(f"{field}={value}" for field, value in its.items()): its for its in combinations}


def is_sweep(text: str) -> bool:
    """Whether a word of the command line gives a field several values; commas inside brackets and quotes do not count.

    >>> is_sweep("optimizer.fast.lr=1e-2,1e-3"), is_sweep("epochs=3"), is_sweep("model.head=[64,32]")
    (True, False, False)
    """
    return "=" in text and len(_parts(text.partition("=")[2])) > 1


def parse_sweep(text: str) -> tuple[str, list[Any]]:
    """A field and its values from a word of the command line; each value is read as YAML.

    Raises:
        InputError: no ``field=value,value,...``, or values that are no single YAML values.

    >>> parse_sweep("optimizer.fast.lr=1e-2,1e-3")
    ('optimizer.fast.lr', [0.01, 0.001])
    >>> parse_sweep("batch_norm=follow,frozen")
    ('batch_norm', ['follow', 'frozen'])
    """
    field, equals, values = text.partition("=")
    parts = _parts(values)
    if not equals or not field.strip() or not all(parts):
        raise InputError(f"{text!r} is no sweep; write field=value,value, for example optimizer.fast.lr=1e-2,1e-3")
    found = [_number(read_value(part, text)) for part in parts]
    if any(isinstance(value, list | dict) for value in found):
        raise InputError(f"a value of {text!r} is no single value; write numbers or words between commas")
    return field.strip(), found


def _parts(values: str) -> list[str]:
    """The text between commas, where these stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for mark in values:
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "\"'":
            quote = mark
        else:
            depth += (mark in "[{") - (mark in "]}")
        if mark == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += mark
    return [part.strip() for part in parts]


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-2 as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
