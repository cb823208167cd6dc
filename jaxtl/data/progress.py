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
    hidden = not shown or not console.is_terminal
    with Progress(console=console, transient=True, redirect_stdout=False, disable=hidden) as bar:
        yield from bar.track(items, total=total, description=description)
