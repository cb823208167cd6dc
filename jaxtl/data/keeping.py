"""The training images of a source, decoded once and kept where there is room for them."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Callable

import numpy as np

from jaxtl import cache
from jaxtl.data import sources
from jaxtl.data.crops import ReadParts, parts_of
from jaxtl.data.decoded import KIND, DecodedImages, Writer, read
from jaxtl.data.in_order import in_order
from jaxtl.data.memory import Memory
from jaxtl.data.modes import as_pixels
from jaxtl.data.preprocess import Preprocess
from jaxtl.data.sources import Source
from jaxtl.data.storage import Footprint, Storage, check_kind, choose, device_bytes, measure
from jaxtl.notices import say

SMALL = 64 * 2**20  # bytes of decoded images that are kept in memory rather than on disk
DECODED_BYTES = 2**30  # and where there is no disk for them, or nothing that is found there again
_SPARE = 2  # images on the device or on disk keep at least so many times the training size


class KeptImages:
    """``images[i]``: an image as training begins with it, uint8 (height, width, channels).

    Whole, or reduced on the device and on disk; prepared as for evaluation where training does not crop it at random.
    What `looking` gives keeps what it decodes, for the device in the host's memory while there is room, so that the
    look that tells whether images can be read is the only decoding; `fill` keeps what is missing. Several threads may
    ask for images, and look at them.

    Args:
        source: all images, those that cannot be read among them.
        preprocess: at the training size.
        crops: whether training crops at random.
        key: gives what changes with the source's images, asked for when they may be kept on disk.
        name: what they are, for people.
        threads: how many are decoded at the same time.
        storage: ``auto``, ``device``, ``disk`` or ``stream``.
        prepared: the memory of prepared images that training may share, where it does not crop.
        settled: what ``auto`` was once found to be, and is to be again.

    Raises:
        InputError: an unknown storage.

    >>> from jaxtl.data.digits import load_digits
    >>> images = KeptImages(load_digits(), Preprocess(16), crops=True, key=lambda: "", name="digits", threads=1)
    >>> images[0].shape, images.storage.kind
    ((8, 8, 3), 'stream')
    """

    def __init__(
        self,
        source: Source,
        preprocess: Preprocess,
        *,
        crops: bool,
        key: Callable[[], str],
        name: str,
        threads: int,
        storage: str = "auto",
        prepared: Memory[np.ndarray] | None = None,
        settled: str | None = None,
    ) -> None:
        check_kind(storage)
        self._source = source
        self._preprocess = preprocess
        self._content_key = key
        self._name = name
        self._threads = threads
        self._wanted = storage
        self._settled = settled
        self.at_least = _SPARE * max(preprocess.size) if crops else None
        make = functools.partial(_whole if crops else as_evaluated, source, preprocess)
        self._memory = Memory(make, lambda pixels: pixels.nbytes, DECODED_BYTES)
        if not crops and prepared is not None:
            self._memory = prepared
        self._decode = functools.partial(_reduced, source, preprocess, self.at_least)
        self._on_the_way = Memory(self._decode, lambda pixels: pixels.nbytes, DECODED_BYTES)
        self._disk: DecodedImages | None = None
        self._writer: Writer | None = None
        self._lock = threading.Lock()
        self._begun = False

    @functools.cached_property
    def storage(self) -> Storage:
        """Where they are kept, and why; chosen when it is first asked for, from the headers of the files."""
        if self._wanted == "stream":
            return Storage("stream", "as asked for")
        chosen = self._chosen()
        if chosen.kind == "device" and self.footprint is not None and not self.footprint.exact:
            # one array holds them there, each as large as the largest, which a sample may lack
            self.footprint = self._measured(thorough=True)
            return self._chosen()
        return chosen

    def _chosen(self) -> Storage:
        return choose(
            self._settled or self._wanted,
            self.footprint,
            small=SMALL if self._found_again else self._memory.limit,
            memory=self._memory.limit,
            device=device_bytes(),
            room=cache.room,
            written=lambda: read(self._key) is not None,
        )

    @property
    def chosen(self) -> Storage | None:
        """`storage`, where it was asked for already."""
        return self.__dict__.get("storage")

    @functools.cached_property
    def footprint(self) -> Footprint | None:
        """What they take; None where their sizes are not known."""
        return self._measured(thorough=self._wanted in ("device", "disk"))

    def _measured(self, thorough: bool) -> Footprint | None:
        return measure(
            self._source,
            self._preprocess.channels,
            at_least=self.at_least,
            prepared=self._preprocess.size,
            thorough=thorough,
        )

    @property
    def on_disk(self) -> bool:
        """Whether they are there by now."""
        return self._disk is not None

    @property
    def changed_on_disk(self) -> bool:
        """Whether any of them would differ there from what it is in memory."""
        if self.at_least is None:
            return False
        return self.footprint is None or self.footprint.reduced or not self.footprint.exact

    def looking(self) -> Callable[[int], None]:
        """Chooses where they are kept; gives what then decodes an image and keeps it.

        Raises:
            InputError: they don't fit where they are wanted; from what is given: an image cannot be read.
            NotKept: from what is given: an image cannot be written to the disk.
        """
        self._begin()
        return self._look

    def fill(self, places: np.ndarray) -> None:
        """Makes sure that these images are on disk, if that is where they are kept.

        Raises:
            InputError: one of them cannot be read, or there is no space for them.
        """
        self._begin()
        with self._lock:
            writer = self._writer
            if writer is None:
                return
            missing = [index for index in places.tolist() if index not in writer]
            for _ in in_order(lambda index: self._add(writer, index), missing, self._threads):
                pass
            self._disk, self._writer = writer.finish(wait=False), None

    def looked_at_all(self, places: np.ndarray) -> bool:
        """Whether `fill` has only to close the file in which all of these images are."""
        return self._writer is not None and all(index in self._writer for index in places.tolist())

    def __getitem__(self, index: int) -> np.ndarray:
        if self._disk is not None and index in self._disk:
            return self._disk[index]
        return self._memory(index)

    def several(self, indices: np.ndarray) -> tuple[np.ndarray, ReadParts]:
        """Width and height of some images, int64 (images, 2), and what reads parts of them, for the thread that
        asks."""
        if self._disk is not None and (shapes := self._disk.shapes(indices)).all():
            return shapes[:, 1::-1], self._disk.parts(indices)
        images = [self[index] for index in indices.tolist()]
        sizes = np.array([image.shape[1::-1] for image in images], np.int64)
        return sizes, parts_of(images)

    def to_be_read_often(self) -> None:
        """Says that epoch after epoch follows, so that images on disk are read in the way that is faster then."""
        if self._disk is not None:
            self._disk.map()

    def handed_over(self, index: int) -> np.ndarray:
        """An image for the device, decoded before or now, which is not kept from then on, unless the evaluation shares
        it."""
        return self._memory(index) if self.at_least is None else self._on_the_way.take(index)

    def decoded(self, index: int) -> np.ndarray:
        """The image as it is kept on the device or on disk, decoded now."""
        return self._decode(index)

    def _begin(self) -> None:
        if self._begun:
            return
        with self._lock:
            if self._begun:
                return
            if self.storage.kind == "disk":
                self._open_disk()
            elif self._wanted == "auto" and not self.storage.fits:
                say(f"training images are decoded again in every epoch: {self.storage.reason}")
            self._begun = True

    def _open_disk(self) -> None:
        where = cache.cache_folder() / KIND / self._key
        if (found := read(self._key)) is not None:
            say(f"decoded training images are read from {where}")
            self._disk = found
            return
        say(f"training images are decoded once, into {where}: {self.storage.reason}")
        cache.make_room(0 if self.footprint is None else self.footprint.disk)
        self._writer = Writer(self._key, len(self._source), self._name)

    def _look(self, index: int) -> None:
        if self._writer is not None:
            self._add(self._writer, index)
        elif self._disk is not None and index in self._disk:
            return
        elif self.storage.kind == "disk" or self._waiting.full:
            sources.check(self._source, index)
        else:
            self._waiting(index)

    @property
    def _waiting(self) -> Memory[np.ndarray]:
        """Where images are kept that the look has decoded: those for the device until they are sent, unless the
        evaluation takes the same."""
        on_the_way = self.storage.kind == "device" and self.at_least is not None
        return self._on_the_way if on_the_way else self._memory

    def _add(self, writer: Writer, index: int) -> None:
        if index not in writer:
            writer.add(index, self.decoded(index))

    @functools.cached_property
    def _found_again(self) -> bool:
        """Whether they are files, which take time to decode, and which the next run can tell that it has them."""
        if getattr(self._source, "check", None) is None:
            return False
        return any(sources.stamp_if_there(self._source, index) is not None for index in range(len(self._source)))

    @functools.cached_property
    def _key(self) -> str:
        if self.at_least is None:
            how = json.dumps(self._preprocess.to_dict(), sort_keys=True)
        else:
            how = f"short side {self.at_least}, channels {self._preprocess.channels}"
        return hashlib.sha256(f"{self._content_key()}\n{how}".encode()).hexdigest()[:16]


def as_evaluated(source: Source, preprocess: Preprocess, index: int) -> np.ndarray:
    """An image of a source as the evaluation sees it."""
    return preprocess(source[index][0])


def _reduced(source: Source, preprocess: Preprocess, at_least: int | None, index: int) -> np.ndarray:
    if at_least is None:
        return as_evaluated(source, preprocess, index)
    return as_pixels(sources.pixels(source, index, at_least), preprocess.channels)


def _whole(source: Source, preprocess: Preprocess, index: int) -> np.ndarray:
    return as_pixels(sources.pixels(source, index, None), preprocess.channels)
