"""Folders that are written to, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxtl.errors import InputError

_UNFINISHED = ".unfinished-"


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


@contextlib.contextmanager
def written_together(folder: Path) -> Iterator[Path]:
    """A new folder to write files into. When that is done they take their places in ``folder`` (which is made): all of
    them or, after any failure, none, and what was there before stays.

    Raises:
        InputError: the path is a file, or cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp(), "new")
    >>> with written_together(folder) as unfinished:
    ...     _ = (unfinished / "a.txt").write_text("all of it")
    >>> [path.name for path in folder.iterdir()]
    ['a.txt']
    """
    make_folder(folder)
    try:
        for abandoned in folder.glob(f"{_UNFINISHED}*"):  # by a process that was killed
            shutil.rmtree(abandoned)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}") from error
    try:
        yield unfinished
        _publish(unfinished, folder, sorted(path.name for path in unfinished.iterdir()))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _publish(unfinished: Path, folder: Path, names: list[str]) -> None:
    """Puts files in their places, or, when that fails, the earlier ones back."""
    for name in names:
        if (folder / name).exists():
            _second_name(folder / name, unfinished / f"earlier-{name}")
    try:
        for name in names:
            os.replace(unfinished / name, folder / name)
    except BaseException:
        for name in names:
            earlier = unfinished / f"earlier-{name}"
            if earlier.exists():
                shutil.move(earlier, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
        raise


def _second_name(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, name)
