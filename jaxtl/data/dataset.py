"""A data set ready for a network: sources, classes, preprocessing, augmentation, and the batches they give."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxtl.data import sources
from jaxtl.data.augment import Augment
from jaxtl.data.keeping import KeptImages, as_evaluated
from jaxtl.data.memory import Memory
from jaxtl.data.pipeline import Batch, epoch_order, ordered_batches
from jaxtl.data.preprocess import Preprocess
from jaxtl.data.readable import check_share, readable_images
from jaxtl.data.sources import Source, Subset, counts
from jaxtl.data.stamps import Stamps
from jaxtl.data.storage import Storage, check_kind
from jaxtl.data.training import TrainingImages
from jaxtl.errors import InputError, nearest, printable
from jaxtl.files import write_whole

PREPARED_BYTES = 512 * 2**20  # evaluation pixels kept per split
SAMPLINGS = ("shuffled", "balanced")
_CLASSES_SHOWN = 10
_OUTPUTS = {"multi-label": "labels", "regression": "numbers"}


class Data:
    """Training and validation images for one network; `jaxtl.open_data` makes it.

    Evaluation pixels are kept in memory, up to 512 MB of each split. Training images are decoded once and kept where
    `storage` says:

    - ``device``: as uint8 in the device's memory, where they are augmented as well. What is decoded to see whether it
      can be read waits for that in the host's memory, up to 1 GB; what goes beyond is decoded a second time.
    - ``disk``: in a file below $JAXTL_CACHE (else $XDG_CACHE_HOME/jaxtl, else ~/.cache/jaxtl), which the next run of
      the same images finds again, and augmented on the host. Reading it takes no longer than to copy the images: the
      system keeps in its cache what there is memory for.
    - ``stream``: in the host's memory up to 1 GB, and what goes beyond is decoded again in every epoch.
    - ``auto``: the device, where it is no CPU and the images take at most a quarter of its memory; else the host's
      memory, up to 64 MB; else the disk, if they fit into 20 GB and half of what is free; else a stream. Arrays, and
      what the next run could not tell that it has it, stay in memory up to 1 GB. On a CPU the device kind is never
      chosen: resizing by matrix products is far slower there than OpenCV.

    On the device and on disk photographs are kept reduced by a whole number, such that the short side keeps at least
    twice the training size; then, and on the device because random numbers differ, the pixels are not those of
    ``stream``, and `fingerprint` says so.

    When a split is first asked for its files are decoded to see which can be read, and what was decoded is kept for
    training and validation; jaxtl's cache remembers which can be. Those that cannot are left out and named, as long as
    they are less than `max_bad` of the split.

    Args:
        name: what it was opened from, for people.
        classes: class names; labels are positions in it.
        train: training images.
        val: validation images.
        preprocess: of the network's weights.
        augment: random changes of training images.
        split: where the two parts come from, for people.
        task: what labels are: ``class``, ``multi-label`` or ``regression``; None: not said, and then no loss is refused
            for it.
        told_by: what told the task, for people, where nobody said it.
        notes: what was noticed on opening, for people.
        train_size: pixels of the training images, one number or (height, width); None: as ``preprocess`` says.
        threads: how many batches are prepared at the same time. The batches don't depend on it.
        storage: ``auto``, ``device``, ``disk`` or ``stream``.
        sampling: ``shuffled``: every training image once an epoch; ``balanced``: all classes equally often, so that
            images of small classes come several times and some of large ones don't.
        max_bad: share of a split's images that must not be reached by those that cannot be read; None: they are not
            looked at before they are used.

    Attributes:
        left_out: by split why each image that was left out could not be read; empty before the split is asked for.

    Raises:
        InputError: an unknown storage or sampling, a share that is none, labels that are no classes where sampling
            is balanced, changes of colour that mean nothing for the channels.

    >>> from jaxtl.data.open import open_data
    >>> data = open_data("digits", Preprocess(size=8, mean=(0.5,), std=(0.5,), crop_pct=1.0))
    >>> batch = next(data.train_batches(32))
    >>> batch["image"].shape, batch["image"].dtype, batch["label"].dtype
    ((32, 8, 8, 1), dtype('uint8'), dtype('int32'))
    >>> data.steps_per_epoch(32)
    44
    """

    def __init__(
        self,
        *,
        name: str,
        classes: tuple[str, ...],
        train: Source,
        val: Source,
        preprocess: Preprocess,
        augment: Augment,
        split: str,
        task: str | None = None,
        told_by: str = "",
        notes: tuple[str, ...] = (),
        train_size: int | tuple[int, int] | None = None,
        threads: int | None = None,
        storage: str = "auto",
        sampling: str = "shuffled",
        max_bad: float | None = None,
    ) -> None:
        check_kind(storage)
        check_share(max_bad)
        augment.check_channels(preprocess.channels)
        if sampling not in SAMPLINGS:
            hint = nearest(str(sampling), SAMPLINGS)
            raise InputError(f"sampling '{sampling}' is none of {', '.join(SAMPLINGS)}{hint}")
        if sampling == "balanced" and not sources.has_classes(train):
            raise InputError(f"balanced sampling needs one class an image, and {name} has other labels")
        self.name = name
        self.classes = classes
        self.left_out: dict[str, tuple[str, ...]] = {}
        self._opened = {"train": train, "val": val}
        self._max_bad = max_bad
        self._storage = storage
        self._settled: str | None = None
        self.preprocess = preprocess
        self.train_preprocess = preprocess if train_size is None else preprocess.replace(size=train_size)
        self.augment = augment
        self.split = split
        self.task = task
        self.told_by = told_by
        self.notes = notes
        self.threads = min(16, os.cpu_count() or 1) if threads is None else threads
        self.sampling = sampling
        self._stamps = {split: Stamps(source) for split, source in self._opened.items()}
        self._places: dict[str, np.ndarray] = {}  # of a split's images among those that were opened, where some are not
        self._prepared = {
            split: Memory(
                functools.partial(as_evaluated, source, preprocess), lambda pixels: pixels.nbytes, PREPARED_BYTES
            )
            for split, source in self._opened.items()
        }

    @functools.cached_property
    def train(self) -> Source:
        """Training images; the first use looks which can be read, and raises `InputError` where too many cannot."""
        return self._readable("train")

    @functools.cached_property
    def val(self) -> Source:
        """Validation images, as `train`."""
        return self._readable("val")

    @property
    def storage(self) -> Storage:
        """Where the training images are kept, and why; chosen when it is first asked for."""
        return self._kept.storage

    def kept_as(self, kind: str) -> Data:
        """The same data, with its training images kept as they were for a run that goes on, where `storage` is ``auto``
        and would now be another kind: the disk has become fuller, or the machine is another one.

        Raises:
            InputError: they don't fit there.

        >>> from jaxtl.data.open import open_data
        >>> data = open_data("digits", Preprocess(size=8, mean=(0.5,), std=(0.5,)))
        >>> data.storage.kind, data.kept_as("device").storage.kind
        ('stream', 'device')
        """
        if self._storage != "auto" or kind == self.storage.kind:
            return self
        other = copy.copy(self)
        other._settled = kind
        for decided in ("_kept", "_training", "fingerprint"):
            other.__dict__.pop(decided, None)
        try:
            other.storage  # noqa: B018 (decides)
        except InputError as error:
            raise InputError(
                f"the run began with its training images kept as '{kind}', which gives other pixels than elsewhere, so "
                f"no other storage continues it: {error}"
            ) from error
        return other

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches in an epoch: the last partial batch is dropped, and shuffling brings its images back later."""
        return len(self.train) // self._train_batch_size(batch_size)

    def train_batches(
        self, batch_size: int, seed: int = 0, start: int = 0, views: int | None = None
    ) -> Generator[Batch, None, None]:
        """Endless augmented training batches, shuffled anew in every epoch.

        The batch of step k is a function of (seed, k) alone: not of the number of threads, and not of where the
        iterator began. A training set smaller than the batch size is taken whole in every step. Call ``close()`` on
        the iterator, or drop it, to end its threads.

        Args:
            batch_size: images per batch.
            seed: of order and augmentation, 0 to 2**32 - 1.
            start: the step to continue at; the batches before it are not loaded.
            views: each image comes in that many random variants, one an epoch and then the first again: image i of
                epoch e is a function of (seed, e % views, i) alone, and `view_batches` gives the same pixels. None:
                every epoch has its own.

        Returns:
            an iterator of ``{"image": uint8 (batch, height, width, channels), "label": int32 (batch,)}``: NumPy arrays
            on a CPU, arrays on the device elsewhere.

        Raises:
            InputError: a batch size or views below 1, a start below 0, a seed out of range; images that don't fit
                where `storage` wants them.
        """
        return self._training.batches(self._train_batch_size(batch_size), seed, start, views)

    def train_order(self, epoch: int, seed: int = 0) -> np.ndarray:
        """Indices of all training images in the order in which an epoch of ``train_batches`` takes them."""
        return epoch_order(seed, epoch, len(self.train), self._balance)

    def view_batches(self, batch_size: int, view: int, seed: int = 0) -> Generator[Batch, None, None]:
        """The training images once, in order, each as ``train_batches(views=V)`` shows it in epochs e, e % V == view.

        Args:
            batch_size: images per batch; the last batch is filled up with zeros.
            view: from 0, below 2**32.
            seed: that of `train_batches`.

        Returns:
            an iterator of ``{"image", "label", "mask": bool (batch,)}``; mask is False for the filling.

        Raises:
            InputError: a batch size below 1, a view or a seed out of range.

        >>> from jaxtl.data.open import open_data
        >>> data = open_data("digits", Preprocess(size=8, mean=(0.5,), std=(0.5,)), samples_per_class=1)
        >>> shown = next(data.train_batches(10, seed=3, start=5, views=4))  # one batch an epoch, so epoch 5
        >>> kept = next(data.view_batches(10, view=5 % 4, seed=3))
        >>> order = [int(np.flatnonzero(kept["label"] == label)[0]) for label in shown["label"]]
        >>> bool((kept["image"][order] == shown["image"]).all())
        True
        """
        _check_batch_size(batch_size)
        return self._training.view_batches(batch_size, view, seed)

    def eval_batches(self, batch_size: int, split: str = "val") -> Generator[Batch, None, None]:
        """The whole split once, in order, with the evaluation preprocessing.

        Args:
            batch_size: images per batch; the last batch is filled up with zeros.
            split: ``"val"`` or ``"train"``.

        Returns:
            an iterator of ``{"image", "label", "mask": bool (batch,)}``; mask is False for the filling.
        """
        source = self._split(split)
        _check_batch_size(batch_size)
        if not len(source):
            raise InputError(f"{self.name} has no {split} images ({self.split}): name the other split")
        return ordered_batches(functools.partial(self._evaluated, split), len(source), batch_size, threads=self.threads)

    def evaluated(self, indices: np.ndarray, split: str = "val") -> np.ndarray:
        """Some images of a split with the evaluation preprocessing, uint8 (images, height, width, channels), from
        memory where they are kept. Several threads may ask.

        >>> from jaxtl.data.open import open_data
        >>> data = open_data("digits", Preprocess(size=8, mean=(0.5,), std=(0.5,)))
        >>> data.evaluated(np.array([5, 2])).shape
        (2, 8, 8, 1)
        """
        self._split(split)
        self._stamps[split].take()  # before an image is read
        places = self._places.get(split)
        on_disk = split == "train" and self._evaluates_as_it_trains() and self._kept.on_disk
        pixels = self._kept.__getitem__ if on_disk else self._prepared[split]
        images = np.empty((len(indices), *self.preprocess.size, self.preprocess.channels), np.uint8)
        for image, place in zip(images, (indices if places is None else places[indices]).tolist(), strict=True):
            image[:] = pixels(place)
        return images

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the images, their split and labels, the preprocessing or the augmentation.

        Of image files and shards the names and the sizes in bytes count, of arrays, records and objects the bytes. Two
        runs with the same fingerprint, seed and batch size see the same batches. Where images are kept counts when it
        changes their pixels.
        """
        settings = {"classes": self.classes, "augment": asdict(self.augment), "images": self.images_fingerprint}
        if self._changed_by_storage():
            settings["storage"] = self.storage.kind
        if self.sampling != "shuffled":
            settings["sampling"] = self.sampling
        if self.train_preprocess != self.preprocess:
            settings["train_preprocess"] = self.train_preprocess.to_dict()
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    @functools.cached_property
    def images_fingerprint(self) -> str:
        """16 hex digits that change with the images, their split and labels, and the evaluation's preprocessing; so in
        `fingerprint` but without what is done to training images and where these are kept.
        """
        digest = hashlib.sha256(json.dumps(self.preprocess.to_dict(), sort_keys=True).encode())
        for name, source in self._splits().items():
            for index, label in enumerate(source.labels):
                said = label if np.ndim(label) == 0 else label.tobytes().hex()
                digest.update(f"{name}\t{source.identity(index)}\t{said}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def content_key(self, split: str) -> str:
        """16 hex digits over the images of a split and their order: the name of what is kept of them on disk.

        Of files the place, the size and the time of the last modification count, as they were before this `Data` first
        read one; labels, classes and settings don't. Unlike `fingerprint` it differs between copies of the same files,
        so what was made from one is not taken for the other. A source without a method ``stamp`` cannot be told again:
        its key differs from one `Data` to the next, see `found_again`.

        Args:
            split: ``"train"`` or ``"val"``.

        Raises:
            InputError: another split.
        """
        self._split(split)
        return self._stamps[split].key(self._places.get(split))

    def found_again(self, split: str) -> bool:
        """Whether the next `Data` of the same images has the same `content_key`.

        Args:
            split: ``"train"`` or ``"val"``.

        Raises:
            InputError: another split.
        """
        self._split(split)
        return self._stamps[split].found_again

    def describe(self) -> str:
        """One line for people: what it is, how many images of each class, where the split comes from, and notes."""
        height, width = self.preprocess.size
        parts = [
            f"{self.name}: {len(self.train)} train + {len(self.val)} val images ({self.split})",
            f"{len(self.classes)} {_OUTPUTS.get(self.task or '', 'classes')}: {self._class_counts()}",
            f"{height}x{width}x{self.preprocess.channels} {self.preprocess.interpolation}{self._training_size()}",
            *(["every class equally often"] if self.sampling == "balanced" else []),
            *self._kept_where(),
            *(
                f"{len(bad)} {split} images left out, which cannot be read"
                for split, bad in self.left_out.items()
                if bad
            ),
            *self.notes,
        ]
        return "; ".join(parts)

    def record(self) -> dict[str, Any]:
        """The same for JSON: source, images to train and to validate, where the split comes from, images by class."""
        found: dict[str, Any] = {
            "source": self.name,
            "train": len(self.train),
            "val": len(self.val),
            "split": self.split,
        }
        if left_out := {split: list(bad) for split, bad in self.left_out.items() if bad}:
            found["left_out"] = left_out
        if not sources.has_classes(self.train):
            return {**found, **({} if self.task is None else {"task": self.task})}
        return {**found, "train_by_class": counts(self.train.labels, self.classes)}

    @functools.cached_property
    def _balance(self) -> np.ndarray | None:
        return self.train.labels if self.sampling == "balanced" else None

    def split_record(self) -> dict[str, Any]:
        """The split for JSON: ``{"source", "split", "train": [names], "val": [names]}``.

        >>> from jaxtl.data.open import open_data
        >>> data = open_data("digits", Preprocess(size=8), samples_per_class=1)
        >>> data.split_record()["split"], len(data.split_record()["train"])
        ('20% held out, seed 0', 10)
        """
        names = {part: list(source.names) for part, source in self._splits().items()}
        return {"source": self.name, "split": self.split, **names}

    def write_split(self, path: str | os.PathLike[str]) -> None:
        """Writes `split_record` as JSON, for ``open_data(..., split_file=path)``: the same images on the same sides.

        Names of files that are no UTF-8 are written as escapes, which are read as the same names.

        Raises:
            InputError: the file cannot be written.
        """
        text = json.dumps(self.split_record(), indent=1, ensure_ascii=False)
        if text != printable(text):
            text = json.dumps(self.split_record(), indent=1)
        try:
            write_whole(Path(path), text)
        except OSError as error:
            raise InputError(f"the split cannot be written to {path}: {error.strerror}") from error

    def _training_size(self) -> str:
        height, width = self.train_preprocess.size
        return "" if self.train_preprocess.size == self.preprocess.size else f", in training {height}x{width}"

    def __repr__(self) -> str:
        return f"Data({self.describe()})"

    def _class_counts(self) -> str:
        if not sources.has_classes(self.train):
            return ", ".join(self.classes[:_CLASSES_SHOWN]) + (", ..." if len(self.classes) > _CLASSES_SHOWN else "")
        train, val = counts(self.train.labels, self.classes), counts(self.val.labels, self.classes)
        if len(self.classes) > _CLASSES_SHOWN:
            return f"{min(train.values())}-{max(train.values())} train images in each"
        return ", ".join(f"{name} {train[name]}+{val[name]}" for name in self.classes)

    def _splits(self) -> dict[str, Source]:
        return {"train": self.train, "val": self.val}

    def _readable(self, split: str) -> Source:
        source = self._opened[split]
        if self._max_bad is None:
            return source
        what = f"{self.name}, channels {self.preprocess.channels}, limit {Image.MAX_IMAGE_PIXELS}"
        places, self.left_out[split] = readable_images(
            source,
            self.classes,
            self._max_bad,
            stamps=self._stamps[split],
            what=what,
            split=split,
            looking=self._kept.looking if split == "train" else lambda: functools.partial(self._look, split),
            threads=self.threads,
        )
        if split == "train" and self._kept.looked_at_all(places):
            self._kept.fill(places)
        if len(places) == len(source):
            return source
        self._places[split] = places
        return Subset(source, places)

    def _look(self, split: str, index: int) -> None:
        if self._prepared[split].full:
            sources.check(self._opened[split], index)
        else:
            self._prepared[split](index)

    @functools.cached_property
    def _kept(self) -> KeptImages:
        return KeptImages(
            self._opened["train"],
            self.train_preprocess,
            crops=self.augment.scale is not None,
            key=self._stamps["train"].key,
            name=self.name,
            threads=self.threads,
            storage=self._storage,
            prepared=self._prepared["train"] if self._evaluates_as_it_trains() else None,
            settled=self._settled,
        )

    @functools.cached_property
    def _training(self) -> TrainingImages:
        self._stamps["train"].take()  # before an image is read
        return TrainingImages(
            self.train,
            self._kept,
            self._places.get("train", np.arange(len(self.train))),
            self.augment,
            self.train_preprocess,
            threads=self.threads,
            balance=self._balance,
        )

    def _changed_by_storage(self) -> bool:
        """Whether the pixels of training batches are not those of ``stream``."""
        if self.storage.kind == "device":
            return self.augment.is_random
        return self.storage.kind == "disk" and self._kept.changed_on_disk

    def _evaluates_as_it_trains(self) -> bool:
        return self.augment.scale is None and self.train_preprocess == self.preprocess

    def _split(self, name: str) -> Source:
        if name not in self._opened:
            raise InputError(f"split must be 'train' or 'val', not '{name}'")
        return self.train if name == "train" else self.val

    def _train_batch_size(self, batch_size: int) -> int:
        _check_batch_size(batch_size)
        if not len(self.train):
            raise InputError(f"{self.name} has no training images ({self.split}): give a val_fraction below 1")
        return min(batch_size, len(self.train))

    def _evaluated(self, split: str, indices: np.ndarray) -> Batch:
        return {"image": self.evaluated(indices, split), "label": self._split(split).labels[indices]}

    def _kept_where(self) -> list[str]:
        """For people, once it was chosen, and where it is not the host's memory."""
        kept: KeptImages | None = self.__dict__.get("_kept")
        chosen = None if kept is None else kept.chosen
        return [f"training images kept on {chosen.kind}"] if chosen and chosen.kind in ("device", "disk") else []


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"batch size must be at least 1, not {batch_size}")
