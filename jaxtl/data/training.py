"""The training images of a data set: where they are kept, and the augmented batches they give."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Generator

import numpy as np

from jaxtl import cache
from jaxtl.data import decoded, sources
from jaxtl.data.augment import Augment
from jaxtl.data.bands import Picture, size_of, to_array
from jaxtl.data.memory import Memory
from jaxtl.data.modes import convert
from jaxtl.data.on_device import DeviceImages, prefetched
from jaxtl.data.pipeline import Batch, Example, check_seed, ordered_batches, shuffled_batches, view_rng
from jaxtl.data.preprocess import Preprocess
from jaxtl.data.sources import Source
from jaxtl.data.storage import Footprint, Storage, check_kind, choose, device_bytes, kept_size, measure
from jaxtl.errors import InputError
from jaxtl.notices import say

DECODED_BYTES = 2**30  # decoded images kept in memory
_SPARE = 2  # images on the device or on disk keep at least so many times the training size


class TrainingImages:
    """Training images, kept on the device, on disk or in memory; `jaxtl.data.dataset.Data` says what that means.

    Args:
        source: the images.
        augment: their random changes.
        preprocess: at the training size.
        plain: from an index to the pixels of an image that nothing random happens to; None: `preprocess` makes them.
        content_key: of the images, asked for when they are kept on disk.
        name: what they are, for people.
        threads: how many images or batches are prepared at the same time.
        storage: ``auto``, ``device``, ``disk`` or ``stream``.
        balance: as in `jaxtl.data.pipeline.epoch_order`.

    Raises:
        InputError: an unknown storage; changes of colour that mean nothing for the channels.
    """

    def __init__(
        self,
        source: Source,
        augment: Augment,
        preprocess: Preprocess,
        *,
        plain: Callable[[int], np.ndarray] | None,
        content_key: Callable[[], str],
        name: str,
        threads: int,
        storage: str = "auto",
        balance: np.ndarray | None = None,
    ) -> None:
        check_kind(storage)
        self._balance = balance
        augment.check_channels(preprocess.channels)
        self._source = source
        self._augment = augment
        self._preprocess = preprocess
        self._plain = None if augment.is_random else plain
        self._content_key = content_key
        self._name = name
        self._threads = threads
        self._wanted = storage
        self._at_least = None if augment.scale is None else _SPARE * max(preprocess.size)
        self._in_memory = Memory(lambda index: source[index][0], _bytes_in_memory, DECODED_BYTES)
        self._on_disk: decoded.DecodedImages | None = None
        self._on_device: DeviceImages | None = None
        self._ready = False
        self._lock = threading.Lock()

    @functools.cached_property
    def storage(self) -> Storage:
        """Where they are kept, and why; chosen when it is first asked for, from the headers of the files."""
        if self._wanted == "stream":
            return Storage("stream", "as asked for")
        return choose(
            self._wanted,
            self._footprint,
            memory=DECODED_BYTES,
            device=device_bytes(),
            room=cache.room,
            written=lambda: decoded.read(self._key) is not None,
        )

    @property
    def chosen(self) -> Storage | None:
        """`storage`, where it was asked for already."""
        return self.__dict__.get("storage")

    @property
    def changed_by_storage(self) -> bool:
        """Whether the pixels of batches are not those of ``stream``."""
        if self.storage.kind == "device":
            return self._augment.is_random
        if self.storage.kind == "stream" or self._at_least is None:
            return False
        return self._footprint is None or self._footprint.reduced or not self._footprint.exact

    def batches(self, batch_size: int, seed: int, start: int, views: int | None) -> Generator[Batch, None, None]:
        """Endless and shuffled: as `Data.train_batches`."""
        self._keep()
        if self._on_device is not None:
            return self._on_device.batches(batch_size, seed=seed, start=start, views=views)
        count = len(self._source)
        return _sent(
            shuffled_batches(
                self._example,
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

        def load(index: int) -> Example:
            return self._example(index, view_rng(seed, view, index))

        return _sent(ordered_batches(load, len(self._source), batch_size, threads=self._threads))

    def _example(self, index: int, rng: np.random.Generator) -> Example:
        return {"image": self._pixels(index, rng), "label": self._source.labels[index]}

    def _pixels(self, index: int, rng: np.random.Generator) -> np.ndarray:
        if self._on_disk is not None:
            kept = self._on_disk[index]
            if self._at_least is None:
                return self._augment.after_crop(kept, rng)
            return self._augment(kept, self._preprocess, rng)
        if self._plain is not None:
            return self._plain(index)
        return self._augment(self._in_memory(index), self._preprocess, rng)

    def _keep(self) -> None:
        """Fills the storage, once."""
        with self._lock:
            if self._ready:
                return
            if self.storage.kind == "device":
                say(f"training images are kept on the device: {self.storage.reason}")
                self._on_device = self._to_device()
            elif self.storage.kind == "disk":
                self._on_disk = self._to_disk()
            elif self._wanted == "auto" and not self.storage.fits:
                say(f"training images are decoded again in every epoch: {self.storage.reason}")
            self._ready = True

    @functools.cached_property
    def _footprint(self) -> Footprint | None:
        return measure(
            self._source,
            self._preprocess.channels,
            at_least=self._at_least,
            prepared=self._preprocess.size,
            thorough=self._wanted in ("device", "disk"),
        )

    @functools.cached_property
    def _key(self) -> str:
        if self._at_least is None:
            how = json.dumps(self._preprocess.to_dict(), sort_keys=True)
        else:
            how = f"short side {self._at_least}, channels {self._preprocess.channels}"
        return hashlib.sha256(f"{self._content_key()}\n{how}".encode()).hexdigest()[:16]

    def _to_keep(self, index: int) -> np.ndarray:
        if self._at_least is None:
            return self._preprocess(self._source[index][0])
        return to_array(convert(sources.reduced(self._source, index, self._at_least), self._preprocess.channels))

    def _to_device(self) -> DeviceImages:
        count = len(self._source)
        sizes = [self._preprocess.size] * count
        if self._at_least is not None:
            found = [
                sources.image_size(self._source, index) or size_of(self._source[index][0]) for index in range(count)
            ]
            sizes = [kept_size(size, self._at_least, self._preprocess.size) for size in found]
        return DeviceImages(
            self._to_keep,
            sizes,
            self._preprocess.channels,
            self._source.labels,
            self._augment,
            self._preprocess.size,
            self._preprocess.interpolation,
            self._threads,
            self._balance,
        )

    def _to_disk(self) -> decoded.DecodedImages:
        where = cache.cache_folder() / decoded.KIND / self._key
        if (found := decoded.read(self._key)) is not None:
            say(f"decoded training images are read from {where}")
            return found
        say(f"training images are decoded once, into {where}: {self.storage.reason}")
        try:
            cache.make_room(0 if self._footprint is None else self._footprint.disk)
            return decoded.write(self._key, len(self._source), self._to_keep, what=self._name, threads=self._threads)
        except OSError as error:
            raise InputError(
                f"decoded training images cannot be kept in {where} ({error}): free some space, set JAXTL_CACHE to "
                "another folder, or open the data with storage='stream'"
            ) from error


def _sent(batches: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
    """On their way to the device ahead of time, where it is no CPU."""
    import jax

    return batches if jax.default_backend() == "cpu" else prefetched(batches)


def _bytes_in_memory(picture: Picture) -> int:
    if isinstance(picture, np.ndarray):
        return picture.nbytes
    return picture.width * picture.height * (1 if picture.mode == "L" else 4)  # PIL pads RGB pixels to four bytes
