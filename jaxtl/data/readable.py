"""Which images of a source can be read: looked at once, before training, and remembered in jaxtl's cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from jaxtl import cache
from jaxtl.data import sources
from jaxtl.data.decoded import NotKept
from jaxtl.data.in_order import in_order
from jaxtl.data.progress import tracked
from jaxtl.data.sources import Source
from jaxtl.errors import InputError
from jaxtl.notices import say

KIND = "checked"
_LISTED = 100


def check_share(max_bad: float | None) -> None:
    """Raises `InputError` for a share that is not between 0 and 1."""
    if max_bad is not None and not 0 <= max_bad <= 1:
        raise InputError(f"max_bad is the share of images that may be unreadable, between 0 and 1, not {max_bad:g}")


def readable_images(
    source: Source,
    classes: Sequence[str],
    max_bad: float,
    *,
    what: str,
    split: str,
    looking: Callable[[], Callable[[int], object]],
    threads: int = 1,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The indices of the images that can be read, int64 (images,), and of each of the others why it cannot.

    Sources without a method ``check`` are taken as they are.

    Args:
        source: the images.
        classes: names of the labels.
        max_bad: share of the images that must not be reached.
        what: what they were opened from, and how: what is remembered is kept under this name.
        split: train or val, for people.
        looking: asked, where there is anything to look at, for what decodes the image of an index, from several
            threads, and raises `InputError` if that fails.
        threads: images looked at at the same time.

    Raises:
        InputError: too many cannot be read, all of them listed, or all of a class.
    """
    bad = _unreadable(source, what=what, threads=threads, split=split, looking=looking)
    kept = np.array([index for index in range(len(source)) if index not in bad], np.int64)
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


def _unreadable(
    source: Source, *, what: str, split: str, looking: Callable[[], Callable[[int], object]], threads: int = 1
) -> dict[int, str]:
    """By the index of each image that cannot be read: why. The arguments are those of `readable_images`.

    An image is looked at again only where its stamp (of a file: place, size and time of modification) is a new one.
    """
    if getattr(source, "check", None) is None:
        return {}
    key = hashlib.sha256(what.encode()).hexdigest()[:16]
    good, bad = _remembered(key)
    stamps = [_stamp(source, index) for index in range(len(source))]
    known = np.isin(np.array([stamp or 0 for stamp in stamps], np.uint64), good)
    found = {index: bad[str(stamp)] for index, stamp in enumerate(stamps) if str(stamp) in bad}
    unknown = [index for index in range(len(source)) if not known[index] and index not in found]
    if not unknown:
        return found

    look = looking()

    def looked(index: int) -> str | None:
        try:
            look(index)
        except NotKept:
            raise
        except InputError as error:
            return str(error)
        return None

    answers = in_order(looked, unknown, threads)
    with closing(tracked(answers, len(unknown), f"looking once at the {split} images")) as shown:
        new = dict(zip(unknown, shown, strict=True))
    found |= {index: reason for index, reason in new.items() if reason is not None}
    fine = [stamp for index, reason in new.items() if reason is None and (stamp := stamps[index])]
    broken = {str(stamps[index]): reason for index, reason in new.items() if reason is not None and stamps[index]}
    _remember(key, np.union1d(good, np.array(fine, np.uint64)), bad | broken, what)
    return dict(sorted(found.items()))


def _stamp(source: Source, index: int) -> int | None:
    """64 bits of it, above 0; None where the file is not there, or the source does not say."""
    stamp = sources.stamp_if_there(source, index)
    if stamp is None:
        return None
    return int.from_bytes(hashlib.sha256(stamp.encode(errors="surrogateescape")).digest()[:8], "big") or 1


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
