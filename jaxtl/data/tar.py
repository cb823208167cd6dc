"""WebDataset shards: tar files in which ``key.jpg`` lies beside ``key.cls``; read at random by an index of places."""

from __future__ import annotations

import dataclasses
import functools
import glob
import json
import os
import re
import tarfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data.answers import read_answers
from jaxtl.data.encoded import EncodedSource
from jaxtl.data.images import EXTENSIONS
from jaxtl.data.kinds import Options
from jaxtl.data.opened import TRAIN_NAMES, VAL_NAMES, Opened, checked, given_split
from jaxtl.data.problems import refuse, shown
from jaxtl.data.table import LABELS
from jaxtl.data.waiting import waiting
from jaxtl.errors import InputError, nearest

_LABEL_MEMBERS = ("cls", "json", "txt")


@dataclasses.dataclass(frozen=True)
class Member:
    """Where a file lies inside a shard, in bytes."""

    start: int
    size: int


Samples = dict[str, dict[str, Member]]
"""Keys to extensions (without the dot, in lower case) to members."""


def open_source(path: str, channels: int, options: Options) -> Opened:
    """The images of shards: a pattern such as ``shards/train-{000..003}.tar`` or ``shards/*.tar``, or a folder.

    Shards with ``train`` and ``val`` (or other words that `given_split` knows) in their names, such as
    ``flowers-train-000.tar``, are split that way. The label is in ``key.cls`` (a whole number), ``key.json`` or
    ``key.txt``. The image is the member whose whole extension is an image's, ``key.jpg`` beside ``key.depth.png``, or
    the one whose extension is `path_column`.

    Raises:
        InputError: listing all that is wrong: no such shards, shards that cannot be read, samples without image or
            label or with several images, keys that are there twice, shards for validation among others that are not
            called train.
    """
    shards = find_shards(path)
    problems: list[str] = []
    found: dict[Path, Samples] = {}
    for shard in waiting(shards, "index of shards"):
        try:
            status = shard.stat()
            found[shard] = index_of(str(shard), status.st_size, status.st_mtime_ns)
        except InputError as error:
            problems.append(str(error))
    refuse(path, problems)

    train, val, notes = _split_shards(path, shards)
    samples = [(shard, key, members) for shard in (*train, *val) for key, members in found[shard].items()]
    count = sum(len(found[shard]) for shard in train)
    wanted = None if options.path_column is None else options.path_column.removeprefix(".").lower()
    images = [_image_extensions(members, wanted) for _, _, members in samples]
    names = [f"{shard.name}/{key}" for shard, key, _ in samples]
    if not samples:
        problems.append(f"no samples in {shown(shard.name for shard in shards)}")
    if lacking := [name for name, image in zip(names, images, strict=True) if not image]:
        what = "" if wanted is None else f" '.{wanted}'"
        known = sorted({extension for *_, members in samples for extension in members})
        hint = "" if wanted is None else nearest(wanted, known)
        problems.append(f"{len(lacking)} samples without an image{what}: {shown(lacking)}{hint}")
    if several := [f"{name} ({', '.join(image)})" for name, image in zip(names, images, strict=True) if len(image) > 1]:
        problems.append(
            f"{len(several)} samples with several images: {shown(several, 3)}; path_column names the extension of the "
            "one to take"
        )
    if len(set(names)) < len(names):
        problems.append("shards of the same name in different folders: give them names of their own")
    labels = [
        _label(shard, members, options, problems, name)
        for (shard, _, members), name in zip(samples, names, strict=True)
    ]
    refuse(path, _few(problems))
    answers = read_answers(
        {"label": labels},
        place=path,
        row=lambda index: f"'{names[index]}'",
        task=options.task,
        separator=options.label_separator,
    )
    places = [(str(shard), members[image]) for (shard, _, members), (image,) in zip(samples, images, strict=True)]
    chosen = "" if wanted is None else f"\t{wanted}"
    parts = [
        _source(places[part], names[part], answers.labels[part], channels, chosen)
        for part in (slice(count), slice(count, None))
    ]
    return checked(
        path,
        Opened(
            answers.classes,
            parts[0],
            parts[1] if val else None,
            answers.task,
            "own shards",
            tuple(notes),
            told_by=answers.told_by,
        ),
        options.tested,
    )


def find_shards(pattern: str) -> list[Path]:
    """Tar files of a folder, a glob, or a name with ``{000..003}`` or ``{a,b}`` in it, in sorted order.

    Raises:
        InputError: none, or one that does not exist.
    """
    folder = Path(pattern).expanduser()
    if folder.is_dir():
        shards = sorted(folder.glob("*.tar"))
        if not shards:
            packed = sorted(entry.name for entry in folder.iterdir() if ".tar." in entry.name or entry.suffix == ".tgz")
            hint = (
                f", only {shown(packed, 3)}: compressed shards cannot be read at random, unpack them to .tar"
                if packed
                else ""
            )
            raise InputError(f"no .tar files in {folder}{hint}")
        return shards
    named = [os.path.expanduser(name) for name in expanded(pattern)]
    missing = [name for name in named if not os.path.isfile(name) and not glob.glob(name)]
    if missing:
        raise InputError(f"shards that do not exist: {shown(missing)}")
    return list(
        dict.fromkeys(
            Path(file) for name in named for file in ([name] if os.path.isfile(name) else sorted(glob.glob(name)))
        )
    )


def expanded(pattern: str) -> list[str]:
    """All names that braces stand for.

    >>> expanded("a-{08..10}.tar"), expanded("{x,y}.tar")
    (['a-08.tar', 'a-09.tar', 'a-10.tar'], ['x.tar', 'y.tar'])
    """
    pieces = re.split(r"\{([^{}]*)\}", pattern)
    return [
        "".join(chosen)
        for chosen in product(*(_choices(piece) if at % 2 else [piece] for at, piece in enumerate(pieces)))
    ]


def _choices(inside: str) -> list[str]:
    if span := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        first, last = span.groups()
        return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return inside.split(",")


@functools.lru_cache(maxsize=4096)
def index_of(shard: str, size: int, written: int) -> Samples:
    """Where the files of a shard lie, by reading its headers once in a process.

    Args:
        shard: the tar file.
        size: of it, in bytes.
        written: when it was, in nanoseconds: a shard that changed is read again.

    Raises:
        InputError: no tar file, compressed, truncated, or with a file twice.
    """
    samples: Samples = {}
    try:
        for name, member in _members(shard):
            folder, _, base = name.rpartition("/")
            stem, dot, extension = base.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            if not dot or not stem:
                continue
            if extension.lower() in samples.setdefault(key, {}):
                raise InputError(f"shard '{shard}' holds '{name}' twice: give every sample a key of its own")
            if member.start + member.size > size:
                raise tarfile.ReadError(f"it ends inside '{name}'")
            samples[key][extension.lower()] = member
    except (tarfile.TarError, OSError, EOFError) as error:
        packed = "; compressed shards cannot be read at random" if shard.endswith(("gz", "bz2", "xz", "zst")) else ""
        raise InputError(f"shard '{shard}' cannot be read ({error}){packed}: copy or unpack it again") from None
    return samples


def _members(shard: str) -> Iterator[tuple[str, Member]]:
    with tarfile.open(shard, "r:") as archive:
        for member in archive:
            if member.isfile():
                yield member.name.removeprefix("./"), Member(member.offset_data, member.size)


def _image_extensions(members: dict[str, Member], wanted: str | None) -> list[str]:
    """Extensions of the members that could be the sample's image: one, where that is clear."""
    if wanted is not None:
        return [wanted] if wanted in members else []
    images = [extension for extension in members if f".{extension.rpartition('.')[2]}" in EXTENSIONS]
    return [extension for extension in images if "." not in extension] or images


def read_member(shard: str, member: Member) -> bytes:
    """The bytes of a member; threads may do this at once.

    Raises:
        InputError: the shard is gone or shorter than it was.
    """
    try:
        file = os.open(shard, os.O_RDONLY)
        try:
            data = os.pread(file, member.size, member.start)
        finally:
            os.close(file)
    except OSError as error:
        raise InputError(f"shard '{shard}' cannot be read: {error.strerror}") from None
    if len(data) < member.size:
        raise InputError(f"shard '{shard}' is shorter than it was when it was opened")
    return data


def _label(shard: Path, members: dict[str, Member], options: Options, problems: list[str], name: str) -> Any:
    """The label of a sample as it was written."""
    fields = options.label_columns
    wanted = next(
        (ext for ext in ((fields or ()) if fields and fields[0] in members else _LABEL_MEMBERS) if ext in members), None
    )
    if wanted is None:
        problems.append(f"'{name}' has no label: it needs {', '.join(f'.{ext}' for ext in _LABEL_MEMBERS)} beside it")
        return None
    text = read_member(str(shard), members[wanted]).decode("utf-8", "replace").strip()
    if wanted != "json":
        if wanted == "cls" and not re.fullmatch(r"-?\d+", text):
            problems.append(f"'{name}.cls' holds {text[:20]!r}, no whole number")
        return text
    try:
        value = json.loads(text)
    except ValueError:
        problems.append(f"'{name}.json' is no JSON")
        return None
    if not isinstance(value, dict):
        return value
    field = next((field for field in (fields or LABELS) if field in value), None)
    if field is None:
        problems.append(f"'{name}.json' has no {' or '.join(map(repr, fields or LABELS[:2]))}, only {shown(value, 5)}")
        return None
    return value[field]


def _few(problems: list[str]) -> list[str]:
    """Not a line for each of a million samples."""
    return problems if len(problems) <= 10 else [*problems[:10], f"and {len(problems) - 10} more"]


def _source(
    places: list[tuple[str, Member]], names: list[str], labels: np.ndarray, channels: int, chosen: str
) -> EncodedSource:
    def stamp(index: int) -> str:
        shard, member = places[index]
        status = os.stat(shard)
        return f"{os.path.realpath(shard)}\t{status.st_size}\t{status.st_mtime_ns}\t{member.start}\t{member.size}"

    return EncodedSource(
        lambda index: read_member(*places[index]),
        names,
        labels,
        channels,
        identity=lambda index: f"{names[index]}\t{places[index][1].size}{chosen}",
        stamp=stamp,
    )


def _split_shards(path: str, shards: list[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Those to train on, those to validate with, and notes."""
    words = {shard: _split_word(shard.name) for shard in shards}
    train, val, _ = given_split(list(dict.fromkeys(words.values())))
    if train is None and val is not None and len(set(words.values())) > 1:
        several = shown(shard.name for shard in shards if words[shard])
        problem = (
            f"{several} are for validation by their names, and no shard is called train: call those for training so, "
            "or name by a pattern which are meant"
        )
        refuse(path, [problem])
    by_name = val is not None or Path(path).expanduser().is_dir()
    if train is None or not by_name:
        return shards, [], []
    others = [shard.name for shard in shards if words[shard] not in (train, val)]
    notes = [f"shards not used: {shown(others)}"] if others else []
    return [s for s in shards if words[s] == train], [s for s in shards if words[s] == val], notes


def _split_word(name: str) -> str:
    """The last word in it that names a part of a split, or nothing: before it may be the name of the data set.

    >>> _split_word("flowers-Train-000.tar"), _split_word("test-tubes-val-0.tar"), _split_word("trains-000.tar")
    ('train', 'val', '')
    """
    words = re.split(r"[^a-z]+", name.lower())
    return next((word for word in reversed(words) if word in (*TRAIN_NAMES, *VAL_NAMES)), "")
