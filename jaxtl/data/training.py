"""Batches of the training images of a data set, augmented on the host or on the device."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence

import numpy as np

from jaxtl.data import sources
from jaxtl.data.augment import Augment
from jaxtl.data.bands import size_of
from jaxtl.data.keeping import KeptImages
from jaxtl.data.on_device import DeviceImages, prefetched
from jaxtl.data.pipeline import Batch, check_seed, ordered_batches, shuffled_batches, view_rng
from jaxtl.data.preprocess import Preprocess
from jaxtl.data.reused import Reused
from jaxtl.data.sources import Source
from jaxtl.data.storage import kept_size
from jaxtl.errors import InputError
from jaxtl.notices import say

_SPARE = 4  # batches that wait, or are being trained on, besides those in the making


class TrainingImages:
    """Training images as they are kept, their random changes, and the batches they give.

    Args:
        source: the images that can be read, with their labels.
        kept: the images, those that cannot be read among them.
        places: of the images of `source` among those that are kept.
        augment: their random changes.
        preprocess: at the training size.
        threads: how many batches are prepared at the same time.
        balance: as in `jaxtl.data.pipeline.epoch_order`.

    Raises:
        InputError: changes of colour that mean nothing for the channels.
    """

    def __init__(
        self,
        source: Source,
        kept: KeptImages,
        places: np.ndarray,
        augment: Augment,
        preprocess: Preprocess,
        *,
        threads: int,
        balance: np.ndarray | None = None,
    ) -> None:
        augment.check_channels(preprocess.channels)
        self._source = source
        self._kept = kept
        self._places = places
        self._augment = augment
        self._preprocess = preprocess
        self._threads = threads
        self._balance = balance
        self._memory = Reused(threads + _SPARE)
        self._on_device: DeviceImages | None = None
        self._ready = False
        self._lock = threading.Lock()

    def batches(self, batch_size: int, seed: int, start: int, views: int | None) -> Generator[Batch, None, None]:
        """Endless and shuffled: as `Data.train_batches`."""
        self._keep()
        if self._on_device is not None:
            return self._on_device.batches(batch_size, seed=seed, start=start, views=views)
        self._kept.to_be_read_often()
        count = len(self._source)
        return _sent(
            shuffled_batches(
                self._batch,
                count,
                batch_size,
                seed=seed,
                start=start,
                threads=self._threads,
                views=views,
                balance=self._balance,
            )
        )

    def view_batches(self, batch_size: int, view: int, seed: int) -> Generator[Batch, None, None]:
        """In order: as `Data.view_batches`."""
        check_seed(seed)
        if not 0 <= view < 2**32:
            raise InputError(f"view must be between 0 and {2**32 - 1}, not {view}")
        self._keep()
        if self._on_device is not None:
            return self._on_device.view_batches(batch_size, view, seed)

        def load(indices: np.ndarray) -> Batch:
            return self._batch(indices, [view_rng(seed, view, int(index)) for index in indices])

        return _sent(ordered_batches(load, len(self._source), batch_size, threads=self._threads))

    def _batch(self, indices: np.ndarray, rngs: Sequence[np.random.Generator]) -> Batch:
        images = self._memory.empty((len(indices), *self._preprocess.size, self._preprocess.channels))
        sizes, read = self._kept.several(self._places[indices])
        if self._kept.at_least is not None:
            self._augment.into(images, sizes, read, self._preprocess.interpolation, rngs)
        else:
            wholes = read(np.concatenate([np.zeros_like(sizes), sizes], 1))
            for image, whole, rng in zip(images, wholes, rngs, strict=True):
                image[:] = whole
                self._augment.change(image, rng)
        return {"image": images, "label": self._source.labels[indices]}

    def _keep(self) -> None:
        with self._lock:
            if self._ready:
                return
            if self._kept.storage.kind == "device":
                say(f"training images are kept on the device: {self._kept.storage.reason}")
                self._on_device = self._to_device()
            else:
                self._kept.fill(self._places)
            self._ready = True

    def _to_device(self) -> DeviceImages:
        sizes = [self._preprocess.size] * len(self._source)
        if self._kept.at_least is not None:
            found = [
                sources.image_size(self._source, index) or size_of(self._source[index][0])
                for index in range(len(self._source))
            ]
            sizes = [kept_size(size, self._kept.at_least, self._preprocess.size) for size in found]
        return DeviceImages(
            lambda index: self._kept.handed_over(int(self._places[index])),
            sizes,
            self._preprocess.channels,
            self._source.labels,
            self._augment,
            self._preprocess.size,
            self._preprocess.interpolation,
            self._threads,
            self._balance,
        )


def _sent(batches: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
    """On their way to the device ahead of time, where it is no CPU."""
    from jaxtl.backend import on_cpu

    return batches if on_cpu() else prefetched(batches)
