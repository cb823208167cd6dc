"""Data sets that are Python objects, such as torchvision's: ``len(it)`` of them, and ``it[i]`` gives (image, label)."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import Any

import numpy as np
from PIL import Image

from jaxtl.data.answers import read_answers
from jaxtl.data.encoded import label_of
from jaxtl.data.images import read_image
from jaxtl.data.kinds import KINDS, Kind, Options
from jaxtl.data.modes import convert
from jaxtl.data.opened import Opened, checked
from jaxtl.data.waiting import waiting
from jaxtl.errors import InputError

NAME = "a data set object"
KIND = Kind("a data set object", "objects", ("label_separator", "task"))
LABELS = ("targets", "labels")


@dataclasses.dataclass(frozen=True)
class OpenedObject:
    """What was opened, and its name for people."""

    name: str
    images: Opened


class ObjectSource:
    """The images of an object. It must give the same image for the same index, and to several threads at once.

    Args:
        dataset: the object.
        labels: int32 (N,) or float32 (N, K).
        part: begins the names of images.
        channels: of the images; arrays with other numbers of channels than one and three are given as they are.
    """

    def __init__(self, dataset: Any, labels: np.ndarray, part: str, channels: int = 3) -> None:
        self._dataset = dataset
        self._channels = channels
        self.labels = labels
        self.names = [f"{part}-{index:06d}" for index in range(len(labels))]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = as_image(self._dataset[index][0], self.names[index], self._channels)
        return image, label_of(self.labels, index)

    def identity(self, index: int) -> str:
        image = self._dataset[index][0]
        if isinstance(image, str | os.PathLike):
            return f"{self.names[index]}\t{os.path.basename(image)}\t{os.stat(image).st_size}"
        pixels = np.ascontiguousarray(np.asarray(image))
        return f"{self.names[index]}\t{pixels.shape}\t{hashlib.sha256(pixels.data).hexdigest()}"


def open_object(dataset: Any, channels: int, options: Options) -> OpenedObject:
    """The images of an object, or of a tuple of two: training and validation.

    Labels are its ``targets`` or ``labels``, as torchvision's data sets have them, or else what one pass through it
    gives. ``classes`` names them, where it is there.

    Raises:
        InputError: no such object, lengths or classes that differ, or images that are none.
    """
    parts = dataset if isinstance(dataset, tuple) else (dataset,)
    name = type(parts[0]).__name__ if parts else ""
    if len(parts) not in (1, 2) or not all(_is_dataset(part) for part in parts):
        forms = ", ".join(f"'{kind.form}'" for kind in KINDS.values())
        raise InputError(
            f"data is one of {forms}, an object whose len() and [i] give (image, label), or a tuple of two, for "
            f"training and validation, not {repr(dataset)[:80]}"
        )
    problems = [
        f"the {word} part is empty"
        for word, part in zip(("training", "validation"), parts, strict=False)
        if not len(part)
    ]
    declared = [getattr(part, "classes", None) for part in parts]
    if len(parts) == 2 and len({tuple(names) for names in declared if names}) > 1:
        problems.append("its two parts have different classes")
    if problems:
        raise InputError(f"{name}: " + "; ".join(problems))
    for part in parts:
        as_image(_example(part, 0, name)[0], f"0 of {name}", channels)
    labels = [_labels(part, name) for part in parts]
    answers = read_answers(
        {"label": [label for found in labels for label in found]},
        place=name,
        task=options.task,
        separator=options.label_separator,
        declared=None if not declared[0] else tuple(map(str, declared[0])),
    )
    count = len(labels[0])
    words = ("train", "val") if len(parts) == 2 else ("image",)
    found = (answers.labels[:count], answers.labels[count:])
    sources = [ObjectSource(part, mine, word, channels) for part, mine, word in zip(parts, found, words, strict=False)]
    opened = Opened(answers.classes, sources[0], sources[1] if len(sources) == 2 else None, answers.task, "own parts")
    return OpenedObject(name, checked(name, opened))


def as_image(image: Any, name: str, channels: int) -> Any:
    """A PIL image, a uint8 array or a path as the image that sources give.

    Raises:
        InputError: something else, or floating-point pixels.

    >>> as_image(np.zeros((2, 3), np.uint8), "0", 3).size
    (3, 2)
    """
    if isinstance(image, str | os.PathLike):
        return read_image(os.fspath(image), channels)
    if isinstance(image, Image.Image):
        try:
            return convert(image, channels)
        except InputError as error:
            raise InputError(f"image {name}: {error}") from None
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3):
        plain = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
        return Image.fromarray(plain) if plain.ndim == 2 or plain.shape[2] == 3 else plain
    what = f"{type(image).__name__}" + (f" of {image.dtype}, {image.ndim} dimensions" if hasattr(image, "ndim") else "")
    raise InputError(
        f"image {name} is a {what}: give a PIL image, a uint8 array (height, width, channels) or a path, and no "
        "transform to tensors"
    )


def _is_dataset(part: Any) -> bool:
    return hasattr(part, "__len__") and hasattr(part, "__getitem__") and not isinstance(part, str | bytes | dict)


def _example(part: Any, index: int, name: str) -> Any:
    example = part[index]
    if not isinstance(example, tuple | list) or len(example) < 2:
        raise InputError(f"{name}[{index}] is a {type(example).__name__}: it must be (image, label)")
    return example


def _labels(part: Any, name: str) -> list[Any]:
    for attribute in LABELS:
        if (given := getattr(part, attribute, None)) is not None and len(given) == len(part):
            return [_plain(label) for label in given]
    return [_plain(_example(part, index, name)[1]) for index in waiting(range(len(part)), f"labels of {name}")]


def _plain(label: Any) -> Any:
    """Tensors and arrays as Python numbers and lists."""
    return label.tolist() if hasattr(label, "tolist") else label
