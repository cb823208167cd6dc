"""A memory of what was made once, up to a number of bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memory(Generic[T]):
    """Makes the item of an index once and keeps it while there is room; later ones are made again every time.

    Several threads may ask at once: what two of them make at the same moment is equal, and one of the two is kept.

    Args:
        make: from an index to the item; the same index must always give an equal item.
        size: bytes that an item takes.
        limit: bytes that all kept items may take together.

    Attributes:
        limit: as given.
        full: whether an item was not kept for want of room.

    >>> squares = Memory(lambda i: i * i, size=lambda item: 8, limit=8)
    >>> squares(3), squares(4), len(squares)
    (9, 16, 1)
    """

    def __init__(self, make: Callable[[int], T], size: Callable[[T], int], limit: int) -> None:
        self._make = make
        self._size = size
        self.limit = limit
        self._room = limit
        self.full = False
        self._kept: dict[int, T] = {}
        self._lock = threading.Lock()

    def __call__(self, index: int) -> T:
        if index in self._kept:
            return self._kept[index]
        item = self._make(index)
        needed = self._size(item)
        with self._lock:
            if needed > self._room:
                self.full = True
            elif index not in self._kept:
                self._kept[index] = item
                self._room -= needed
        return item

    def take(self, index: int) -> T:
        """The item, kept or made now, for the one that asks to keep.

        >>> squares = Memory(lambda i: i * i, size=lambda item: 8, limit=8)
        >>> squares(3), squares.take(3), len(squares), squares(4), len(squares)
        (9, 9, 0, 16, 1)
        """
        with self._lock:
            kept = index in self._kept
            if kept:
                item = self._kept.pop(index)
                self._room += self._size(item)
        return item if kept else self._make(index)

    def __len__(self) -> int:
        return len(self._kept)
