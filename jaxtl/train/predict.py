"""What a network answers to single image files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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
        InputError: files that are missing or no images (all of them are listed), a model without a head, or a ``tta``
            of another name.

    >>> import jaxtl, tempfile
    >>> from PIL import Image
    >>> path = tempfile.mktemp(suffix=".png")
    >>> Image.new("RGB", (40, 30)).save(path)
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=2)
    >>> found = predict(model.replace(classes=("ant", "bee")), [path])
    >>> len(found), found[0]["label"] in ("ant", "bee")
    (1, True)
    """
    check_model(model)
    if model.num_classes == 0:
        raise InputError(f"{model.name} has no head to predict with; load it with num_classes=N or use model.features")
    paths = _paths(images)
    check_files(paths)
    paths = [file for path in paths for file in (_inside(path, model) if path.is_dir() else [path])]
    keep_compiled()
    at_once = min(batch_size, 1 << (len(paths) - 1).bit_length())  # so that few sizes are compiled
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    for start in range(0, len(paths), batch_size):
        part = paths[start : start + batch_size]
        pixels = _read(part, model, problems)
        if problems:
            continue
        padded = np.pad(pixels, ((0, at_once - len(part)), (0, 0), (0, 0), (0, 0)))
        ready = normalise(padded, model.preprocess.mean, model.preprocess.std)
        logits = averaged([model(variant) for variant in variants(ready, tta)], LOSS_OF_TASK[model.task].name)
        answers = np.asarray(model.answers(logits))[: len(part)]
        found += [_said(path, row, model, top) for path, row in zip(part, answers, strict=True)]
    if problems:
        raise InputError("; ".join(problems))
    return found


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


def _read(paths: Sequence[Path], model: Model, problems: list[str]) -> np.ndarray:
    pixels = []
    for path in paths:
        try:
            pixels.append(model.preprocess(read_image(path, model.preprocess.channels)))
        except InputError as error:
            problems.append(str(error))
    return np.asarray(pixels)


def check_files(paths: Sequence[Path]) -> None:
    """Raises ``InputError`` when there is nothing to predict, or files are missing; all of them are listed."""
    if not paths:
        raise InputError("no image to predict; give at least one file")
    missing = [str(path) for path in paths if not path.is_file() and not path.is_dir()]
    if missing:
        raise InputError(f"no such image: {', '.join(missing)}")
