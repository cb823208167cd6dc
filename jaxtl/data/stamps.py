"""What tells whether the images of a source are still the same, taken once: before they are first read."""

from __future__ import annotations

import hashlib
import threading
import uuid

import numpy as np

from jaxtl.data import sources
from jaxtl.data.sources import Source

NOT_SAID, ABSENT = 0, 1
"""In place of a stamp: the source does not say, and the file is not there."""


class Stamps:
    """Of each image of a source 64 bits of `jaxtl.data.sources.stamp`.

    Pixels are kept in memory for as long as the data is, and files may change meanwhile: what is made of the pixels
    must be kept under stamps that are no newer than they. Several threads may ask.

    >>> from jaxtl.data.digits import load_digits
    >>> one, other = (Stamps(load_digits()) for _ in range(2))
    >>> one.found_again, one.key() == other.key(), one.key(np.array([1, 2])) == one.key(np.array([2, 1]))
    (True, True, False)
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._unique = uuid.uuid4().bytes
        self._taken: np.ndarray | None = None
        self._lock = threading.Lock()

    def take(self) -> np.ndarray:
        """uint64 (N,), as they were when this was first called; `NOT_SAID` or `ABSENT` where there is none."""
        with self._lock:
            if self._taken is None:
                every = (_bits(self._source, index) for index in range(len(self._source)))
                self._taken = np.fromiter(every, np.uint64, len(self._source))
        return self._taken

    @property
    def found_again(self) -> bool:
        """Whether the next source of the same images has the same `key`."""
        return bool((self.take() != NOT_SAID).all())

    def key(self, places: np.ndarray | None = None) -> str:
        """16 hex digits that change with the images at these places, or with any, and with their order; where the
        source cannot tell that one changed, they are never the same."""
        taken = self.take()
        places = np.arange(len(taken)) if places is None else places
        digest = hashlib.sha256(taken[places].tobytes())
        for index in places[taken[places] == ABSENT].tolist():
            digest.update(f"{self._source.names[index]}\n".encode(errors="surrogateescape"))
        if (taken[places] == NOT_SAID).any():
            digest.update(self._unique + places.tobytes())
        return digest.hexdigest()[:16]


def _bits(source: Source, index: int) -> int:
    try:
        stamp = sources.stamp(source, index)
    except OSError:
        return ABSENT
    if stamp is None:
        return NOT_SAID
    return max(2, int.from_bytes(hashlib.sha256(stamp.encode(errors="surrogateescape")).digest()[:8], "big"))
