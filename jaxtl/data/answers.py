"""From the labels that somebody wrote to the arrays that a loss takes: classes, several labels, or numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jaxtl.data.problems import refuse, shown
from jaxtl.errors import InputError, nearest

TASKS = ("class", "multi-label", "regression")
SEPARATOR = ";"

Columns = Mapping[str, Sequence[Any] | np.ndarray]


@dataclass(frozen=True)
class Answers:
    """What a network is to say of each image.

    Attributes:
        labels: int32 (N,) positions in `classes`, or float32 (N, K): 0 and 1 for several labels, numbers for
            regression.
        classes: the K names: of classes, or of the columns of numbers.
        task: one of `TASKS`.
        told_by: where several labels were told by the separator in a cell: which cell that is, for people.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    task: str
    told_by: str = field(default="", repr=False)


def read_answers(
    columns: Columns,
    *,
    place: str,
    row: Callable[[int], str] = lambda index: f"image {index}",
    task: str | None = None,
    separator: str = SEPARATOR,
    declared: Sequence[str] | None = None,
) -> Answers:
    """Reads label columns by one rule, whatever they come from.

    The task, where it is not given:

    - several columns: ``multi-label`` when all cells are 0 or 1 (or true and false), else ``regression``;
    - a column of lists: ``regression`` when they hold fractions, else ``multi-label`` (lists of one length that hold
      nothing but 0 and 1 say yes or no of each class, others name the labels; where classes are declared, such lists
      say yes or no when there is a number for each class and some list holds one twice);
    - a column of fractions (numbers of a floating type; in text, numbers of which one is not whole): ``regression``;
    - a column of text in which the separator occurs: ``multi-label``;
    - anything else, whole numbers included: ``class``.

    Classes are the values that occur, as text in sorted order, whole numbers by their size. In a multi-label column
    an empty cell means none of the labels; everywhere else it is an error.

    Args:
        columns: names to cells: text, numbers, None, or lists; or arrays (N,) or (N, K).
        place: where they come from, for people.
        row: says to people where a row is.
        task: one of `TASKS`; None: by the rule above.
        separator: between the labels of a cell.
        declared: all class names in order. Whole numbers are positions in it, text must be one of them.

    Raises:
        InputError: listing all that is wrong: empty cells, labels that are no class, numbers that are none.

    >>> read_answers({"label": ["10", "9", "10"]}, place="a.csv")
    Answers(labels=array([1, 0, 1], dtype=int32), classes=('9', '10'), task='class')
    >>> read_answers({"tags": ["sun;sea", "", "sea"]}, place="a.csv").labels.tolist()
    [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    >>> read_answers({"x": ["1.5", "2"], "y": [0, 1]}, place="a.csv").task
    'regression'
    """
    check_task(task)
    if not separator:
        raise InputError("label_separator is empty: give the text between the labels of a cell, such as ';'")
    read = _Reader(place, row, declared)
    cells = {name: _plain(values) for name, values in columns.items()}
    if len(cells) > 1:
        table = {name: read.numbers(name, values) for name, values in cells.items()}
        read.finish()
        return _several_columns(np.stack(list(table.values()), 1), tuple(cells), task, read)
    ((name, values),) = cells.items()
    kind = _kind(values)
    told_by = ""
    if task is None:
        separated = (index for index, value in enumerate(values) if isinstance(value, str) and separator in value)
        if kind == "text" and (first := next(separated, None)) is not None:
            parts = shown(map(repr, _parts(values[first], separator)), 3)
            told_by = f"{row(first)}: {values[first]!r} is read as the labels {parts or 'none'}"
        task = "multi-label" if told_by else {"fraction": "regression", "lists": "multi-label"}.get(kind, "class")
        if kind == "vectors":
            task = "regression"
    if kind in ("lists", "vectors"):
        return _lists(name, values, task, read)
    if task == "regression":
        numbers = read.numbers(name, values)
        read.finish()
        return Answers(numbers.astype(np.float32)[:, None], (name,), task)
    if task == "multi-label":
        if declared is None and kind == "integer" and all(_number(value) in (0, 1) for value in values):
            return _several_columns(np.array([[_number(value)] for value in values]), (name,), task, read)
        answers = _memberships(name, [_parts(_text(value), separator) for value in values], read)
        return replace(answers, told_by=told_by)
    return _single(name, values, read)


def check_task(task: str | None) -> None:
    """Raises `InputError` for an unknown task."""
    if task is not None and task not in TASKS:
        raise InputError(f"task '{task}' is none of {', '.join(TASKS)}{nearest(str(task), TASKS)}")


class _Reader:
    """Collects what is wrong."""

    def __init__(self, place: str, row: Callable[[int], str], declared: Sequence[str] | None) -> None:
        self.place, self.row, self.declared = place, row, None if declared is None else tuple(declared)
        self.problems: list[str] = []

    def at(self, rows: Sequence[int] | np.ndarray) -> str:
        return shown(self.row(int(index)) for index in rows)

    def finish(self) -> None:
        refuse(self.place, self.problems)

    def numbers(self, name: str, values: list[Any]) -> np.ndarray:
        found = np.array([_number(value) for value in values], np.float64)
        empty = [index for index, value in enumerate(values) if _is_empty(value)]
        self._empty(name, empty)
        if wrong := sorted(set(np.flatnonzero(~np.isfinite(found)).tolist()) - set(empty)):
            what = shown(sorted({repr(values[index]) for index in wrong}), 3)
            self.problems.append(f"'{name}' holds no finite number ({what}) in {self.at(wrong)}: correct or remove it")
        return found

    def texts(self, name: str, values: list[Any]) -> list[str]:
        self._empty(name, [index for index, value in enumerate(values) if _is_empty(value)])
        return [_text(value) for value in values]

    def _empty(self, name: str, rows: list[int]) -> None:
        if rows:
            self.problems.append(f"'{name}' is empty in {self.at(rows)}: fill the cells or remove the rows")

    def positions(self, name: str, groups: Sequence[Sequence[Any]]) -> tuple[list[list[int]], tuple[str, ...]]:
        """Positions in the classes of each row's labels, and the classes."""
        if self.declared is None:
            texts = [[_text(value) for value in group] for group in groups]
            classes = tuple(_in_order({text for group in texts for text in group}))
            place = {text: position for position, text in enumerate(classes)}
            return [[place[text] for text in group] for group in texts], classes
        classes = self.declared
        place = {text: position for position, text in enumerate(classes)}
        found = [[_position(value, place, len(classes)) for value in group] for group in groups]
        wrong = [index for index, group in enumerate(found) if None in group]
        if wrong:
            strange = [value for i in wrong for value, at in zip(groups[i], found[i], strict=True) if at is None]
            said = Counter(_text(value) for value in strange)
            most = ", ".join(f"{text!r} ({count} times)" for text, count in said.most_common(3))
            hint = nearest(next(iter(said)), classes)
            self.problems.append(
                f"'{name}' holds labels out of range, {most}, in {self.at(wrong)}: there are {len(classes)} classes, "
                f"{shown(classes, 5)}{hint}"
            )
        return [[at or 0 for at in group] for group in found], classes


def _single(name: str, values: list[Any], read: _Reader) -> Answers:
    if read.declared is None:
        texts: Sequence[Any] = read.texts(name, values)
    else:
        read.texts(name, values)
        texts = values
    read.finish()
    positions, classes = read.positions(name, [[value] for value in texts])
    read.finish()
    return Answers(np.array([group[0] for group in positions], np.int32), classes, "class")


def _memberships(name: str, groups: Sequence[Sequence[Any]], read: _Reader) -> Answers:
    positions, classes = read.positions(name, groups)
    if not classes:
        read.problems.append(f"'{name}' names no label at all")
    read.finish()
    labels = np.zeros((len(groups), len(classes)), np.float32)
    for row, group in enumerate(positions):
        labels[row, group] = 1
    return Answers(labels, classes, "multi-label")


def _lists(name: str, values: list[Any], task: str, read: _Reader) -> Answers:
    groups = [[] if value is None else _plain(value) for value in values]
    lengths = sorted({len(group) for group in groups})
    says_yes_or_no = len(lengths) == 1 and _is_yes_or_no(groups)
    if says_yes_or_no and read.declared is not None:  # positions among the classes come once each
        says_yes_or_no = lengths[0] == len(read.declared) and any(len(set(group)) < len(group) for group in groups)
    if task == "multi-label" and not says_yes_or_no:
        return _memberships(name, groups, read)
    if len(lengths) != 1:
        read.problems.append(f"'{name}' holds lists of {shown(lengths)} numbers: give each image as many")
        read.finish()
    width = lengths[0]
    names = tuple(f"{name}_{k}" for k in range(width)) if read.declared is None else read.declared
    flat = read.numbers(name, [value for group in groups for value in group])
    read.finish()
    return _several_columns(flat.reshape(len(groups), width), names, task, read)


def _several_columns(table: np.ndarray, names: tuple[str, ...], task: str | None, read: _Reader) -> Answers:
    binary = bool(np.isin(table, (0, 1)).all())
    task = task or ("multi-label" if binary else "regression")
    if task != "regression" and not binary:
        wrong = np.flatnonzero(~np.isin(table, (0, 1)).all(1))
        read.problems.append(
            f"the columns {shown(names)} hold more than 0 and 1, in {read.at(wrong)}: "
            "give task='regression', or correct them"
        )
    if task == "class":
        several = np.flatnonzero((table != 0).sum(1) != 1)
        if len(several) and binary:
            read.problems.append(
                f"not exactly one of the columns {shown(names)} is 1 in {read.at(several)}: correct them, or give "
                "task='multi-label'"
            )
        read.finish()
        return Answers(table.argmax(1).astype(np.int32), names, task)
    read.finish()
    return Answers(table.astype(np.float32), names, task)


def _kind(values: list[Any]) -> str:
    """``integer``, ``fraction``, ``text``, ``lists`` (of labels) or ``vectors`` (of fractions)."""
    given = [value for value in values if value is not None]
    if any(isinstance(value, list | tuple | np.ndarray) for value in given):
        inner = [part for value in given for part in _plain(value)]
        return "vectors" if any(isinstance(part, float) for part in inner) else "lists"
    if any(isinstance(value, float) for value in given):
        return "fraction" if all(isinstance(value, int | float) for value in given) else "text"
    if any(isinstance(value, str) for value in given):
        filled = [value for value in given if not _is_empty(value)]
        if not filled or all(_is_whole(_text(value)) for value in filled):
            return "integer"
        # ``nan`` in a column of numbers is a number that is missing, and as a word alone a class
        numbers = [_number(value) for value in filled]
        tellable = [
            math.isfinite(number) or _text(value).lower() in _NOT_FINITE
            for number, value in zip(numbers, filled, strict=True)
        ]
        return "fraction" if all(tellable) and any(map(math.isfinite, numbers)) else "text"
    return "integer"


_NOT_FINITE = ("nan", "inf", "-inf", "infinity", "-infinity")


def _plain(values: Any) -> list[Any]:
    """Python values, bytes as text."""
    found = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [_one(value) for value in found]


def _one(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.generic):
        return value.item()
    return value


def _parts(cell: str, separator: str) -> list[str]:
    return [part.strip() for part in cell.split(separator) if part.strip()]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value).strip()


def _number(value: Any) -> float:
    if isinstance(value, str) and "_" in value:  # Python reads 1_2 as 12; as a label it is a word
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return {"true": 1.0, "false": 0.0}.get(_text(value).lower(), math.nan)


def _is_empty(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and math.isnan(value))
    )


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _is_yes_or_no(groups: Sequence[Sequence[Any]]) -> bool:
    return all(value in (0, 1) and not isinstance(value, str) for group in groups for value in group)


def _in_order(texts: set[str]) -> list[str]:
    if all(map(_is_whole, texts)):
        return sorted(texts, key=lambda text: (int(text), text))
    return sorted(texts)


def _position(value: Any, place: Mapping[str, int], classes: int) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return int(value) if 0 <= value < classes else None
    text = _text(value)
    if text in place:
        return place[text]
    return int(text) if _is_whole(text) and 0 <= int(text) < classes else None
