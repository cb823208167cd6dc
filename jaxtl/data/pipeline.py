"""Batches from examples: order, randomness and threads, by Grain."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator

import numpy as np

from jaxtl.errors import InputError

Example = dict[str, np.ndarray]
Batch = dict[str, np.ndarray]
_ENDLESS = 2**62  # examples
VIEWS = 0x76696577  # keeps the generators of views apart from those of the order


def shuffled_batches(
    load: Callable[[int, np.random.Generator], Example],
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

    Batch k is a function of (seed, k): the generator that `load` gets is made from the seed and the example's
    position in the endless order, whatever the number of threads. With `views` it is that of `view_rng` instead, so
    that an example comes in that many variants only. Starting at batch k skips the others without loading them.

    Args:
        load: from an example's index and a generator to its arrays; called from several threads.
        count: how many examples there are, at least `batch_size`.
        batch_size: examples per batch.
        seed: 0 to 2**32 - 1.
        start: the batch to begin with, from 0.
        threads: how many batches are made at the same time; 0 makes them when they are asked for.
        views: epoch e gives `load` the generators of view ``e % views``; None: every position has its own.
        balance: classes of the examples, of which all come equally often; None: every example comes once an epoch.
    """
    import grain

    order = Order(seed, count, batch_size, start, views, balance)

    def load_at(position: int, rng: np.random.Generator) -> Example:
        return load(order(position)[1], rng)

    def view_at(position: int) -> Example:
        epoch, index = order(position)
        return load(index, view_rng(seed, epoch % (views or 1), index))

    positions = grain.MapDataset.range(_ENDLESS)
    examples = positions.seed(seed).random_map(load_at) if views is None else positions.map(view_at)
    return _iterate(examples.batch(batch_size)[start:], threads)


class Order:
    """Which example comes where in the endless order: a function of the seed and the position.

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
    >>> order(9 + 4) == (1, int(order.batch(3 + 1)[1][1]))  # the second example of the second batch of epoch 1
    True
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

    def __call__(self, position: int) -> tuple[int, int]:
        """The epoch and the example at a position."""
        epoch, place = divmod(position, self._per_epoch)
        return epoch, int(self._of(epoch)[place])

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
    load: Callable[[int], Example], count: int, batch_size: int, *, threads: int
) -> Generator[Batch, None, None]:
    """All examples once, in order; the last batch is filled up with zeros, and ``mask`` is False there.

    Args:
        load: from an example's index to its arrays; called from several threads.
        count: how many examples there are.
        batch_size: examples per batch.
        threads: how many batches are made at the same time; 0 makes them when they are asked for.
    """
    import grain

    batches = grain.MapDataset.range(count).map(load).batch(batch_size)
    return _iterate(batches.map(lambda batch: _padded(batch, batch_size)), threads)


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
