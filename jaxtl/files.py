"""Folders that are written to, and files that are there whole or not at all."""

from __future__ import annotations

import os
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


def write_whole(path: Path, text: str) -> None:
    """Writes a text file that is there whole or not at all, whenever the process ends; its folder is made.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "new", "a.txt")
    >>> write_whole(path, "all of it")
    >>> path.read_text()
    'all of it'
    """
    make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
