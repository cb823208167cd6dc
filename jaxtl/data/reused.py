"""Arrays in memory that is used again."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np


class Reused:
    """Gives arrays of bytes whose memory serves again once nobody has them, or a part of them, any more.

    The system clears new memory page by page, which takes longer than to fill it with pixels. Threads may share it.

    Args:
        most: how many that nobody has are kept.

    >>> reused = Reused(2)
    >>> first = reused.empty((4, 3))
    >>> part, place = first[1:], first.ctypes.data
    >>> del first
    >>> reused.empty((4, 3)).ctypes.data == place
    False
    >>> del part
    >>> reused.empty((2, 6)).ctypes.data == place
    True
    """

    def __init__(self, most: int) -> None:
        self._free: deque[np.ndarray] = deque(maxlen=most)

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """uint8 of that shape, with whatever was in it."""
        size = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        if memory.size != size:
            memory = np.empty(size, np.uint8)
        return np.asarray(_Lent(memory, self._free)).reshape(shape)


class _Lent:
    """What all views of an array keep alive: it gives the memory back when it goes."""

    def __init__(self, memory: np.ndarray, free: deque[np.ndarray]) -> None:
        self._memory, self._free = memory, free

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._memory.__array_interface__

    def __del__(self) -> None:
        self._free.append(self._memory)
