"""Files below a folder, through links, each real folder once."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Walk:
    """What lies below a folder, hidden files and folders left out.

    Attributes:
        files: sorted paths below the folder, with forward slashes.
        repeated: links to folders whose files are there already; a link in a circle is one of them.
        closed: folders that cannot be read.
    """

    files: tuple[str, ...]
    repeated: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


def walk(folder: Path) -> Walk:
    """Looks through a folder and those below it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "a.txt").touch()
    >>> (folder / "again").symlink_to(folder)
    >>> walk(folder)
    Walk(files=('a.txt',), repeated=('again',), closed=())
    """
    files: list[str] = []
    repeated: list[str] = []
    closed: list[str] = []
    seen = {_which(folder)}
    for where, folders, names in os.walk(folder, followlinks=True, onerror=lambda error: closed.append(error.filename)):
        here = Path(where).relative_to(folder)
        kept = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            which = _which(os.path.join(where, name))
            if which in seen:
                repeated.append((here / name).as_posix())
            else:
                seen.add(which)
                kept.append(name)
        folders[:] = kept
        files += [(here / name).as_posix() for name in names if not name.startswith(".")]
    relative = [Path(path).relative_to(folder).as_posix() for path in closed]
    return Walk(tuple(sorted(files)), tuple(repeated), tuple(relative))


def subfolders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder: without hidden ones, and without links that lead back to where it lies.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "cats").mkdir()
    >>> (folder / "again").symlink_to(folder)
    >>> subfolders(folder)
    ['cats']
    """
    here = folder.resolve()
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if not entry.name.startswith(".")
        and os.path.isdir(entry.path)
        and not (entry.is_symlink() and here.is_relative_to(Path(entry.path).resolve()))
    )


def _which(folder: str | Path) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino
