"""From a word such as ``folder:photos`` to data that is ready for a network."""

from __future__ import annotations

from typing import Any

from jaxtl.data import sources
from jaxtl.data.augment import Augment, preset
from jaxtl.data.dataset import Data
from jaxtl.data.digits import CLASSES, load_digits
from jaxtl.data.folder import open_folder
from jaxtl.data.preprocess import Preprocess
from jaxtl.data.sources import Source
from jaxtl.errors import InputError, nearest

KNOWN = ("folder:PATH", "digits")


def open_data(
    spec: str,
    model: Any,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    augment: str | Augment = "auto",
    train_samples: int | None = None,
    samples_per_class: int | None = None,
    train_size: int | tuple[int, int] | None = None,
    threads: int | None = None,
    storage: str = "auto",
    max_bad: float | None = 0.01,
) -> Data:
    """Opens labelled images for a network; no image is read yet.

    Args:
        spec: ``folder:PATH`` for a folder with one subfolder per class, with or without ``train`` and ``val`` above
            them, or ``digits`` for scikit-learn's 1797 handwritten digits.
        model: a jaxtl `Model`, or the `Preprocess` of its weights.
        val_fraction: the part of each class that is held out where the data has no validation folder of its own.
        seed: of that split, and of which training images are taken.
        augment: ``none``, ``light`` (random-resized crop and flip), ``glyph`` (small affine changes without a flip),
            an `Augment`, or ``auto``: light for folders, glyph for digits.
        train_samples: take that many training images in all, every class keeping its share.
        samples_per_class: take that many training images of every class.
        train_size: pixels of the training images, one number or (height, width), where they are to differ from
            validation's: random crops make things look larger than they are in validation (Touvron et al. 2019,
            https://arxiv.org/abs/1906.06423), and fewer pixels train faster. Default: the same.
        threads: how many batches are prepared at the same time; by default one per processor, 16 at most.
        storage: where decoded training images are kept: ``device``, ``disk``, ``stream`` or ``auto``; see `Data`.
        max_bad: as long as less than this share of a split's images cannot be read, they are left out and named; else
            nothing is trained. None: images are not looked at before they are used.

    Raises:
        InputError: an unknown spec, a folder that cannot be used, settings that cannot be met.

    >>> open_data("digits", Preprocess(size=8, mean=(0.5,), std=(0.5,), crop_pct=1.0), samples_per_class=5)
    ... # doctest: +ELLIPSIS
    Data(digits: 50 train + 3... val images (20% held out, seed 0); 10 classes: 0 5+36, 1 5+36, ...; 8x8x1 bicubic)
    """
    preprocess = model if isinstance(model, Preprocess) else getattr(model, "preprocess", None)
    if not isinstance(preprocess, Preprocess):
        raise InputError(f"data is opened for a model or a Preprocess, not for {type(model).__name__}")
    if train_samples is not None and samples_per_class is not None:
        raise InputError("give train_samples or samples_per_class, not both")

    train: Source
    val: Source | None
    kind, _, path = spec.partition(":")
    if kind == "folder" and path:
        folder = open_folder(path, preprocess.channels)
        train, val, classes, notes = folder.train, folder.val, folder.classes, folder.notes
    elif spec == "digits":
        train, val, classes, notes = load_digits(), None, CLASSES, ()
    else:
        raise InputError(_unknown(spec, kind))

    origin = "own folders"
    if val is None:
        train, val = sources.split(train, classes, val_fraction, seed)
        origin = f"{val_fraction:.0%} held out, seed {seed}"
    if train_samples is not None:
        train = sources.take(train, classes, train_samples, seed)
    elif samples_per_class is not None:
        train = sources.take_per_class(train, classes, samples_per_class, seed)
    if augment == "auto":
        augment = "glyph" if spec == "digits" else "light"
    return Data(
        name=spec,
        classes=classes,
        train=train,
        val=val,
        preprocess=preprocess,
        augment=preset(augment),
        split=origin,
        train_size=train_size,
        notes=notes,
        threads=threads,
        storage=storage,
        max_bad=max_bad,
    )


def _unknown(spec: str, kind: str) -> str:
    known = " and ".join(f"'{name}'" for name in KNOWN)
    if kind == "folder":
        return "data 'folder:' names no folder: write folder:PATH"
    if ":" in spec or not any(mark in spec for mark in "/\\."):
        return f"unknown data '{spec}' (known: {known}){nearest(kind, ['folder', 'digits'])}"
    return f"unknown data '{spec}' (known: {known}); for a folder write 'folder:{spec}'"
