"""Which images look the same, from small thumbnails of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

NEAR_BITS = 4
"""Two images whose hashes differ in so many of 64 bits at most are compared by their finer thumbnails."""
FLAT_LEVELS = 3.0
"""Images with less contrast than this, in levels of 256, have no hash: their bits would be noise."""
SMALLEST = 16
"""Images below so many pixels on a side have no hash: too many of them look alike."""
THUMBNAIL = (9, 8)
FINE = (32, 32)
ALIKE = 0.95
"""Correlation of finer thumbnails that makes a pair of near hashes a pair of near duplicates."""
MOST_FOUND = 10_000
MOST_COMPARED = 5_000_000
"""A search ends at so many pairs that look the same, or of which the finer thumbnails were compared."""
_ROWS = 512
_TOGETHER = 4096
_ROUNDED = 1e-3  # of a correlation in float32, more than enough

Wanted = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Alike:
    """What looks the same.

    Attributes:
        pairs: places in the one and in the other set, int (pairs, 2).
        whole: whether all were compared; not so where the images are too similar for it.
    """

    pairs: np.ndarray
    whole: bool

    @property
    def told(self) -> str | None:
        """A sentence where the search ended early."""
        if self.whole:
            return None
        return (
            "these pictures are so similar to one another that the search for look-alikes ended early, with "
            f"{len(self.pairs)} pairs"
        )


def difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """64 bits for each 8x9 greyscale thumbnail: uint8 (N, 8, 9) to uint64 (N,); a bit is 1 where it darkens rightwards.

    >>> falling = np.tile(np.arange(9, 0, -1, dtype=np.uint8), (8, 1))
    >>> difference_hash(np.stack([falling, falling[:, ::-1]])).tolist() == [2**64 - 1, 0]
    True
    """
    bits = (thumbnails[:, :, :-1] > thumbnails[:, :, 1:]).reshape(len(thumbnails), 64)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).reshape(-1)


def pairs_within(left: np.ndarray, right: np.ndarray, bits: int = NEAR_BITS) -> Iterator[np.ndarray]:
    """All (i, j) whose hashes ``left[i]`` and ``right[j]``, uint64, differ in at most so many bits, sorted: int
    (pairs, 2), for some i at a time.

    >>> found = pairs_within(np.array([0, 255], np.uint64), np.array([1, 2**40], np.uint64), bits=1)
    >>> [part.tolist() for part in found]
    [[[0, 0], [0, 1]]]
    """
    for start in range(0, len(left), _ROWS):
        distance = np.bitwise_count(left[start : start + _ROWS, None] ^ right[None, :])
        yield np.argwhere(distance <= bits) + np.array([start, 0])


def alike(
    left: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray], wanted: Wanted | None = None
) -> Alike:
    """Pairs whose hashes are near and whose finer thumbnails go together, by difference hashes (Krawetz 2013) and
    correlations.

    Args:
        left: thumbnails, uint8 (N, 8, 9), and finer ones, uint8 (N, 32, 32), of one set.
        right: of another, or the same.
        wanted: of places in the one set and in the other, int (pairs,) each, says which pairs count, bool (pairs,).

    >>> coarse = np.random.default_rng(0).integers(0, 256, (3, 8, 9), dtype=np.uint8)
    >>> fine = np.random.default_rng(1).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    >>> found = alike((coarse, fine), (coarse[[1, 0]], fine[[1, 2]]))
    >>> found.pairs.tolist(), found.whole
    ([[1, 0]], True)
    """
    (left_coarse, left_fine), (right_coarse, right_fine) = left, right
    ours, theirs = _standardised(left_fine), _standardised(right_fine)
    parts, found, compared = [np.zeros((0, 2), int)], 0, 0
    for near in pairs_within(difference_hash(left_coarse), difference_hash(right_coarse)):
        if wanted is not None:
            near = near[wanted(near[:, 0], near[:, 1])]
        for start in range(0, len(near), _TOGETHER):
            part = near[start : start + _TOGETHER]
            correlations = np.einsum("pn,pn->p", ours[part[:, 0]], theirs[part[:, 1]]).astype(np.float64)
            for place in np.flatnonzero(abs(correlations - ALIKE) < _ROUNDED):
                i, j = part[place]
                correlations[place] = np.corrcoef(left_fine[i].ravel(), right_fine[j].ravel())[0, 1]
            parts.append(part[correlations >= ALIKE])
            found, compared = found + len(parts[-1]), compared + len(part)
            if found > MOST_FOUND or compared > MOST_COMPARED:
                return Alike(np.concatenate(parts)[:MOST_FOUND], whole=False)
    return Alike(np.concatenate(parts), whole=True)


def _standardised(thumbnails: np.ndarray) -> np.ndarray:
    """uint8 (N, ...) to float32 (N, pixels), of mean 0 and length 1, so that a product of two is their correlation."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    length = np.sqrt(np.einsum("pn,pn->p", flat, flat))
    return flat / np.maximum(length, 1e-6)[:, None]
