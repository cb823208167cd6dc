"""What is wrong with some data, told all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jaxtl.errors import InputError

MOST = 10
"""Examples that a message shows before it counts the rest."""


def shown(items: Iterable[object], most: int = MOST) -> str:
    """The first items, and how many more there are.

    >>> shown(["a", "b", "c"], most=2), shown([1, 2])
    ('a, b and 1 more', '1, 2')
    """
    items = list(items)
    first = ", ".join(str(item) for item in items[:most])
    return f"{first} and {len(items) - most} more" if len(items) > most else first


def refuse(place: object, problems: Sequence[str]) -> None:
    """Raises one `InputError` that lists the problems of a place; none: nothing happens.

    >>> refuse("a.csv", ["it has no rows"])
    Traceback (most recent call last):
    jaxtl.errors.InputError: a.csv: it has no rows
    """
    if len(problems) == 1:
        raise InputError(f"{place}: {problems[0]}")
    if problems:
        raise InputError(f"{len(problems)} problems with {place}:\n" + "\n".join(f"- {line}" for line in problems))
