"""Folders that are written to, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from jaxtl.errors import InputError

_UNFINISHED = ".unfinished-"
_ABANDONED = 24 * 3600  # seconds after which what is unfinished belongs to a process that was killed


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in place of a ``~`` at its beginning.

    >>> expanded("~/runs") == Path.home() / "runs", expanded("runs")
    (True, PosixPath('runs'))
    """
    return Path(os.path.expanduser(path))


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
def written_together(folder: Path, instead_of: Collection[str] = ()) -> Iterator[Path]:
    """A new folder to write files into. When that is done they take their places in ``folder`` (which is made): all of
    them or, after any failure, none, and what was there before stays.

    Args:
        folder: where the files belong.
        instead_of: names of earlier files that go when the new ones come, whether or not there are new ones of them.

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
        for unfinished in folder.glob(f"{_UNFINISHED}*"):
            with contextlib.suppress(FileNotFoundError):  # another process has finished meanwhile
                if time.time() - unfinished.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(unfinished)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}") from error
    try:
        yield unfinished
        _publish(unfinished, folder, sorted(path.name for path in unfinished.iterdir()), instead_of)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _publish(unfinished: Path, folder: Path, names: list[str], instead_of: Collection[str]) -> None:
    """Puts files in their places, or, when that fails, the earlier ones back."""
    earlier = {name: unfinished / f"earlier-{name}" for name in {*names, *instead_of} if (folder / name).exists()}
    for name, kept in earlier.items():
        _second_name(folder / name, kept)
    try:
        for name in names:
            os.replace(unfinished / name, folder / name)
        for name in earlier.keys() - set(names):
            (folder / name).unlink()
    except BaseException:
        for name in names:
            if name not in earlier:
                (folder / name).unlink(missing_ok=True)
        for name, kept in earlier.items():
            shutil.move(kept, folder / name)
        raise


def _second_name(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, name)
