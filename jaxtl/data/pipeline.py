"""Batches from examples: order, randomness and threads, by Grain."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence

import numpy as np

from jaxtl.errors import InputError

Batch = dict[str, np.ndarray]
_ENDLESS = 2**62  # batches
# these keep the generators of views, of batches and of the order apart
VIEWS = 0x76696577
_BATCHES = 0x62617463


def shuffled_batches(
    load: Callable[[np.ndarray, Sequence[np.random.Generator]], Batch],
    count: int,
    batch_size: int,
    *,
    seed: int,
    start: int,
    threads: int,
    views: int | None = None,
    balance: np.ndarray | None = None,
) -> Generator[Batch, None, None]:
    """Endless batches, shuffled anew in every epoch; the last partial batch of an epoch is dropped.

    Batch k is a function of (seed, k), whatever the number of threads: all its examples share `batch_rng`, one after
    the other. With `views` each has that of `view_rng` instead, so that it comes in that many variants only. Starting
    at batch k skips the others without loading them.

    Args:
        load: from the indices of a batch's examples, int64 (batch,), and a generator for each, which are to be used in
            this order, to its arrays; called from several threads.
        count: how many examples there are, at least `batch_size`.
        batch_size: examples per batch.
        seed: 0 to 2**32 - 1.
        start: the batch to begin with, from 0.
        threads: how many batches are made at the same time; 0 makes them when they are asked for.
        views: epoch e gives `load` the generators of view ``e % views``; None: every batch has its own.
        balance: classes of the examples, of which all come equally often; None: every example comes once an epoch.
    """
    import grain

    order = Order(seed, count, batch_size, start, views, balance)

    def batch(step: int) -> Batch:
        epoch, indices = order.batch(step)
        if views is None:
            return load(indices, [batch_rng(seed, step)] * batch_size)
        return load(indices, [view_rng(seed, epoch % views, int(index)) for index in indices])

    return _iterate(grain.MapDataset.range(_ENDLESS)[start:].map(batch), threads)


class Order:
    """Which examples a batch has in the endless order: a function of the seed and the step.

    Args:
        seed: 0 to 2**32 - 1.
        count: how many examples there are, at least `batch_size`.
        batch_size: examples per batch; what is left of an epoch is dropped.
        start: the batch that is begun with, from 0.
        views: how many variants an example comes in; None: no fixed number.
        balance: as in `epoch_order`.

    Raises:
        InputError: a seed, start or number of views out of range.

    >>> order = Order(0, 10, 3)
    >>> epoch, examples = order.batch(3 + 1)  # the second batch of epoch 1
    >>> epoch, bool((examples == epoch_order(0, 1, 10)[3:6]).all())
    (1, True)
    """

    def __init__(
        self,
        seed: int,
        count: int,
        batch_size: int,
        start: int = 0,
        views: int | None = None,
        balance: np.ndarray | None = None,
    ) -> None:
        check_seed(seed)
        if start < 0:
            raise InputError(f"start must be a step of at least 0, not {start}")
        if views is not None and views < 1:
            raise InputError(f"views must be at least 1, not {views}")
        self._batch_size = batch_size
        self._per_epoch = count // batch_size * batch_size
        # Grain's own shuffle takes milliseconds per example for sets of less than a few hundred.
        self._of = functools.lru_cache(maxsize=3)(lambda epoch: epoch_order(seed, epoch, count, balance))

    def batch(self, step: int) -> tuple[int, np.ndarray]:
        """The epoch and the examples of a batch."""
        epoch, place = divmod(step * self._batch_size, self._per_epoch)
        return epoch, self._of(epoch)[place : place + self._batch_size]


def epoch_order(seed: int, epoch: int, count: int, balance: np.ndarray | None = None) -> np.ndarray:
    """The order of the examples in an epoch, int64 (count,); batches take it from the front.

    With `balance`, the class of each example, int (count,), every class that occurs has the same share of the places,
    up to one. Examples of small classes then come several times, and of large ones some do not; none comes a second
    time before all of its class have come.

    >>> sorted(epoch_order(0, 3, 4).tolist())
    [0, 1, 2, 3]
    >>> np.bincount(epoch_order(0, 3, 6, np.array([0, 0, 0, 0, 1, 2]))).tolist()[4:]
    [2, 2]
    """
    rng = np.random.default_rng((seed, epoch))
    if balance is None:
        return rng.permutation(count)
    classes = rng.permutation(np.unique(balance))
    places = [
        _again_and_again(np.flatnonzero(balance == label), count // len(classes) + (rank < count % len(classes)), rng)
        for rank, label in enumerate(classes)
    ]
    return rng.permutation(np.concatenate(places))


def _again_and_again(members: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    rounds = [rng.permutation(members) for _ in range(-(-wanted // len(members)))]
    return np.concatenate([members[:0], *rounds])[:wanted]


def batch_rng(seed: int, step: int) -> np.random.Generator:
    """The generator of a batch: a function of the seed, below 2**32, and the step alone.

    >>> batch_rng(0, 1).random() == batch_rng(0, 1).random() != batch_rng(1, 0).random()
    True
    """
    return np.random.default_rng((seed, step, _BATCHES))


def view_rng(seed: int, view: int, index: int) -> np.random.Generator:
    """The generator of an example in a view: a function of the three numbers alone, each below 2**32.

    >>> view_rng(0, 1, 2).random() == view_rng(0, 1, 2).random() != view_rng(0, 2, 1).random()
    True
    """
    return np.random.default_rng((seed, view, index, VIEWS))


def check_seed(seed: int) -> None:
    """Raises `InputError` for a seed that is not between 0 and 2**32 - 1."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be between 0 and {2**32 - 1}, not {seed}")


def ordered_batches(
    load: Callable[[np.ndarray], Batch], count: int, batch_size: int, *, threads: int
) -> Generator[Batch, None, None]:
    """All examples once, in order; the last batch is filled up with zeros, and ``mask`` is False there.

    Args:
        load: from the indices of a batch's examples to its arrays; called from several threads.
        count: how many examples there are.
        batch_size: examples per batch.
        threads: how many batches are made at the same time; 0 makes them when they are asked for.
    """
    import grain

    def batch(step: int) -> Batch:
        first = step * batch_size
        return _padded(load(np.arange(first, min(first + batch_size, count))), batch_size)

    return _iterate(grain.MapDataset.range(-(-count // batch_size)).map(batch), threads)


def _padded(batch: Batch, batch_size: int) -> Batch:
    filled = len(next(iter(batch.values())))
    mask = np.arange(batch_size) < filled
    if filled == batch_size:
        return {**batch, "mask": mask}
    missing = batch_size - filled
    padded = {key: np.pad(value, [(0, missing)] + [(0, 0)] * (value.ndim - 1)) for key, value in batch.items()}
    return {**padded, "mask": mask}


def _iterate(batches, threads: int) -> Generator[Batch, None, None]:
    """Closing the iterator, or letting go of it, ends its threads."""
    import grain

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2 if threads else 0)
    iterator = iter(batches.to_iter_dataset(options))
    try:
        yield from iterator
    finally:
        iterator.close()
