"""Which images of a source can be read: looked at once, before training, and remembered in jaxtl's cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np

from jaxtl import cache
from jaxtl.data import sources
from jaxtl.data.progress import tracked
from jaxtl.data.sources import Source, Subset
from jaxtl.errors import InputError
from jaxtl.notices import say

KIND = "checked"
_TOGETHER = 256  # images handed to the threads at a time
_LISTED = 100


def check_share(max_bad: float | None) -> None:
    """Raises `InputError` for a share that is not between 0 and 1."""
    if max_bad is not None and not 0 <= max_bad <= 1:
        raise InputError(f"max_bad is the share of images that may be unreadable, between 0 and 1, not {max_bad:g}")


def without_unreadable(
    source: Source, classes: Sequence[str], max_bad: float, *, what: str, split: str, threads: int = 1
) -> tuple[Source, tuple[str, ...]]:
    """The source without the images that cannot be read, in the same order, and for each of these why.

    Sources without a method ``check`` are taken as they are.

    Args:
        source: the images.
        classes: names of the labels.
        max_bad: share of the images that must not be reached.
        what: what they were opened from, and how: what is remembered is kept under this name.
        split: train or val, for people.
        threads: images looked at at the same time.

    Raises:
        InputError: too many cannot be read, all of them listed, or all of a class.
    """
    bad = unreadable_images(source, what=what, threads=threads, split=split)
    if not bad:
        return source, ()
    reasons = tuple(bad.values())
    if len(bad) >= max_bad * len(source):
        lines = [f"- {reason}" for reason in reasons[:_LISTED]]
        more = [f"- and {len(bad) - _LISTED} more"] if len(bad) > _LISTED else []
        raise InputError(
            f"{len(bad)} of {len(source)} {split} images cannot be read, and max_bad={max_bad:g} allows less than "
            f"{max_bad * len(source):g}:\n" + "\n".join(lines + more)
        )
    kept = Subset(source, [index for index in range(len(source)) if index not in bad])
    if source.labels.ndim == 1 and (hollow := sorted(set(source.labels.tolist()) - set(kept.labels.tolist()))):
        names = ", ".join(f"'{classes[int(label)]}'" for label in hollow)
        listed = "\n".join(f"- {reason}" for reason in reasons)
        raise InputError(f"no {split} image can be read of class {names}:\n{listed}")
    for reason in reasons:
        say(f"left out of {split}: {reason}")
    return kept, reasons


def unreadable_images(source: Source, *, what: str, split: str, threads: int = 1) -> dict[int, str]:
    """By the index of each image that cannot be read: why. The arguments are those of `without_unreadable`.

    An image is decoded again only where its stamp (of a file: place, size and time of modification) is a new one.
    """
    check: Callable[[int], None] | None = getattr(source, "check", None)
    if check is None:
        return {}
    key = hashlib.sha256(what.encode()).hexdigest()[:16]
    good, bad = _remembered(key)
    stamps = [_stamp(source, index) for index in range(len(source))]
    known = np.isin(np.array([stamp or 0 for stamp in stamps], np.uint64), good)
    found = {index: bad[str(stamp)] for index, stamp in enumerate(stamps) if str(stamp) in bad}
    unknown = [index for index in range(len(source)) if not known[index] and index not in found]
    if not unknown:
        return found

    def looked(index: int) -> str | None:
        try:
            check(index)
        except InputError as error:
            return str(error)
        return None

    answers = _in_order(looked, unknown, threads)
    with closing(tracked(answers, len(unknown), f"looking once at the {split} images")) as shown:
        new = dict(zip(unknown, shown, strict=True))
    found |= {index: reason for index, reason in new.items() if reason is not None}
    fine = [stamp for index, reason in new.items() if reason is None and (stamp := stamps[index])]
    broken = {str(stamps[index]): reason for index, reason in new.items() if reason is not None and stamps[index]}
    _remember(key, np.union1d(good, np.array(fine, np.uint64)), bad | broken, what)
    return dict(sorted(found.items()))


def _in_order(look: Callable[[int], str | None], indices: list[int], threads: int) -> Iterator[str | None]:
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, len(indices), _TOGETHER):
            yield from pool.map(look, indices[start : start + _TOGETHER])


def _stamp(source: Source, index: int) -> int | None:
    """64 bits of it, above 0; None where the file is not there, or the source does not say."""
    try:
        stamp = sources.stamp(source, index)
    except OSError:
        return None
    return (
        None
        if stamp is None
        else int.from_bytes(hashlib.sha256(stamp.encode(errors="surrogateescape")).digest()[:8], "big") or 1
    )


def _remembered(key: str) -> tuple[np.ndarray, dict[str, str]]:
    """Stamps of the images that could be read, and for those of the others why not."""
    folder = cache.find(KIND, key)
    with contextlib.suppress(OSError, ValueError, EOFError):
        if folder is not None:
            return np.load(folder / "good.npy"), json.loads((folder / "bad.json").read_text(encoding="utf-8"))
    return np.zeros(0, np.uint64), {}


def _remember(key: str, good: np.ndarray, bad: dict[str, str], what: str) -> None:
    """A cache that cannot be written only means that the images are looked at again."""
    with contextlib.suppress(OSError, InputError):
        cache.remove(KIND, key)
        with cache.written(KIND, key, {"what": what, "images": len(good) + len(bad)}) as folder:
            np.save(folder / "good.npy", good)
            (folder / "bad.json").write_text(json.dumps(bad), encoding="utf-8")
