"""From a word such as ``folder:photos`` to data that is ready for a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtl.data import sources
from jaxtl.data.answers import SEPARATOR, check_task
from jaxtl.data.augment import Augment, preset
from jaxtl.data.dataset import Data
from jaxtl.data.divide import divide
from jaxtl.data.kinds import Options, kind_of, refuse_others
from jaxtl.data.opened import Opened
from jaxtl.data.preprocess import Preprocess
from jaxtl.data.tested import in_terms_of
from jaxtl.errors import InputError


def open_data(
    spec: Any,
    model: Any,
    *,
    path_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
    label_separator: str = SEPARATOR,
    task: str | None = None,
    value_range: tuple[float, float] | None = None,
    val_fraction: float = 0.2,
    folds: int | None = None,
    fold: int = 0,
    split_file: str | Path | None = None,
    seed: int = 0,
    augment: str | Augment = "auto",
    train_samples: int | None = None,
    samples_per_class: int | None = None,
    train_size: int | tuple[int, int] | None = None,
    threads: int | None = None,
    storage: str = "auto",
    sampling: str = "shuffled",
    max_bad: float | None = 0.01,
) -> Data:
    """Opens labelled images for a network; no image is read yet.

    Args:
        spec: ``folder:PATH`` (one subfolder for each class, with or without ``train`` and ``val`` above them),
            ``csv:PATH`` or ``parquet:PATH`` (a table of image paths and labels), ``tfds:NAME`` (TensorFlow Datasets,
            without TensorFlow), ``hf:NAME`` (Hugging Face datasets), ``arrays:PATH`` (.npz, .npy), ``tar:PATTERN``
            (WebDataset shards), ``digits`` (scikit-learn's 1797 handwritten digits); or an object with ``__len__`` and
            ``__getitem__`` that gives (image, label), or a tuple of two such, for training and for validation.
            docs/data.md has a section on each.
        model: a jaxtl `Model`, or the `Preprocess` of its weights.
        path_column: the column of image paths (tables) or of images (tfds, hf), or the extension of images (tar);
            default: found by its usual names.
        label_column: the column of labels, or several columns.
        group_column: what belongs together, such as a patient: no group is on both sides of a split.
        split_column: of a table, with the words train, val, test.
        label_separator: between the labels of an image in one cell.
        task: ``class`` (one class an image), ``multi-label`` (any number of classes) or ``regression`` (numbers); None:
            by the rule of `jaxtl.data.answers.read_answers`.
        value_range: of arrays that are not uint8, (low, high): black and white.
        val_fraction: the part of each class that is held out where the data has no split of its own. 1: the images
            are a test set, all of them for validation and none to train on. Then their classes may be some of the
            model's, where it knows their names.
        folds: hold out one of so many folds of the training images instead (k-fold cross-validation).
        fold: which of them, from 0.
        split_file: a split that `Data.write_split` wrote, in place of any other; it must not part groups of
            `group_column`.
        seed: of that split, and of which training images are taken.
        augment: ``none``, ``light`` (random-resized crop and flip), ``medium`` (colours too), ``strong``
            (TrivialAugment, erased boxes), ``glyph`` (small affine changes without a flip), an `Augment`, or ``auto``:
            glyph for digits, light for the others.
        train_samples: take that many training images in all, every class keeping its share.
        samples_per_class: take that many training images of every class.
        train_size: pixels of the training images, one number or (height, width), where they are to differ from
            validation's: random crops make things look larger than they are in validation (Touvron et al. 2019,
            https://arxiv.org/abs/1906.06423), and fewer pixels train faster. Default: the same.
        threads: how many batches are prepared at the same time; by default one per processor, 16 at most.
        storage: where decoded training images are kept: ``device``, ``disk``, ``stream`` or ``auto``; see `Data`.
        sampling: ``shuffled``, or ``balanced``: all classes equally often.
        max_bad: as long as less than this share of a split's images cannot be read, they are left out and named; else
            nothing is trained. None: images are not looked at before they are used.

    Raises:
        InputError: an unknown spec, images or labels that cannot be used, settings that mean nothing for this spec or
            cannot be met.

    >>> open_data("digits", Preprocess(size=8, mean=(0.5,), std=(0.5,), crop_pct=1.0), samples_per_class=5)
    ... # doctest: +ELLIPSIS
    Data(digits: 50 train + 3... val images (20% held out, seed 0); 10 classes: 0 5+36, 1 5+36, ...; 8x8x1 bicubic)
    """
    preprocess = model if isinstance(model, Preprocess) else getattr(model, "preprocess", None)
    if not isinstance(preprocess, Preprocess):
        raise InputError(f"data is opened for a model or a Preprocess, not for {type(model).__name__}")
    if train_samples is not None and samples_per_class is not None:
        raise InputError("give train_samples or samples_per_class, not both")
    check_task(task)
    options = Options(
        path_column=path_column,
        label_column=label_column,
        group_column=group_column,
        split_column=split_column,
        label_separator=label_separator,
        task=task,
        value_range=value_range,
        tested=val_fraction == 1,
    )
    name, opened, suited = _opened(spec, preprocess.channels, options)
    if options.tested and (known := getattr(model, "classes", None)) is not None:
        opened = in_terms_of(opened, known)
    train, val, origin, notes = divide(
        opened,
        val_fraction=val_fraction,
        seed=seed,
        folds=folds,
        fold=fold,
        split_file=split_file,
        groups_bind=group_column is not None,
    )
    if train_samples is not None:
        train = sources.take(train, opened.classes, train_samples, seed)
    elif samples_per_class is not None:
        train = sources.take_per_class(train, opened.classes, samples_per_class, seed)
    return Data(
        name=name,
        classes=opened.classes,
        train=train,
        val=val,
        preprocess=preprocess,
        augment=preset(suited if augment == "auto" else augment),
        split=origin,
        task=opened.task,
        told_by=opened.told_by,
        train_size=train_size,
        notes=(*opened.notes, *notes),
        threads=threads,
        storage=storage,
        sampling=sampling,
        max_bad=max_bad,
    )


def _opened(spec: Any, channels: int, options: Options) -> tuple[str, Opened, str]:
    """The name for people, what was opened, and the augmentation that suits it."""
    if isinstance(spec, str | os.PathLike):
        spec = os.fspath(spec)
        kind, path = kind_of(spec)
        refuse_others(spec, kind, options)
        return spec, kind.opener(path, channels, options), kind.augment
    from jaxtl.data.objects import KIND, NAME, open_object

    refuse_others(NAME, KIND, options)
    opened = open_object(spec, channels, options)
    return opened.name, opened.images, KIND.augment
