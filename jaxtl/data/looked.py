"""Which image files were looked at and could be read, remembered in jaxtl's cache."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np

from jaxtl import cache
from jaxtl.errors import InputError

KIND = cache.CHECKED
UNKNOWN = 254
"""In place of a shift: the image was not looked at."""


@dataclasses.dataclass(frozen=True)
class Looked:
    """Images that could be read. Of the others nothing is kept: they are few, and may be read the next time, as when a
    disk or a network failed for a moment.

    Attributes:
        stamps: of each image 64 bits, uint64 (N,), ascending.
        shifts: what `jaxtl.data.depths.with_shift` says of each, uint8 (N,).

    >>> looked = Looked().joined(np.array([7, 3], np.uint64), np.array([4, 255], np.uint8))
    >>> looked.shifts_of(np.array([3, 5, 7, 9], np.uint64)).tolist()
    [255, 254, 4, 254]
    """

    stamps: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint64))
    shifts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint8))

    def shifts_of(self, stamps: np.ndarray) -> np.ndarray:
        """Of some images, uint8; `UNKNOWN` for those that are not among these."""
        found = np.full(len(stamps), UNKNOWN, np.uint8)
        known = np.isin(stamps, self.stamps)
        found[known] = self.shifts[np.searchsorted(self.stamps, stamps[known])]
        return found

    def joined(self, stamps: np.ndarray, shifts: np.ndarray) -> Looked:
        """With more images, in place of those of the same stamps."""
        every, first = np.unique(np.concatenate([stamps, self.stamps]), return_index=True)
        return Looked(every, np.concatenate([shifts, self.shifts])[first])


def remembered(key: str) -> Looked:
    """What was kept under that key."""
    folder = cache.find(KIND, key)
    with contextlib.suppress(OSError, ValueError, EOFError):
        if folder is not None:
            return Looked(np.load(folder / "stamps.npy"), np.load(folder / "shifts.npy"))
    return Looked()


def remember(key: str, looked: Looked, what: str) -> None:
    """A cache that cannot be written only means that the images are looked at again."""
    with contextlib.suppress(OSError, InputError):
        cache.remove(KIND, key)
        with cache.written(KIND, key, {"what": what, "images": len(looked.stamps)}) as folder:
            np.save(folder / "stamps.npy", looked.stamps)
            np.save(folder / "shifts.npy", looked.shifts)
