"""Data sets that are Python objects, such as torchvision's: ``len(it)`` of them, and ``it[i]`` gives (image, label)."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import Any

import numpy as np
from PIL import Image

from jaxtl.data.answers import read_answers
from jaxtl.data.as_seen import as_seen, upright
from jaxtl.data.encoded import label_of
from jaxtl.data.images import read_image
from jaxtl.data.kinds import KINDS, Kind, Options
from jaxtl.data.opened import Opened, checked
from jaxtl.data.waiting import waiting
from jaxtl.errors import InputError
from jaxtl.notices import say

NAME = "a data set object"
KIND = Kind("a data set object", "objects", ("label_separator", "task"))
LABELS = ("targets", "labels")
_COMPARED = 16


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

    def in_colour(self, index: int) -> Any:
        return as_image(self._dataset[index][0], self.names[index], 3 if self._channels == 1 else self._channels)

    def identity(self, index: int) -> str:
        image = self._dataset[index][0]
        if isinstance(image, str | os.PathLike):
            return f"{self.names[index]}\t{os.path.basename(image)}\t{os.stat(image).st_size}"
        seen = upright(image) if isinstance(image, Image.Image) else image
        pixels = np.ascontiguousarray(np.asarray(seen))
        return f"{self.names[index]}\t{pixels.shape}\t{hashlib.sha256(pixels.data).hexdigest()}"


def open_object(dataset: Any, channels: int, options: Options) -> OpenedObject:
    """The images of an object, or of a tuple of two: training and validation.

    Labels are its ``targets`` or ``labels``, as torchvision's data sets have them, if a sample of its items has the
    same and it has no ``target_transform``, or else what one pass through it gives. ``classes`` names them, where it
    is there.

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
    declared = [None if (names := _listed(part, "classes")) is None else tuple(map(str, names)) for part in parts]
    if len(parts) == 2 and len({names for names in declared if names}) > 1:
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
        declared=declared[0] or None,
    )
    count = len(labels[0])
    words = ("train", "val") if len(parts) == 2 else ("image",)
    found = (answers.labels[:count], answers.labels[count:])
    sources = [ObjectSource(part, mine, word, channels) for part, mine, word in zip(parts, found, words, strict=False)]
    opened = Opened(
        answers.classes,
        sources[0],
        sources[1] if len(sources) == 2 else None,
        answers.task,
        "own parts",
        told_by=answers.told_by,
    )
    return OpenedObject(name, checked(name, opened, options.tested))


def as_image(image: Any, name: str, channels: int) -> Any:
    """A PIL image, a uint8 array or a path as the image that sources give. A PIL image that carries an EXIF orientation
    is turned upright, as files are.

    Raises:
        InputError: something else, or floating-point pixels.

    >>> as_image(np.zeros((2, 3), np.uint8), "0", 3).size
    (3, 2)
    """
    if isinstance(image, str | os.PathLike):
        return read_image(os.fspath(image), channels)
    if isinstance(image, Image.Image):
        try:
            return as_seen(image, channels)
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
    """What ``part[i]`` gives, read from its attributes where these are known to say the same."""
    if getattr(part, "target_transform", None) is None:
        for attribute in LABELS:
            given = _listed(part, attribute)
            if given is None or len(given) != len(part):
                continue
            labels = [_plain(label) for label in given]
            if (differs := _differs(part, labels, name)) is None:
                return labels
            say(f"labels of {name} are read in one pass: its {attribute} differ from what item {differs} gives")
    return [_plain(_example(part, index, name)[1]) for index in waiting(range(len(part)), f"labels of {name}")]


def _differs(part: Any, labels: list[Any], name: str) -> int | None:
    """The first of a sample of items whose label is another one."""
    sample = np.unique(np.linspace(0, len(labels) - 1, _COMPARED).astype(int)).tolist()
    return next((index for index in sample if not _same(_example(part, index, name)[1], labels[index])), None)


def _same(one: Any, other: Any) -> bool:
    one, other = _plain(one), _plain(other)
    try:
        if all(np.asarray(label).dtype.kind == "f" for label in (one, other)):  # perhaps of two precisions
            return np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=1e-6, equal_nan=True)
        return bool(one == other)
    except (ValueError, RuntimeError):  # lists of arrays or tensors have no truth value
        return False


def _listed(part: Any, attribute: str) -> Any:
    """What it holds under that name, where that is a list of some kind."""
    given: Any = getattr(part, attribute, None)
    if callable(given) or isinstance(given, str | bytes | dict):
        return None
    try:
        len(given)
    except TypeError:
        return None
    return given


def _plain(label: Any) -> Any:
    """Tensors and arrays as Python numbers and lists."""
    return label.tolist() if hasattr(label, "tolist") else label
