"""The folder where jaxtl keeps what was computed once: listed, bounded, cleared.

``$JAXTL_CACHE`` names it; else it is ``jaxtl`` in ``$XDG_CACHE_HOME`` or ``~/.cache``, and for a user without a home
``jaxtl-`` and the user's number among the temporary files. An entry is a folder ``KIND/KEY`` with ``about.json``.
Everything in it can be made again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtl.errors import InputError
from jaxtl.files import make_folder
from jaxtl.unfinished import PREFIX, remove_abandoned, unfinished_folder

FEATURES, DECODED, CHECKED, LABELS = KINDS = ("features", "decoded", "checked", "labels")
"""What entries are for."""
LIMIT = 20 * 2**30
"""Bytes that all entries may take together, unless ``$JAXTL_CACHE_LIMIT`` gives another number."""

_ABOUT = "about.json"


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes:
        folder: where it lies.
        kind: what it is for, "features" for example.
        about: what its maker said of it, and when it was created.
        size: bytes.
        used: when it was last used, seconds since 1970.
    """

    folder: Path
    kind: str
    about: dict[str, Any]
    size: int
    used: float


def cache_folder() -> Path:
    """The folder, which need not exist.

    Raises:
        InputError: nobody named one, there is no home folder, and what stands for it belongs to another user.

    >>> os.environ["JAXTL_CACHE"] == str(cache_folder()) or cache_folder().name == "jaxtl"
    True
    """
    if given := os.environ.get("JAXTL_CACHE"):
        return Path(given)
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "jaxtl"
    try:
        return Path.home() / ".cache" / "jaxtl"
    except RuntimeError:  # a container's user without a name
        return _without_a_home(os.getuid())


def _without_a_home(user: int) -> Path:
    folder = Path(tempfile.gettempdir()) / f"jaxtl-{user}"
    if folder.exists() and folder.stat().st_uid != user:  # programs are run from it
        raise InputError(f"{folder} belongs to another user; name another folder with JAXTL_CACHE")
    return folder


def limit() -> int:
    """Bytes that the entries may take together.

    Raises:
        InputError: ``$JAXTL_CACHE_LIMIT`` is no whole number of bytes.
    """
    given = os.environ.get("JAXTL_CACHE_LIMIT", str(LIMIT))
    if not given.isdecimal():
        raise InputError(f"JAXTL_CACHE_LIMIT is {given!r}; give a number of bytes, such as {LIMIT}")
    return int(given)


def entries() -> list[Entry]:
    """All entries, the one that was used last first."""
    found = []
    for about in cache_folder().glob(f"*/*/{_ABOUT}"):
        folder = about.parent
        if folder.name.startswith(PREFIX):
            continue
        with contextlib.suppress(OSError, ValueError):  # cleared meanwhile by another process
            said = json.loads(about.read_text(encoding="utf-8"))
            size = sum(file.stat().st_size for file in folder.iterdir())
            found.append(Entry(folder, folder.parent.name, said, size, about.stat().st_mtime))
    return sorted(found, key=lambda entry: -entry.used)


def find(kind: str, key: str) -> Path | None:
    """The folder of an entry, which counts as used now; None where there is none."""
    folder = cache_folder() / kind / key
    try:
        os.utime(folder / _ABOUT)
    except OSError:  # the disk can only be read, where it is there
        return folder if os.path.isfile(folder / _ABOUT) else None
    return folder


@contextlib.contextmanager
def written(kind: str, key: str, about: dict[str, Any]) -> Iterator[Path]:
    """A new folder to write an entry's files into. It becomes the entry when all is written, or nothing is left of it.

    Raises:
        InputError: the cache cannot be written.

    >>> with written("example", "0123", {"what": "a doctest's"}) as folder:
    ...     _ = (folder / "data.txt").write_text("whole")
    >>> (find("example", "0123") / "data.txt").read_text(), clear("example") > 0, find("example", "0123")
    ('whole', True, None)
    """
    parent = cache_folder() / kind
    make_folder(parent)
    with contextlib.ExitStack() as making:
        try:
            folder = making.enter_context(unfinished_folder(parent))
        except OSError as error:
            raise InputError(f"{parent} cannot be written: {error}; name another folder with JAXTL_CACHE") from error
        yield folder
        about.setdefault("created", time.strftime("%Y-%m-%d %H:%M:%S"))
        (folder / _ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
        for file in folder.iterdir():  # so that the move into place does not reach the disk before the content
            with file.open("rb") as written_file:
                os.fsync(written_file.fileno())
        if not (parent / key / _ABOUT).is_file():
            _remove(parent / key)  # what an interrupted removal left
        with contextlib.suppress(OSError):  # another process was faster, with the same content
            os.rename(folder, parent / key)


def room() -> int:
    """Bytes that one more entry may take: ``limit()``, but never more than half of what the disk has free.

    What there is counts as free, since ``make_room`` removes it. What processes that were killed left unfinished goes
    at once.
    """
    existing = _existing(cache_folder())
    if not os.access(existing, os.W_OK):
        return 0
    _remove_abandoned()
    return min(limit(), (shutil.disk_usage(existing).free + sum(entry.size for entry in entries())) // 2)


def make_room(size: int) -> bool:
    """Removes the entries that were not used for longest until so many bytes more fit; False where they never do.

    A process that still reads one of them keeps it until it ends.
    """
    if size > room():
        return False
    kept = entries()
    free = shutil.disk_usage(_existing(cache_folder())).free
    while kept and (sum(entry.size for entry in kept) + size > limit() or size > free // 2):
        oldest = kept.pop()
        _remove(oldest.folder)
        free += oldest.size
    return size <= free // 2


def remove(kind: str, key: str) -> None:
    """Removes an entry, where it is there."""
    _remove(cache_folder() / kind / key)


def clear(kind: str | None = None) -> int:
    """Removes all entries, or those of one kind, and what processes that were killed left unfinished; the bytes they
    took."""
    removed = _remove_abandoned(kind or "*")
    for entry in entries():
        if kind in (None, entry.kind):
            _remove(entry.folder)
            removed += entry.size
    return removed


def _remove(folder: Path) -> None:
    """Out of the way first: what is left where this is interrupted is no entry, and hinders none."""
    if not folder.exists():
        return
    with contextlib.suppress(OSError), unfinished_folder(folder.parent) as aside:
        os.rename(folder, aside / folder.name)


def _remove_abandoned(kind: str = "*") -> int:
    return sum(map(remove_abandoned, cache_folder().glob(kind)))


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
