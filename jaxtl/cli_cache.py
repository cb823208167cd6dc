"""``jaxtl cache``: what jaxtl keeps on disk, listed and cleared."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxtl.cache import KINDS

COMPILED = "compiled"
ALL_KINDS = (*KINDS, COMPILED)


def cache(
    action: Annotated[str, typer.Argument(help="list or clear.")] = "list",
    kind: Annotated[str | None, typer.Argument(help=f"Only one of {', '.join(ALL_KINDS)}.")] = None,
) -> None:
    """List or clear what was computed once and kept on disk: features, decoded images, which images can be read,
    labels of large data sets, compiled programs."""
    from jaxtl.errors import InputError, nearest

    if action not in ("list", "clear"):
        raise InputError(f"jaxtl cache can list and clear, not {action!r}{nearest(action, ['list', 'clear'])}")
    if kind not in (None, *ALL_KINDS):
        raise InputError(
            f"the cache holds no {kind!r}{nearest(kind or '', ALL_KINDS)}; there are {', '.join(ALL_KINDS)}"
        )
    typer.echo(_cleared(kind) if action == "clear" else _listed(kind))


def _cleared(kind: str | None) -> str:
    from jaxtl.cache import cache_folder, clear
    from jaxtl.compiled import clear_compiled

    size = 0 if kind == COMPILED else clear(kind)
    size += clear_compiled() if kind in (None, COMPILED) else 0
    return f"{_size(size)} removed from {cache_folder()}"


def _listed(kind: str | None) -> str:
    import time

    from jaxtl.cache import cache_folder, entries, limit
    from jaxtl.compiled import compiled_size

    found = [entry for entry in entries() if kind in (None, entry.kind)]
    rows = [
        f"{_size(entry.size):>9}  {time.strftime('%Y-%m-%d %H:%M', time.localtime(entry.used))}  {entry.kind}: "
        f"{', '.join(str(entry.about[key]) for key in ('what', 'data', 'of') if key in entry.about)}"
        for entry in found
    ]
    compiled = compiled_size() if kind in (None, COMPILED) else 0
    rows += [f"{_size(compiled):>9}  compiled programs"] if compiled else []
    total = sum(entry.size for entry in found) + compiled
    return "\n".join([*rows, f"{_size(total)} in {cache_folder()} (limit without programs: {_size(limit())})"])


def _size(count: int) -> str:
    """
    >>> _size(1234567)
    '1.2 MB'
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
