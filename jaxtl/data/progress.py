"""A bar for what takes a while."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


def tracked(items: Iterable[T], total: int, description: str, shown: bool = True) -> Generator[T, None, None]:
    """The items, with a bar on standard error where that is a terminal.

    >>> list(tracked("ab", 2, "reading"))
    ['a', 'b']
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not shown or not console.is_terminal) as bar:
        yield from bar.track(items, total=total, description=description)
