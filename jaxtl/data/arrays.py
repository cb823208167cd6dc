"""Images that are arrays already: .npz files, and .npy files that are read from disk as they are needed."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxtl.data.answers import Answers, read_answers
from jaxtl.data.encoded import label_of
from jaxtl.data.kinds import Options
from jaxtl.data.opened import Opened, checked, given_split
from jaxtl.data.problems import refuse, shown
from jaxtl.errors import InputError, nearest

IMAGES = ("images", "image", "x", "data")
LABELS = ("labels", "label", "y", "targets", "target")
CLASSES = ("classes", "class_names", "label_names")


class PixelSource:
    """Images held in an array, which may be a memory map.

    ``source[i]`` is a PIL image for one and three channels, and uint8 (height, width, channels) for other numbers.

    Args:
        images: (N, height, width) or (N, height, width, channels); uint8, or any number with a `value_range`.
        labels: int32 (N,) or float32 (N, K).
        names: one unique name an image.
        value_range: (low, high), which become 0 and 255, linearly; what is outside of it is cut off. None: uint8.
        written: says when the file was written; None: images have no ``stamp``.

    >>> source = PixelSource(np.ones((2, 4, 3), np.float32), np.zeros(2, np.int32), ["a", "b"], value_range=(0, 2))
    >>> source[0][0].size, source[0][0].getpixel((0, 0)), source.size(0)
    ((3, 4), 128, (3, 4))
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        names: list[str],
        value_range: tuple[float, float] | None = None,
        written: str | None = None,
    ) -> None:
        self._images = images
        self._range = value_range
        self._written = written
        self.labels = labels
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._image(index), label_of(self.labels, index)

    def identity(self, index: int) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self._images[index]).data).hexdigest()
        scaled = "" if self._range is None else f"\t{self._range}"
        return f"{self.names[index]}\t{self._images.dtype}{self._images.shape[1:]}\t{digest}{scaled}"

    def stamp(self, index: int) -> str | None:
        return None if self._written is None else f"{self._written}\t{self.names[index]}\t{self._range}"

    def size(self, index: int) -> tuple[int, int]:
        height, width = self._images.shape[1:3]
        return width, height

    def _image(self, index: int) -> Image.Image | np.ndarray:
        pixels = np.asarray(self._images[index])
        if self._range is not None:
            low, high = self._range
            if not np.isfinite(pixels).all():
                raise InputError(f"image '{self.names[index]}' holds NaN or infinity: correct it or leave it out")
            pixels = (np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        return Image.fromarray(pixels) if pixels.ndim == 2 or pixels.shape[2] == 3 else np.array(pixels)


def open_source(path: str, channels: int, options: Options) -> Opened:
    """The images of an .npz file, of a folder of .npy files, or of two .npy files, ``images.npy,labels.npy``.

    Arrays are called images, image, x or data and labels, label, y, targets or target, alone or with a split before or
    behind: ``x_train``, ``test_images``. ``classes`` (also class_names or label_names) holds the names of classes.

    Raises:
        InputError: listing all that is wrong: no such file, arrays that are missing, lengths that differ, pixels that
            are no uint8 without a `value_range`.
    """
    found, written = _arrays(path)
    names = tuple(str(name) for name in found[key]) if (key := _key(found, CLASSES)) else None
    parts = {word: (_key(found, IMAGES, word), _key(found, LABELS, word)) for word in _splits(found)}
    problems = []
    if not parts:
        problems.append(
            f"it holds {shown(map(repr, found))}: it must hold 'images' and 'labels', or 'x_train' and 'y_train'"
        )
    checked_range = _check_range(options.value_range, problems)
    pairs: dict[str, tuple[str, str]] = {}
    for word, (image_key, label_key) in parts.items():
        if image_key is None or label_key is None:
            lacking = "images" if image_key is None else "labels"
            problems.append(f"it has no {lacking} for '{label_key or image_key}'; it holds {shown(map(repr, found))}")
            continue
        pairs[word] = image_key, label_key
        problems += _misfits(image_key, found[image_key], label_key, found[label_key], checked_range)
    train, val, others = given_split(list(parts))
    if parts and train is None and "" in parts:
        train, val, others = "", None, [word for word in parts if word]
    elif parts and train is None:
        problems.append(f"it has no training images, only {shown(parts)}")
    refuse(path, problems)
    assert train is not None

    used = [word for word in (train, val) if word is not None]
    labels = np.concatenate([_flat(found[pairs[word][1]]) for word in used])
    answers = _answers(path, labels, names, options)
    sources, start = [], 0
    for word in used:
        images = found[pairs[word][0]]
        stop = start + len(images)
        image_names = [f"{word or 'image'}-{index:06d}" for index in range(len(images))]
        mark = f"{written}\t{pairs[word][0]}"
        sources.append(PixelSource(images, answers.labels[start:stop], image_names, checked_range, mark))
        start = stop
    notes = (f"arrays not used: {shown(parts[word][0] for word in others)}",) if others else ()
    return checked(
        path,
        Opened(
            answers.classes,
            sources[0],
            sources[1] if val else None,
            answers.task,
            "own arrays",
            notes,
            told_by=answers.told_by,
        ),
        options.tested,
    )


def _answers(path: str, labels: np.ndarray, names: tuple[str, ...] | None, options: Options) -> Answers:
    columns: dict[str, np.ndarray] = {"labels": labels}
    if labels.ndim == 2:
        width = labels.shape[1]
        if names is not None and len(names) != width:
            raise InputError(f"{path}: {len(names)} classes and {width} columns of labels: give as many")
        columns = {name: labels[:, k] for k, name in enumerate(names or [f"labels_{k}" for k in range(width)])}
        names = None
    return read_answers(columns, place=path, task=options.task, separator=options.label_separator, declared=names)


def _arrays(path: str) -> tuple[Mapping[str, Any], str]:
    """Arrays by name, and what tells when they were written."""
    one, comma, other = path.partition(",")
    files = [Path(part).expanduser() for part in ((one, other) if comma else (path,))]
    for file in files:
        if not file.exists():
            near = nearest(file.name, [entry.name for entry in file.parent.iterdir()]) if file.parent.is_dir() else ""
            raise InputError(f"'{file}' does not exist{near}")
    (first, *_) = files
    if comma:
        return {"images": _mapped(files[0]), "labels": _mapped(files[1])}, _written(*files)
    if first.is_dir():
        inside = sorted(first.glob("*.npy"))
        return {file.stem: _mapped(file) for file in inside}, _written(*inside)
    if first.suffix.lower() == ".npz":
        try:
            with np.load(first, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}, _written(first)
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise InputError(_unreadable(first, error)) from None
    if first.suffix.lower() == ".npy":
        raise InputError(f"'{path}' is one array: write 'arrays:{path},LABELS.npy', or name the folder of both")
    raise InputError(f"'{path}' is no .npz file, no folder of .npy files and no pair images.npy,labels.npy")


def _mapped(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(_unreadable(file, error)) from None


def _unreadable(file: Path, error: Exception) -> str:
    if "Object arrays" in str(error):
        return f"{file} holds Python objects, which are not loaded: save arrays of numbers or text"
    reason = "it is no file of NumPy's" if "allow_pickle" in str(error) else str(error)
    return f"{file} cannot be read: {reason}"


def _written(*files: Path) -> str:
    return "\t".join(f"{file.resolve()} {(found := file.stat()).st_size} {found.st_mtime_ns}" for file in files)


def _splits(found: Mapping[str, Any]) -> list[str]:
    """The words beside the names of arrays: ``train`` of ``x_train``, and nothing of ``x``."""
    words = []
    for key in found:
        name = key.lower()
        for usual in (*IMAGES, *LABELS):
            if name == usual:
                words.append("")
            elif name.startswith(f"{usual}_"):
                words.append(name.removeprefix(f"{usual}_"))
            elif name.endswith(f"_{usual}"):
                words.append(name.removesuffix(f"_{usual}"))
    return [word for word in dict.fromkeys(words) if not word or any(given_split([word])[:2])]


def _key(found: Mapping[str, Any], usual: tuple[str, ...], word: str = "") -> str | None:
    wanted = [form for name in usual for form in ([name] if not word else [f"{name}_{word}", f"{word}_{name}"])]
    by_name = {key.lower(): key for key in found}
    return next((by_name[name] for name in wanted if name in by_name), None)


def _flat(labels: np.ndarray) -> np.ndarray:
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _check_range(given: tuple[float, float] | None, problems: list[str]) -> tuple[float, float] | None:
    if given is not None and not (len(given) == 2 and np.isfinite(given).all() and given[0] < given[1]):
        problems.append(f"value_range must be (low, high), two numbers in this order, not {given}")
    return given


def _misfits(
    image_key: str, images: np.ndarray, label_key: str, labels: np.ndarray, value_range: tuple[float, float] | None
) -> list[str]:
    problems = []
    if images.ndim not in (3, 4):
        problems.append(
            f"'{image_key}' has shape {images.shape}: it must be (N, height, width) or (N, height, width, channels)"
        )
    elif images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] > 4:
        problems.append(f"'{image_key}' has shape {images.shape}, channels first: put them last")
    if not (np.issubdtype(images.dtype, np.number) or images.dtype == bool):
        problems.append(f"'{image_key}' holds {images.dtype}, which are no numbers")
    elif images.dtype != np.uint8 and value_range is None:
        problems.append(
            f"'{image_key}' holds {images.dtype}, whose range nobody knows: give value_range=(low, high), the values "
            "of black and white"
        )
    if labels.ndim not in (1, 2):
        problems.append(f"'{label_key}' has shape {labels.shape}: it must be (N,) or (N, K)")
    if images.ndim and labels.ndim and len(images) != len(labels):
        problems.append(f"{len(images)} images in '{image_key}' and {len(labels)} labels in '{label_key}'")
    return problems
