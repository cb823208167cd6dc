"""Folders with one subfolder per class."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path

import numpy as np

from jaxtl.data.image_files import FileSource
from jaxtl.data.images import extensions
from jaxtl.data.kinds import Options
from jaxtl.data.opened import TRAIN_NAMES, VAL_NAMES, Opened, given_split
from jaxtl.data.problems import shown
from jaxtl.data.walk import subfolders, walk
from jaxtl.errors import InputError, nearest, printable


@dataclasses.dataclass(frozen=True)
class Folder:
    """What was found: the classes, the training images, and the validation images where they have a folder."""

    classes: tuple[str, ...]
    train: FileSource
    val: FileSource | None
    notes: tuple[str, ...]


def open_source(path: str, channels: int, options: Options) -> Opened:
    """The same as `jaxtl.data.open` takes it."""
    folder = open_folder(path, channels, tested=options.tested)
    return Opened(folder.classes, folder.train, folder.val, origin="own folders", notes=folder.notes)


def open_folder(path: str | Path, channels: int = 3, *, tested: bool = False) -> Folder:
    """Looks through ``path/<class>/...`` or ``path/train/<class>/...`` without opening an image.

    The folders of a split are called as `given_split` knows them, in any case: ``train`` or ``training``, and beside it
    the first of ``val``, ``valid``, ``validation``, ``dev``, ``test`` and ``testing`` that exists is the validation
    set. A folder ``train`` without subfolders, and without a validation folder beside it, is a class. Class folders are
    searched in depth and through links. Names are sorted, extensions may have any case, hidden files and folders are
    passed over; files that are no images, links to folders that are read already, and folders that are not used are
    told in `notes`. Where nothing is trained on them, one class is enough.

    Raises:
        InputError: listing all that is wrong: no such folder, no class subfolders, images outside of them, a class
            without images, a single class, classes in val that train lacks, a validation folder without one of
            training images, class folders whose names are no UTF-8, folders that cannot be read.
    """
    found, problems = scan_folder(path, channels, tested=tested)
    if len(problems) == 1:
        raise InputError(printable(problems[0]))
    if problems:
        listed = "\n".join(f"- {line}" for line in problems)
        raise InputError(printable(f"{len(problems)} problems with {path}:\n{listed}"))
    return found


def scan_folder(path: str | Path, channels: int = 3, *, tested: bool = False) -> tuple[Folder, list[str]]:
    """As `open_folder`, but gives what is wrong beside what is there.

    Raises:
        InputError: no such folder.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(_missing(root))
    try:
        return _scan_parts(root, channels, tested)
    except PermissionError as error:
        raise InputError(f"folder '{error.filename}' cannot be read (permission denied): allow reading it") from None


def _scan_parts(root: Path, channels: int, tested: bool) -> tuple[Folder, list[str]]:
    endings = extensions(channels)
    train_name, val_name, problems = _split_folders(root)
    if train_name is None:
        train, more, notes = _scan(root, endings)
        classes = tuple(train)
        whole = Folder(classes, _source(root, root, train, classes, channels), None, tuple(notes))
        return whole, problems + more + _too_few(root, train, tested)

    train_root = root / train_name
    train, problems, notes = _scan(train_root, endings)
    classes = tuple(train)
    problems += _too_few(train_root, train, tested)
    unused = [name for name in subfolders(root) if name not in (train_name, val_name)]
    if unused:
        notes.append(f"folder not used: {shown(unused)}")
    source = _source(root, train_root, train, classes, channels)
    if val_name is None:
        return Folder(classes, source, None, tuple(notes)), problems

    val, val_problems, val_notes = _scan(root / val_name, endings)
    problems += val_problems
    if train and (strange := [name for name in val if name not in train]):
        listed = shown(strange, said=lambda name: f"'{name}'{nearest(name, train)}")
        problems.append(f"classes in {val_name}/ that {train_name}/ lacks: {listed}")
    if lacking := [name for name in train if name not in val]:
        val_notes.append(f"no {val_name} images of: {shown(lacking)}")
    held_out = _source(root, root / val_name, val, classes, channels)
    return Folder(classes, source, held_out, tuple(notes + val_notes)), problems


def _split_folders(root: Path) -> tuple[str | None, str | None, list[str]]:
    """Names of the folders of training and validation images, where these are apart, and what is wrong with them."""
    names = subfolders(root)
    train, val, _ = given_split(names)
    if train is not None and (val is not None or subfolders(root / train)):
        return train, val, []
    words = [name for name in names if name.lower() in (*TRAIN_NAMES, *VAL_NAMES)]
    parts = [name for name in words if _has_classes_of_others(root, name, names)]
    if len(names) > 1 and (parts or words == names):
        apart = ", ".join(f"{name}/" for name in parts or words)
        problem = (
            f"{root} holds {apart} as splits do, but no train/ with a subfolder for each class: call the folder of the "
            "training images train, and give classes other names"
        )
        return None, None, [problem]
    return None, None, []


def _has_classes_of_others(root: Path, name: str, names: list[str]) -> bool:
    """Whether subfolders of one folder are called as other folders beside it, or folders in these, are."""
    others = [other for other in names if other != name]
    elsewhere = {*others, *(inner for other in others for inner in subfolders(root / other))}
    return not elsewhere.isdisjoint(subfolders(root / name))


def _scan(root: Path, endings: frozenset[str]) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Images per class below root, what is wrong, and what is worth telling."""
    problems, notes = [], []
    loose = [entry.name for entry in os.scandir(root) if os.path.isfile(entry.path) and _is_image(entry.name, endings)]
    classes, others = {}, Counter[str]()
    for name in subfolders(root):
        found = walk(root / name)
        classes[name] = [file for file in found.files if _is_image(file, endings)]
        strangers = Counter(_ending(file) or "no extension" for file in found.files if not _is_image(file, endings))
        others += strangers
        notes += [f"link to a folder that is read already: {root.name}/{name}/{link}" for link in found.repeated]
        problems += [
            f"folder '{root / name / closed}' cannot be read (permission denied): allow reading it"
            for closed in found.closed
        ]
        if name != printable(name):
            problems.append(f"the name of class folder '{printable(root / name)}' is not UTF-8: rename it")
        if not classes[name]:
            only = f" (only {_listed(strangers)})" if strangers else ""
            problems.append(f"class '{name}' has no images{only}: add images to {root / name} or remove the folder")
    if not classes:
        where = "directly in it" if loose else "in it"
        problems = [f"{root} has no class subfolders and {len(loose) or 'no'} images {where}: put the images of each "
                    f"class into a subfolder named after the class"]  # fmt: skip
    elif not any(classes.values()):
        problems = [f"no images in {root} ({', '.join(sorted(endings))})"]
    elif loose:
        problems.append(f"{len(loose)} images lie beside the class folders in {root}, such as '{min(loose)}': move "
                        "each into its class's folder")  # fmt: skip
    if others:
        notes.append(f"files that are no images in {root.name}/: {_listed(others)}")
    return classes, problems, notes


def _too_few(root: Path, classes: dict[str, list[str]], tested: bool) -> list[str]:
    if len(classes) != 1:
        return []
    (only,) = classes
    inner = " (its subfolders may be the classes: open that folder)" if subfolders(root / only) else ""
    if tested:
        return []
    return [f"only one class, '{only}', in {root}{inner}: at least two are needed to tell apart"]


def _source(root: Path, part: Path, found: dict[str, list[str]], classes: tuple[str, ...], channels: int) -> FileSource:
    label_of = {name: label for label, name in enumerate(classes)}
    known = {name: files for name, files in found.items() if name in label_of}
    names = [(part / name / file).relative_to(root).as_posix() for name, files in known.items() for file in files]
    labels = [label_of[name] for name, files in known.items() for _ in files]
    return FileSource(root, names, np.array(labels, np.int32), channels)


def _is_image(name: str, endings: frozenset[str]) -> bool:
    return not name.startswith(".") and _ending(name) in endings


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _listed(extensions: Counter[str]) -> str:
    return ", ".join(f"{count} {extension}" for extension, count in sorted(extensions.items()))


def _missing(root: Path) -> str:
    if root.is_file():
        return f"'{root}' is a file: give the folder that holds one subfolder per class"
    siblings = subfolders(root.parent) if root.parent.is_dir() else []
    where = "" if root.parent.is_dir() else f" (nor does {root.parent})"
    return f"folder '{root}' does not exist{where}{nearest(root.name, siblings)}"
