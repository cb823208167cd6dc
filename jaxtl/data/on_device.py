"""Training images that stay on the device as uint8, and the batches made there."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxtl.data.augment import Augment
from jaxtl.data.pipeline import VIEWS, Batch, Order

_BLOCK = 64  # images that travel to the device together


class DeviceImages:
    """All training images in one array on the device, and batches of them, each made by one compiled call.

    Args:
        load: from an index to the pixels that are kept, uint8 (height, width, channels); called from several threads.
        sizes: (height, width) of what `load` gives, for each image.
        channels: of the images.
        labels: one per image.
        augment: the random changes; images must be prepared already where it does not crop.
        size: (height, width) of the batches' images.
        interpolation: of the weights.
        threads: images decoded at the same time.
        balance: as in `jaxtl.data.pipeline.epoch_order`.

    >>> labels = np.arange(6, dtype=np.int32)
    >>> load = lambda i: np.full((9, 8 + i, 1), i, np.uint8)
    >>> images = DeviceImages(load, [(9, 8 + i) for i in range(6)], 1, labels, Augment(), (4, 4), "bicubic")
    >>> batch = next(images.batches(3, seed=0))
    >>> batch["image"].shape, bool((batch["image"][:, 0, 0, 0] == batch["label"]).all())
    ((3, 4, 4, 1), True)
    """

    def __init__(
        self,
        load: Callable[[int], np.ndarray],
        sizes: list[tuple[int, int]],
        channels: int,
        labels: np.ndarray,
        augment: Augment,
        size: tuple[int, int],
        interpolation: str,
        threads: int = 1,
        balance: np.ndarray | None = None,
    ) -> None:
        import jax
        import jax.numpy as jnp

        self._labels = labels
        self._balance = balance
        height, width = np.max(sizes, axis=0)
        self._sizes = jnp.asarray(sizes, jnp.int32)
        self._answers = jnp.asarray(labels)
        self._images = jnp.zeros((len(sizes), int(height), int(width), channels), jnp.uint8)
        put = jax.jit(jax.lax.dynamic_update_slice_in_dim, static_argnames="axis", donate_argnums=0)
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for start in range(0, len(sizes), _BLOCK):
                block = np.zeros((min(_BLOCK, len(sizes) - start), *self._images.shape[1:]), np.uint8)
                for place, image in enumerate(pool.map(load, range(start, start + len(block)))):
                    block[place, : image.shape[0], : image.shape[1]] = image
                self._images = put(self._images, block, start, axis=0)
        self._make = jax.jit(functools.partial(_batch, augment=augment, size=size, interpolation=interpolation))

    def batches(
        self, batch_size: int, *, seed: int, start: int = 0, views: int | None = None
    ) -> Generator[Batch, None, None]:
        """As `jaxtl.data.pipeline.shuffled_batches`, in the same order, from other random numbers; JAX arrays."""
        order = Order(seed, len(self._labels), batch_size, start, views, self._balance)

        def make() -> Generator[Batch, None, None]:
            step = start
            while True:
                epoch, indices = order.batch(step)
                if views is None:
                    positions = step * batch_size + np.arange(batch_size)
                    yield self._batch(seed, 0, positions >> 32, positions & 0xFFFFFFFF, indices)
                else:
                    yield self._batch(seed, VIEWS, np.full(batch_size, epoch % views), indices, indices)
                step += 1

        return make()

    def view_batches(self, batch_size: int, view: int, seed: int) -> Generator[Batch, None, None]:
        """All images once, in order, as they are in a view; padded and masked."""
        count = len(self._labels)
        for start in range(0, count, batch_size):
            indices = np.arange(start, start + batch_size)
            mask = indices < count
            indices = np.where(mask, indices, 0)
            yield self._batch(seed, VIEWS, np.full(batch_size, view), indices, indices, mask) | {"mask": mask}

    def _batch(
        self,
        seed: int,
        kind: int,
        high: np.ndarray,
        low: np.ndarray,
        indices: np.ndarray,
        mask: np.ndarray | None = None,
    ) -> Batch:
        words = np.stack([high, low]).astype(np.uint32)
        keep = np.ones(len(indices), bool) if mask is None else mask
        return self._make(
            self._images,
            self._sizes,
            self._answers,
            np.uint32(seed),
            np.uint32(kind),
            words,
            indices.astype(np.int32),
            keep,
        )


def prefetched(batches: Iterable[Batch], depth: int = 2) -> Generator[Batch, None, None]:
    """The same batches as JAX arrays, with that many on their way to the device ahead of the one that is asked for."""
    import jax

    waiting: deque[Batch] = deque()
    source = iter(batches)
    try:
        for batch in source:
            waiting.append(jax.device_put(batch))
            if len(waiting) > depth:
                yield waiting.popleft()
        yield from waiting
    finally:
        if isinstance(source, Generator):
            source.close()


def _batch(images, sizes, labels, seed, kind, words, indices, keep, *, augment, size, interpolation) -> dict[str, Any]:
    import jax.numpy as jnp

    from jaxtl.data.device_augment import augmented, example_keys

    keys = example_keys(seed, words[0], words[1], kind)
    pixels = augmented(images[indices], sizes[indices], keys, augment, size, interpolation)
    answers = labels[indices]
    return {
        "image": jnp.where(keep[:, None, None, None], pixels, 0).astype(jnp.uint8),
        "label": jnp.where(keep.reshape(-1, *[1] * (answers.ndim - 1)), answers, 0).astype(answers.dtype),
    }
