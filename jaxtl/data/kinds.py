"""The kinds of places that images are opened from, and what may be said of each."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable, Sequence

from jaxtl.data.answers import SEPARATOR
from jaxtl.data.opened import Opened
from jaxtl.errors import InputError, nearest


@dataclasses.dataclass(frozen=True)
class Options:
    """How images and labels are found; `jaxtl.open_data` says what each means.

    >>> Options(label_column="age", task="regression").given
    {'label_column': 'age', 'task': 'regression'}
    """

    path_column: str | None = None
    label_column: str | Sequence[str] | None = None
    group_column: str | None = None
    split_column: str | None = None
    label_separator: str = SEPARATOR
    task: str | None = None
    value_range: tuple[float, float] | None = None
    tested: bool = False
    """Nothing is trained on these images, so that one class, or a part for validation alone, is enough."""

    def __post_init__(self) -> None:
        for name in ("label_column", "value_range"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        if self.label_column is not None and not self.label_column:
            raise InputError("label_column is empty: name a column, or several")

    @property
    def given(self) -> dict[str, object]:
        """What was said of this kind of place: those that are not the default."""
        fields = [field for field in dataclasses.fields(self) if field.name != "tested"]
        return {field.name: value for field in fields if (value := getattr(self, field.name)) != field.default}

    @property
    def label_columns(self) -> tuple[str, ...] | None:
        """As a tuple, where they are given."""
        given = self.label_column
        return (given,) if isinstance(given, str) else None if given is None else tuple(given)


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of place.

    Attributes:
        form: how it is written.
        module: of `jaxtl.data`, whose function ``open_source(path, channels, options)`` gives an `Opened`; imported
            when it is needed.
        options: which of `Options` it takes.
        path: whether a path or name follows the kind.
        augment: what ``auto`` means.
    """

    form: str
    module: str
    options: tuple[str, ...] = ()
    path: bool = True
    augment: str = "light"

    @property
    def opener(self) -> Callable[[str, int, Options], Opened]:
        return importlib.import_module(f"jaxtl.data.{self.module}").open_source


_LABELS = ("label_column", "label_separator", "task")
_TABLE = ("path_column", *_LABELS, "group_column", "split_column")
KINDS = {
    "folder": Kind("folder:PATH", "folder"),
    "csv": Kind("csv:PATH", "csv_file", _TABLE),
    "parquet": Kind("parquet:PATH", "parquet_file", _TABLE),
    "tfds": Kind("tfds:NAME", "tfds", ("path_column", *_LABELS, "group_column")),
    "hf": Kind("hf:NAME", "hf", ("path_column", *_LABELS, "group_column")),
    "arrays": Kind("arrays:PATH", "arrays", ("label_separator", "task", "value_range")),
    "tar": Kind("tar:PATTERN", "tar", ("path_column", *_LABELS)),
    "digits": Kind("digits", "digits", path=False, augment="glyph"),
}


def kind_of(spec: str) -> tuple[Kind, str]:
    """The kind that a description begins with, and the path or name behind it.

    Raises:
        InputError: an unknown kind, or no path.

    >>> kind, path = kind_of("csv:photos/labels.csv")
    >>> kind.form, path
    ('csv:PATH', 'photos/labels.csv')
    """
    word, colon, path = spec.partition(":")
    if word in KINDS and KINDS[word].path and not path:
        what = KINDS[word].form.partition(":")[2].lower()
        raise InputError(f"data '{word}:' names no {_WHAT.get(word, what)}: write {KINDS[word].form}")
    if word not in KINDS or (colon and not KINDS[word].path):
        raise InputError(_unknown(spec, word))
    return KINDS[word], path


def refuse_others(spec: str, kind: Kind, options: Options) -> None:
    """Raises `InputError` for options that mean nothing for a kind."""
    if strange := [name for name in options.given if name not in kind.options]:
        takes = f"takes {', '.join(kind.options)}" if kind.options else "takes none of them"
        raise InputError(f"{', '.join(strange)} means nothing for '{spec}': {kind.form} {takes}")


_WHAT = {"folder": "folder", "csv": "file", "parquet": "file", "arrays": "file", "tar": "shards"}


def _unknown(spec: str, word: str) -> str:
    forms = [f"'{kind.form}'" for kind in KINDS.values()]
    known = f"{', '.join(forms[:-1])} and {forms[-1]}"
    is_folder = os.path.isdir(os.path.expanduser(spec))
    if not is_folder and (":" in spec or not any(mark in spec for mark in "/\\.")):
        return f"unknown data '{spec}' (known: {known}){nearest(word, KINDS)}"
    ending = spec.rpartition(".")[2].lower()
    fitting = {"csv": "csv", "tsv": "csv", "parquet": "parquet", "npz": "arrays", "npy": "arrays", "tar": "tar"}
    if ending in fitting and not is_folder:
        return f"unknown data '{spec}' (known: {known}); write '{fitting[ending]}:{spec}'"
    return f"unknown data '{spec}' (known: {known}); for a folder write 'folder:{spec}'"
