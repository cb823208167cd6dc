"""A progress bar for what usually takes no time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from jaxtl.data.progress import tracked

T = TypeVar("T")
_SOON = 2.0  # seconds


def waiting(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, with a bar on standard error once they have taken two seconds.

    >>> list(waiting([1, 2], "numbers"))
    [1, 2]
    """
    begun = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - begun > _SOON:
            yield from tracked(items[number:], len(items) - number, what)
            return
        yield item
