"""Folders that are written to, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from jaxtl.errors import InputError
from jaxtl.unfinished import unfinished_folder

_AT_ONCE = 2**20  # bytes


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


def check_writable(file: Path) -> None:
    """Tells that a file cannot be written before the work is done that it is for. Nothing is made.

    Raises:
        InputError: the path is a folder, one above it is a file, or writing is not allowed.

    >>> import tempfile
    >>> check_writable(Path(tempfile.mkdtemp(), "new", "plan.yaml"))
    >>> check_writable(Path(tempfile.mkdtemp()))
    Traceback (most recent call last):
    jaxtl.errors.InputError: ... is a folder; name a file
    """
    if file.is_dir():
        raise InputError(f"{file} is a folder; name a file")
    there = next(path for path in (file, *file.absolute().parents) if os.path.exists(path))
    if there != file and not there.is_dir():
        raise InputError(f"{there} is a file, and {file} cannot be in it; name a folder")
    if not os.access(there, os.W_OK):
        raise InputError(f"{there} cannot be written (permission denied): allow it, or name another place")


def check_new(file: Path) -> None:
    """As ``check_writable``, of a file that must not be there yet.

    Raises:
        InputError: it is there, or cannot be written.
    """
    check_writable(file)
    if file.exists():
        raise InputError(f"{file} is there already, and would be replaced: remove it, or choose another output")


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


def reserve(file: Path) -> None:
    """Gives every byte of a file its place on the disk, so that what is written to a memory map of it later finds
    space: where it does not, the system ends the process.

    Raises:
        OSError: there is no space for it.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "zeros")
    >>> with file.open("wb") as new:
    ...     new.truncate(5)
    5
    >>> reserve(file)
    >>> file.read_bytes()
    b'\\x00\\x00\\x00\\x00\\x00'
    """
    with file.open("r+b", buffering=0) as opened:
        size = os.fstat(opened.fileno()).st_size
        try:
            os.posix_fallocate(opened.fileno(), 0, size)
            return
        except AttributeError:  # on macOS
            pass
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        while part := opened.read(_AT_ONCE):
            opened.seek(-len(part), os.SEEK_CUR)
            left = memoryview(part)
            while left:
                left = left[opened.write(left) :]


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
    with contextlib.ExitStack() as making:
        try:
            unfinished = making.enter_context(unfinished_folder(folder))
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error}") from error
        yield unfinished
        _publish(unfinished, folder, sorted(path.name for path in unfinished.iterdir()), instead_of)


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
