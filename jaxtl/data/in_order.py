"""A function of many things, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
A = TypeVar("A")
_AT_ONCE = 16  # things that a thread takes: to hand over one takes as long as to decode a small image
_TOGETHER = 64  # times that, handed to the threads before the answers are asked for


def in_order(answer: Callable[[T], A], things: Sequence[T], threads: int) -> Iterator[A]:
    """The answers to all things, in order.

    >>> list(in_order(lambda x: 2 * x, range(5), threads=2))
    [0, 2, 4, 6, 8]
    """
    threads = max(1, threads)
    at_once = max(1, min(_AT_ONCE, len(things) // threads))

    def answers(first: int) -> list[A]:
        return [answer(thing) for thing in things[first : first + at_once]]

    with ThreadPoolExecutor(threads) as pool:
        places = range(0, len(things), at_once)
        for start in range(0, len(places), _TOGETHER):
            for some in pool.map(answers, places[start : start + _TOGETHER]):
                yield from some
