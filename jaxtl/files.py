"""Folders that are written to."""

from __future__ import annotations

from pathlib import Path

from jaxtl.errors import InputError


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where they do not exist.

    Raises:
        InputError: the path, or one above it, is a file or cannot be written.

    >>> import tempfile
    >>> make_folder(Path(tempfile.mkdtemp(), "runs", "first"))
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file; name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}") from error
