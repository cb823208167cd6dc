"""Folders in the making: locked as long as their process lives, so that those of a killed one can be told."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".unfinished-"
_ABANDONED = 24 * 3600  # seconds after which one belongs to a process that ended, where its lock does not tell


@contextlib.contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """A new folder below one that is there; what is left of it in the end is removed. Those that were abandoned go
    first.

    Raises:
        OSError: it cannot be made.

    >>> with unfinished_folder(Path(tempfile.mkdtemp())) as folder:
    ...     folder.is_dir(), remove_abandoned(folder.parent), folder.is_dir()
    (True, 0, True)
    >>> folder.exists()
    False
    """
    remove_abandoned(parent)
    folder, held = _new(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def remove_abandoned(parent: Path) -> int:
    """Removes the unfinished folders of processes that ended; the bytes they took.

    Those of another machine, which may keep its locks to itself, and those on a disk without locks count as abandoned
    after a day.
    """
    removed = 0
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # finished or removed meanwhile by another process
            old = time.time() - folder.stat().st_mtime > _ABANDONED
            with _locked(folder) as held:
                ours = held and folder.name.rpartition("-")[0] == _prefix()
                if ours or (old and held is not False):
                    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                    shutil.rmtree(folder)
                    removed += size
    return removed


def lock(descriptor: int) -> bool | None:
    """Locks an open file or folder until it is closed: False where another holds it, None where its disk has no locks.

    >>> with tempfile.NamedTemporaryFile() as one, open(one.name) as other:
    ...     lock(one.fileno()), lock(other.fileno())
    (True, False)
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without them
        return None
    return True


def _prefix() -> str:
    return PREFIX + re.sub(r"[^\w.-]", "_", platform.node())


def _new(parent: Path) -> tuple[Path, int]:
    while True:  # between its making and its lock another process may take it for abandoned
        folder = Path(tempfile.mkdtemp(prefix=f"{_prefix()}-", dir=parent))
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            if lock(descriptor) is not False and folder.is_dir():
                return folder, descriptor
            os.close(descriptor)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool | None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield lock(descriptor)
    finally:
        os.close(descriptor)
