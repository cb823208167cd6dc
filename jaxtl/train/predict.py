"""What a network answers to single image files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.compiled import keep_compiled
from jaxtl.data.images import extensions, read_image
from jaxtl.data.preprocess import normalise
from jaxtl.data.walk import walk
from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.train.fits import check_model
from jaxtl.train.task import LOSS_OF_TASK
from jaxtl.train.test_time import averaged, variants


def predict(
    model: Model,
    images: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    top: int = 3,
    batch_size: int = 32,
    tta: str | None = None,
) -> list[dict[str, Any]]:
    """What a network answers to image files, one dict a file and in their order, by the model's ``task``. Of a folder
    these are all images in it, sorted.

    "class": ``"path"``; ``"label"`` and ``"probability"`` of the best class; ``"top"``, a list of (label, probability)
    of the ``top`` best. "multi-label": the same, and each label's probability is its own: they do not add up to one.
    "regression": ``"path"`` and ``"values"``, a dict of numbers by name. Classes without names are called by their
    numbers. With ``tta``, "flip" or "crops", the answers are averaged over variants of each image;
    `jaxtl.train.test_time` says which.

    Raises:
        InputError: files that are missing or no images (all of them are listed), a model without a head, ``top``
            below 1, or a ``tta`` of another name.

    >>> import jaxtl, tempfile
    >>> from PIL import Image
    >>> path = tempfile.mktemp(suffix=".png")
    >>> Image.new("RGB", (40, 30)).save(path)
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=2)
    >>> found = predict(model.replace(classes=("ant", "bee")), [path])
    >>> len(found), found[0]["label"] in ("ant", "bee")
    (1, True)
    """
    if top < 1:
        raise InputError(f"top is how many of the best classes are named, from 1 on, not {top}")
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    for batch in batches(model, files_of(model, images), batch_size):
        problems += batch.problems
        if not problems:
            found += batch.answers(model, top, tta)
    if problems:
        raise InputError("; ".join(problems))
    return found


def files_of(model: Model, images: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> list[Path]:
    """The files themselves, and those in folders.

    Raises:
        InputError: files that are missing (all of them are listed), folders without images, a model without a head.
    """
    check_model(model)
    if model.num_classes == 0:
        raise InputError(f"{model.name} has no head to predict with; load it with num_classes=N or use model.features")
    paths = _paths(images)
    check_files(paths)
    return [file for path in paths for file in (_inside(path, model) if path.is_dir() else [path])]


@dataclass(frozen=True)
class Batch:
    """Files that were read together.

    Attributes:
        paths: of those that could be read.
        pixels: of these, uint8 (N, height, width, channels).
        problems: a sentence for each of the others.
        size: images that the network is asked about at once, at least N.
    """

    paths: Sequence[Path]
    pixels: np.ndarray
    problems: Sequence[str]
    size: int

    def answers(self, model: Model, top: int, tta: str | None) -> list[dict[str, Any]]:
        """One a path, as those of `predict`."""
        if not self.paths:
            return []
        padded = np.pad(self.pixels, ((0, self.size - len(self.paths)), (0, 0), (0, 0), (0, 0)))
        ready = normalise(padded, model.preprocess.mean, model.preprocess.std)
        logits = averaged([model(variant) for variant in variants(ready, tta)], LOSS_OF_TASK[model.task].name)
        answers = np.asarray(model.answers(logits))[: len(self.paths)]
        return [_said(path, row, model, top) for path, row in zip(self.paths, answers, strict=True)]


def batches(model: Model, files: Sequence[Path], batch_size: int = 32) -> Iterator[Batch]:
    """Reads image files in their order, ``batch_size`` at a time, as the model takes them; each batch when it is asked
    for."""
    keep_compiled()
    at_once = min(batch_size, 1 << (len(files) - 1).bit_length())  # so that few sizes are compiled
    for start in range(0, len(files), batch_size):
        paths, pixels, problems = [], [], []
        for path in files[start : start + batch_size]:
            try:
                pixels.append(model.preprocess(read_image(path, model.preprocess.channels)))
                paths.append(path)
            except InputError as error:
                problems.append(str(error))
        yield Batch(paths, np.asarray(pixels), problems, at_once)


def _paths(images: Any) -> list[Path]:
    several = isinstance(images, Iterable) and not isinstance(images, str | bytes | os.PathLike)
    found = list(images) if several else [images]
    for number, image in enumerate(found):
        if not isinstance(image, str | os.PathLike):
            raise InputError(
                f"predict takes paths of image files, and number {number} is a {type(image).__name__}: write it to a "
                "file; or prepare it, pixels = model.preprocess(image), and ask the network itself, "
                "model(jaxtl.normalise(pixels[None], model.preprocess.mean, model.preprocess.std))"
            )
    return [Path(path) for path in found]


def _inside(folder: Path, model: Model) -> list[Path]:
    endings = extensions(model.preprocess.channels)
    found = [folder / file for file in walk(folder).files if Path(file).suffix.lower() in endings]
    if not found:
        raise InputError(f"there is no image in the folder {folder} ({', '.join(sorted(endings))})")
    return found


def _said(path: Path, answers: np.ndarray, model: Model, top: int) -> dict[str, Any]:
    names = model.classes or tuple(map(str, range(model.num_classes)))
    if model.task == "regression":
        return {"path": str(path), "values": dict(zip(names, map(float, answers), strict=True))}
    best = [(names[i], float(answers[i])) for i in np.argsort(-answers)[:top]]
    return {"path": str(path), "label": best[0][0], "probability": best[0][1], "top": best}


def check_files(paths: Sequence[Path]) -> None:
    """Raises ``InputError`` when there is nothing to predict, or files are missing; all of them are listed."""
    if not paths:
        raise InputError("no image to predict; give at least one file")
    missing = [str(path) for path in paths if not path.is_file() and not path.is_dir()]
    if missing:
        raise InputError(f"no such image: {', '.join(missing)}")
