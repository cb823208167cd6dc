"""Which images of a source can be read: looked at once, before training, and remembered in jaxtl's cache."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from jaxtl.data.decoded import NotKept
from jaxtl.data.depths import several_depths, with_shift
from jaxtl.data.in_order import in_order
from jaxtl.data.looked import UNKNOWN, remember, remembered
from jaxtl.data.progress import tracked
from jaxtl.data.sources import Source
from jaxtl.data.stamps import ABSENT, NOT_SAID, Stamps
from jaxtl.errors import InputError
from jaxtl.notices import say

_LISTED = 100
_OFTEN = 120  # seconds after which what was seen is remembered, so that a killed process has not looked in vain


def check_share(max_bad: float | None) -> None:
    """Raises `InputError` for a share that is not between 0 and 1."""
    if max_bad is not None and not 0 <= max_bad <= 1:
        raise InputError(f"max_bad is the share of images that may be unreadable, between 0 and 1, not {max_bad:g}")


def readable_images(
    source: Source,
    classes: Sequence[str],
    max_bad: float,
    *,
    stamps: Stamps,
    what: str,
    split: str,
    looking: Callable[[], Callable[[int], object]],
    threads: int = 1,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The indices of the images that can be read, int64 (images,), and of each of the others why it cannot.

    Sources without a method ``check`` are taken as they are. It is said where images of more than eight bits become
    bytes in several ways.

    Args:
        source: the images.
        classes: names of the labels.
        max_bad: share of the images that must not be reached.
        stamps: of the images.
        what: what they were opened from, and how: what is remembered is kept under this name.
        split: train or val, for people.
        looking: asked, where there is anything to look at, for what decodes the image of an index, from several
            threads, and raises `InputError` if that fails.
        threads: images looked at at the same time.

    Raises:
        InputError: too many cannot be read, all of them listed, or all of a class.
    """
    if getattr(source, "check", None) is None:
        return np.arange(len(source)), ()
    bad, shifts = _looked_at(source, stamps.take(), what=what, threads=threads, split=split, looking=looking)
    kept = np.array([index for index in range(len(source)) if index not in bad], np.int64)
    if depths := several_depths([source.names[index] for index in kept], shifts[kept]):
        say(f"{split}: {depths}")
    if not bad:
        return kept, ()
    reasons = tuple(bad.values())
    if len(bad) >= max_bad * len(source):
        lines = [f"- {reason}" for reason in reasons[:_LISTED]]
        more = [f"- and {len(bad) - _LISTED} more"] if len(bad) > _LISTED else []
        raise InputError(
            f"{len(bad)} of {len(source)} {split} images cannot be read, and max_bad={max_bad:g} allows less than "
            f"{max_bad * len(source):g}:\n" + "\n".join(lines + more)
        )
    if source.labels.ndim == 1 and (hollow := sorted(set(source.labels.tolist()) - set(source.labels[kept].tolist()))):
        names = ", ".join(f"'{classes[int(label)]}'" for label in hollow)
        listed = "\n".join(f"- {reason}" for reason in reasons)
        raise InputError(f"no {split} image can be read of class {names}:\n{listed}")
    for reason in reasons:
        say(f"left out of {split}: {reason}")
    return kept, reasons


def _looked_at(
    source: Source,
    stamps: np.ndarray,
    *,
    what: str,
    split: str,
    looking: Callable[[], Callable[[int], object]],
    threads: int = 1,
) -> tuple[dict[int, str], np.ndarray]:
    """By the index of each image that cannot be read: why; and what `jaxtl.data.depths.with_shift` says of each other
    one. The arguments are those of `readable_images`; ``stamps`` is what they took.

    An image that could be read is looked at again only where its stamp (of a file: place, size and time of
    modification) is a new one, whether or not the look that saw it came to its end.
    """
    key = hashlib.sha256(what.encode()).hexdigest()[:16]
    known = remembered(key)
    shifts = known.shifts_of(stamps)
    unknown = np.flatnonzero(shifts == UNKNOWN)
    if not len(unknown):
        return {}, shifts

    look = looking()

    def looked(index: int) -> int | str:
        try:
            return with_shift(lambda: look(index))[1]
        except NotKept:
            raise
        except InputError as error:
            return str(error)

    answers = in_order(looked, unknown.tolist(), threads)
    bad: dict[int, str] = {}
    fine: list[int] = []
    told = 0
    due = time.monotonic() + _OFTEN
    try:
        with closing(tracked(answers, len(unknown), f"looking once at the {split} images")) as shown:
            for index, answer in zip(unknown.tolist(), shown, strict=True):
                if isinstance(answer, str):
                    bad[index] = answer
                    continue
                shifts[index] = answer
                if stamps[index] not in (NOT_SAID, ABSENT):
                    fine.append(index)
                if len(fine) > told and time.monotonic() > due:
                    remember(key, known.joined(stamps[fine], shifts[fine]), what)
                    told, due = len(fine), time.monotonic() + _OFTEN
    finally:  # also where it is interrupted
        if len(fine) > told:
            remember(key, known.joined(stamps[fine], shifts[fine]), what)
    return bad, shifts
