"""Folders with one subfolder per class."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from jaxtl.data.images import EXTENSIONS, image_size, read_image
from jaxtl.data.kinds import Options
from jaxtl.data.opened import Opened
from jaxtl.errors import InputError, nearest

VAL_NAMES = ("val", "valid", "validation", "test")


class FolderSource:
    """Image files and their labels; files are opened when they are asked for.

    Args:
        root: the folder that names are relative to.
        names: paths of the images below root, with forward slashes.
        labels: one per name.
        channels: 3 reads RGB images, 1 greyscale ones.
    """

    def __init__(self, root: Path, names: list[str], labels: np.ndarray, channels: int = 3) -> None:
        self._root = root
        self._channels = channels
        self.names = names
        self.labels = labels.astype(np.int32)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return read_image(self._root / self.names[index], self._channels), int(self.labels[index])

    def identity(self, index: int) -> str:
        return f"{self.names[index]}\t{(self._root / self.names[index]).stat().st_size}"

    def stamp(self, index: int) -> str:
        path = self._root.resolve() / self.names[index]
        found = path.stat()
        return f"{path}\t{found.st_size}\t{found.st_mtime_ns}"

    def size(self, index: int) -> tuple[int, int] | None:
        return image_size(self._root / self.names[index])

    def reduced(self, index: int, at_least: int) -> Image.Image:
        return read_image(self._root / self.names[index], self._channels, at_least)


@dataclasses.dataclass(frozen=True)
class Folder:
    """What was found: the classes, the training images, and the validation images where they have a folder."""

    classes: tuple[str, ...]
    train: FolderSource
    val: FolderSource | None
    notes: tuple[str, ...]


def open_source(path: str, channels: int, options: Options) -> Opened:
    """The same as `jaxtl.data.open` takes it."""
    folder = open_folder(path, channels)
    return Opened(folder.classes, folder.train, folder.val, origin="own folders", notes=folder.notes)


def open_folder(path: str | Path, channels: int = 3) -> Folder:
    """Looks through ``path/<class>/...`` or ``path/train/<class>/...`` without opening an image.

    Beside ``train`` the first of ``val``, ``valid``, ``validation`` and ``test`` that exists is the validation set.
    Class folders are searched in depth. Names are sorted, extensions may have any case, hidden files and folders are
    passed over; files that are no images and folders that are not used are told in `notes`.

    Raises:
        InputError: listing all that is wrong: no such folder, no class subfolders, images outside of them, a class
            without images, a single class, classes in val that train lacks.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(_missing(root))
    train_root = root / "train"
    if not train_root.is_dir():
        train, problems, notes = _scan(root)
        _refuse(root, problems + _too_few(root, train))
        return Folder(tuple(train), _source(root, root, train, tuple(train), channels), None, tuple(notes))

    train, problems, notes = _scan(train_root)
    problems += _too_few(train_root, train)
    val_name = next((name for name in VAL_NAMES if (root / name).is_dir()), None)
    unused = [name for name in _subfolders(root) if name not in ("train", val_name)]
    if unused:
        notes.append(f"folder not used: {', '.join(unused)}")
    if val_name is None:
        _refuse(root, problems)
        return Folder(tuple(train), _source(root, train_root, train, tuple(train), channels), None, tuple(notes))

    val, val_problems, val_notes = _scan(root / val_name)
    problems += val_problems
    if train and (strange := [f"'{name}'{nearest(name, train)}" for name in val if name not in train]):
        problems.append(f"classes in {val_name}/ that train/ lacks: {', '.join(strange)}")
    if lacking := [name for name in train if name not in val]:
        val_notes.append(f"no {val_name} images of: {', '.join(lacking)}")
    _refuse(root, problems)
    return Folder(
        classes=tuple(train),
        train=_source(root, train_root, train, tuple(train), channels),
        val=_source(root, root / val_name, val, tuple(train), channels),
        notes=tuple(notes + val_notes),
    )


def _scan(root: Path) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Images per class below root, what is wrong, and what is worth telling."""
    problems, notes = [], []
    loose = [entry.name for entry in os.scandir(root) if entry.is_file() and _is_image(entry.name)]
    classes, others = {}, Counter[str]()
    for name in _subfolders(root):
        classes[name], strangers = _files(root / name)
        others += strangers
        if not classes[name]:
            found = f" (only {_listed(strangers)})" if strangers else ""
            problems.append(f"class '{name}' has no images{found}: add images to {root / name} or remove the folder")
    if not classes:
        where = "directly in it" if loose else "in it"
        problems = [f"{root} has no class subfolders and {len(loose) or 'no'} images {where}: put the images of each "
                    f"class into a subfolder named after the class"]  # fmt: skip
    elif not any(classes.values()):
        problems = [f"no images in {root} ({', '.join(sorted(EXTENSIONS))})"]
    elif loose:
        problems.append(f"{len(loose)} images lie beside the class folders in {root}, such as '{min(loose)}': move "
                        "each into its class's folder")  # fmt: skip
    if others:
        notes.append(f"files that are no images in {root.name}/: {_listed(others)}")
    return classes, problems, notes


def _too_few(root: Path, classes: dict[str, list[str]]) -> list[str]:
    if len(classes) != 1:
        return []
    (only,) = classes
    inner = " (its subfolders may be the classes: open that folder)" if _subfolders(root / only) else ""
    return [f"only one class, '{only}', in {root}{inner}: at least two are needed to tell apart"]


def _source(
    root: Path, part: Path, found: dict[str, list[str]], classes: tuple[str, ...], channels: int
) -> FolderSource:
    names = [(part / name / file).relative_to(root).as_posix() for name, files in found.items() for file in files]
    labels = [classes.index(name) for name, files in found.items() for _ in files]
    return FolderSource(root, names, np.array(labels), channels)


def _files(folder: Path) -> tuple[list[str], Counter[str]]:
    """Images below a folder, as sorted relative paths, and the extensions of the other files."""
    images, others = [], Counter[str]()
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if file.startswith("."):
                continue
            if _is_image(file):
                images.append(Path(where, file).relative_to(folder).as_posix())
            else:
                others[Path(file).suffix.lower() or "no extension"] += 1
    return sorted(images), others


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def _listed(extensions: Counter[str]) -> str:
    return ", ".join(f"{count} {extension}" for extension, count in sorted(extensions.items()))


def _missing(root: Path) -> str:
    if root.is_file():
        return f"'{root}' is a file: give the folder that holds one subfolder per class"
    siblings = _subfolders(root.parent) if root.parent.is_dir() else []
    where = "" if root.parent.is_dir() else f" (nor does {root.parent})"
    return f"folder '{root}' does not exist{where}{nearest(root.name, siblings)}"


def _refuse(root: Path, problems: list[str]) -> None:
    if len(problems) == 1:
        raise InputError(problems[0])
    if problems:
        raise InputError(f"{len(problems)} problems with {root}:\n" + "\n".join(f"- {line}" for line in problems))
