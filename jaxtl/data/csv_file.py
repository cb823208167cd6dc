"""CSV files: which delimiter, which encoding, and where each row stands."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxtl.data.kinds import Options
from jaxtl.data.opened import Opened
from jaxtl.data.problems import refuse, shown
from jaxtl.data.table import Table, open_table
from jaxtl.errors import InputError, nearest

DELIMITERS = (",", ";", "\t")


def open_source(path: str, channels: int, options: Options) -> Opened:
    """The images that a CSV file lists."""
    return open_table(read_csv(Path(path).expanduser()), channels, options)


def read_csv(path: Path) -> Table:
    """A CSV file with a header: UTF-8 (with or without a byte order mark), quoted as spreadsheets do.

    The delimiter is the one of comma, semicolon and tab that gives the header the most columns. Empty lines are
    passed over, and columns without a name are called by their number.

    Raises:
        InputError: listing all that is wrong: no such file, no header, columns of the same name, rows with more or
            fewer cells, no UTF-8.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "labels.csv")
    >>> _ = path.write_text('path;label\\n"a;b.png";cat\\n')
    >>> read_csv(path).columns
    {'path': ['a;b.png'], 'label': ['cat']}
    """
    text = _text(path)
    header = next((line for line in io.StringIO(text) if line.strip()), "")
    delimiter = max(DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            if cells:
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from None
    if not rows:
        raise InputError(f"{path} is empty: its first line names the columns, such as path,label")
    names = [name.strip() or f"column {number}" for number, name in enumerate(rows[0], 1)]
    problems = []
    if twice := [repr(name) for name, count in Counter(names).items() if count > 1]:
        problems.append(f"columns of the same name: {shown(twice)}")
    ragged = [line for cells, line in zip(rows[1:], lines[1:], strict=True) if len(cells) != len(names)]
    if ragged:
        problems.append(
            f"not {len(names)} cells, as the first line has, in line {shown(ragged)}: "
            f"quote cells that hold {delimiter!r}"
        )
    refuse(path, problems)
    columns: dict[str, Sequence[str]] = {name: [cells[place] for cells in rows[1:]] for place, name in enumerate(names)}
    return Table(path, columns, lambda index: f"line {lines[index + 1]}")


def _text(path: Path) -> str:
    if not path.is_file():
        near = nearest(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise InputError(f"file '{path}' does not exist{near}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None
