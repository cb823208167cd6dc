"""What is wrong with some data, told all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from jaxtl.errors import InputError

T = TypeVar("T")
MOST = 10
"""Examples that a message shows before it counts the rest."""


def shown(items: Iterable[T], most: int = MOST, *, said: Callable[[T], str] = str) -> str:
    """The first items, as they are said, and how many more there are.

    >>> shown(["a", "b", "c"], most=2), shown([1, 2])
    ('a, b and 1 more', '1, 2')
    """
    items = list(items)
    first = ", ".join(said(item) for item in items[:most])
    return f"{first} and {len(items) - most} more" if len(items) > most else first


class Problems(InputError):
    """Everything that is wrong with a place, one sentence each.

    >>> print(Problems("a.csv", ["it rains", "it pours"]))
    2 problems with a.csv:
    - it rains
    - it pours
    """

    def __init__(self, place: object, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        one = f"{place}: {problems[0]}"
        many = f"{len(problems)} problems with {place}:\n" + "\n".join(f"- {line}" for line in problems)
        super().__init__(one if len(problems) == 1 else many)


def refuse(place: object, problems: Sequence[str]) -> None:
    """Raises `Problems` where there are any.

    >>> refuse("a.csv", ["it has no rows"])
    Traceback (most recent call last):
    jaxtl.data.problems.Problems: a.csv: it has no rows
    """
    if problems:
        raise Problems(place, problems)
