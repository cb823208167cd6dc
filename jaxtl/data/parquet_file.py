"""Parquet files that list images."""

from __future__ import annotations

from pathlib import Path

from jaxtl.data.kinds import Options
from jaxtl.data.opened import Opened
from jaxtl.data.table import Table, open_table
from jaxtl.errors import InputError, nearest


def open_source(path: str, channels: int, options: Options) -> Opened:
    """The images that a Parquet file lists."""
    return open_table(read_parquet(Path(path).expanduser()), channels, options)


def read_parquet(path: Path) -> Table:
    """A Parquet file as a table.

    Raises:
        InputError: pyarrow is not installed; no such file, or it is no Parquet file.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"'parquet:{path}' needs pyarrow: pip install 'jaxtl[parquet]'") from None
    if not path.is_file():
        near = nearest(path.name, [entry.name for entry in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise InputError(f"file '{path}' does not exist{near}")
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from None
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return Table(path, columns, lambda index: f"row {index + 1}")
