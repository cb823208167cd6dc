"""Ctrl-C at a moment that bears it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class AtOnceError(KeyboardInterrupt):
    """A second Ctrl-C: nothing is to be tidied up before the end."""


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """A Ctrl-C inside the block takes effect behind it; a second one at once, as `AtOnceError`.

    For calls that leave threads in disorder when they are interrupted. Only the main thread gets interrupts, so that in
    any other the block runs as it is.

    >>> with held_back():
    ...     whole = sum(range(10))
    >>> whole
    45
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    came = 0

    def hold(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came += 1
        if came > 1:
            raise AtOnceError

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if came == 1:
            signal.raise_signal(signal.SIGINT)
