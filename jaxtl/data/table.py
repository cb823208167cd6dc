"""Tables that say which image has which label: one row an image, whatever file they were read from."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data.answers import read_answers
from jaxtl.data.image_files import FileSource
from jaxtl.data.kinds import Options
from jaxtl.data.opened import TRAIN_NAMES, VAL_NAMES, Opened, check_groups, checked, given_split
from jaxtl.data.problems import Problems, refuse, shown
from jaxtl.errors import nearest

PATHS = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_file", "img",
    "img_path",
)  # fmt: skip
LABELS = ("label", "labels", "class", "class_name", "category", "target", "targets", "tags")
GROUPS = ("group", "groups", "group_id")
SPLITS = ("split",)


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length.

    Attributes:
        path: of the file; image paths are relative to its folder.
        columns: name to cells.
        row: says to people where a row is.
    """

    path: Path
    columns: dict[str, Sequence[Any]]
    row: Callable[[int], str]

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def open_table(table: Table, channels: int, options: Options) -> Opened:
    """The images of a table, by its columns of paths, labels, groups and splits.

    Raises:
        InputError: listing all that is wrong: columns that are missing or could be several, empty cells, images that do
            not exist, images that are there twice, words that are no split, and what `read_answers` and `checked` find.
    """
    columns = _Columns(table)
    paths = columns.one("path_column", options.path_column, PATHS, needed=True)
    labels = columns.labels(options.label_columns)
    groups = columns.one("group_column", options.group_column, GROUPS)
    splits = columns.one("split_column", options.split_column, SPLITS)
    columns.problems += [] if table.rows else ["it has no rows"]
    refuse(table.path, columns.problems)
    assert paths is not None

    train_rows, val_rows, notes, problems = _sides(table, splits, options.tested)
    used = [*train_rows, *val_rows]
    names, path_problems = _names(table, paths, used)
    problems += path_problems
    of_group = None if groups is None else [_word(value) for value in table.columns[groups]]
    if of_group is not None and (empty := [index for index in used if not of_group[index]]):
        problems.append(f"'{groups}' is empty in {_at(table, empty)}: name a group for each image")
    try:
        answers = read_answers(
            {name: [table.columns[name][index] for index in used] for name in labels},
            place=str(table.path),
            row=lambda index: table.row(used[index]),
            task=options.task,
            separator=options.label_separator,
        )
    except Problems as error:
        problems += error.problems
    refuse(table.path, problems)
    root = table.path.parent
    count = len(train_rows)
    train, val = (
        FileSource(root, names[part], answers.labels[part], channels) for part in (slice(count), slice(count, None))
    )
    if of_group is not None and val_rows and options.group_column is not None:
        check_groups(str(table.path), *([of_group[index] for index in rows] for rows in (train_rows, val_rows)))
    return checked(
        str(table.path),
        Opened(
            classes=answers.classes,
            train=train,
            val=val if val_rows else None,
            task=answers.task,
            origin=f"column '{splits}'",
            notes=tuple(notes),
            groups=None if of_group is None else tuple(of_group[index] for index in used),
            told_by=answers.told_by,
        ),
        options.tested,
    )


class _Columns:
    """Finds columns by what was given or else by the names that are usual, and collects what is wrong."""

    def __init__(self, table: Table) -> None:
        self._known = list(table.columns)
        self.problems: list[str] = []

    def one(self, option: str, given: str | None, usual: Sequence[str], needed: bool = False) -> str | None:
        if given is not None:
            return given if self._there(option, given) else None
        found = [name for name in self._known if name.strip().lower() in usual]
        if len(found) > 1:
            self.problems.append(f"{option} could be {' or '.join(map(repr, found))}: say which")
        elif needed and not found:
            self.problems.append(f"no column for {option}: name one of {shown(map(repr, self._known))}")
        return found[0] if found else None

    def labels(self, given: tuple[str, ...] | None) -> tuple[str, ...]:
        if given is None:
            found = self.one("label_column", None, LABELS, needed=True)
            return () if found is None else (found,)
        return tuple(name for name in given if self._there("label_column", name))

    def _there(self, option: str, name: str) -> bool:
        if name not in self._known:
            hint = nearest(name, self._known) or f"; there are {shown(map(repr, self._known))}"
            self.problems.append(f"{option}: there is no column '{name}'{hint}")
        return name in self._known


def _sides(table: Table, column: str | None, tested: bool) -> tuple[list[int], list[int], list[str], list[str]]:
    """Rows to train on and to validate with, notes, and problems."""
    if column is None:
        return list(range(table.rows)), [], [], []
    words = [_word(value).lower() for value in table.columns[column]]
    counts = Counter(words)
    train, val, others = given_split(list(counts))
    problems, notes = [], []
    if empty := [index for index, word in enumerate(words) if not word]:
        problems.append(f"'{column}' is empty in {_at(table, empty)}: fill the cells or remove the rows")
    known = (*TRAIN_NAMES, *VAL_NAMES)
    if strange := [word for word in counts if word and word not in known]:
        said = shown(strange, said=lambda word: f"'{word}'{nearest(word, known)}")
        problems.append(f"'{column}' holds what is no split, {said}: write train, val or test")
    elif train is None and not (tested and val is not None):
        problems.append(f"'{column}' names no image 'train': correct it, or give another split_column")
    if others:
        notes.append(f"split not used: {', '.join(f'{name} ({counts[name]} images)' for name in others)}")
    rows = {name: [index for index, word in enumerate(words) if word == name] for name in (train, val)}
    return rows[train], rows[val], notes, problems


def _names(table: Table, column: str, used: list[int]) -> tuple[list[str], list[str]]:
    """Paths of the images as names, and what is wrong with them."""
    given = [table.columns[column][index] for index in used]
    if strange := next(
        (value for value in given if value is not None and not isinstance(value, str | os.PathLike)), None
    ):
        kind = type(strange).__name__
        return [], [f"'{column}' holds no paths but {kind} values; images inside a table are read by 'hf:PATH'"]
    root = table.path.parent
    place = os.path.abspath(root)
    names = [_name(place, word) if (word := _word(value)) else "" for value in given]
    problems = []
    if empty := [index for index, name in zip(used, names, strict=True) if not name]:
        problems.append(f"'{column}' is empty in {_at(table, empty)}: fill the cells or remove the rows")
    missing = [(index, name) for index, name in zip(used, names, strict=True) if name and not (root / name).is_file()]
    if missing:
        lines = shown(f"'{name}' ({table.row(index)})" for index, name in missing)
        problems.append(
            f"{len(missing)} images do not exist, paths being relative to {root}: {lines}; correct the paths or remove "
            "the rows"
        )
    counts = Counter(os.path.normpath(os.path.join(place, name)) for name in names if name)
    twice = [_name(place, path) for path, count in counts.items() if count > 1]
    if twice:
        problems.append(
            f"{len(twice)} images are there more than once: {shown(twice)}; give each one row, several labels of "
            "an image in one cell"
        )
    return names, problems


def _name(place: str, path: str) -> str:
    """A path with forward slashes, from a folder on where it lies below it.

    >>> _name("/data", "/data/cats/1.png"), _name("/data", "./cats//1.png"), _name("/data", "/other/1.png")
    ('cats/1.png', 'cats/1.png', '/other/1.png')
    """
    path = os.path.normpath(path)
    if os.path.isabs(path) and path.startswith(os.path.join(place, "")):
        path = os.path.relpath(path, place)
    return path.replace(os.sep, "/")


def _at(table: Table, rows: Sequence[int]) -> str:
    return shown(table.row(index) for index in rows)


def _word(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return str(value).strip()
