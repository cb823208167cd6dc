"""TensorFlow Datasets that lie prepared on disk, read without TensorFlow."""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data.answers import read_answers
from jaxtl.data.encoded import EncodedSource
from jaxtl.data.features import chosen_fields
from jaxtl.data.kinds import Options
from jaxtl.data.opened import Opened, check_groups, checked, given_split
from jaxtl.data.problems import shown
from jaxtl.data.tfds_pass import Found, passed
from jaxtl.errors import InputError, nearest

_INFO = "dataset_info.json"


def open_source(path: str, channels: int, options: Options) -> Opened:
    """The images of a data set by name, ``cifar10`` or ``cifar10:train[:10%]+test``, or by its folder.

    Its labels are read in one pass, once in a process. Without a slice its splits are used: train, and validation or
    test.

    Raises:
        InputError: it is not prepared, or not in the format that is read without TensorFlow; no such split, no such
            field, and what `read_answers` and `checked` find.
    """
    name, split = parsed(path)
    builder = _builder(name)
    place = f"tfds:{path}"
    splits = [word for word in builder.info.splits if builder.info.splits[word].num_examples]
    notes = []
    if split is not None:
        train, val = split, None
    else:
        found, val, others = given_split(splits)
        if found is None and len(splits) > 1:
            raise InputError(
                f"{place} has no split 'train', only {shown(splits)}: name one, such as tfds:{name}:{splits[0]}"
            )
        train = found or splits[0]
        if others and found:
            notes.append(f"split not used: {', '.join(others)}")
    image, labels = _fields(place, builder, options)
    fields = (*labels, *([options.group_column] if options.group_column else []))
    records = [_Records(builder, word, image, fields, place) for word in (train, val) if word is not None]
    declared = _class_names(builder.info.features, labels)
    answers = read_answers(
        {field: [value for part in records for value in part.values[field]] for field in labels},
        place=place,
        task=options.task,
        separator=options.label_separator,
        declared=declared,
    )
    count = len(records[0])
    sides = (answers.labels[:count], answers.labels[count:])
    sources = [part.source(mine, channels) for part, mine in zip(records, sides, strict=False)]
    groups = (
        [[_word(value) for value in part.values[options.group_column]] for part in records]
        if options.group_column
        else []
    )
    if len(groups) == 2:
        check_groups(place, *groups)
    return checked(
        place,
        Opened(
            answers.classes,
            sources[0],
            sources[1] if val is not None else None,
            answers.task,
            "own splits",
            tuple(notes),
            tuple(chain(*groups)) if groups else None,
            answers.told_by,
        ),
        options.tested,
    )


def parsed(path: str, kind: str = "tfds") -> tuple[str, str | None]:
    """The name (with a version, where one is given) or folder, and the slice.

    >>> parsed("cifar10"), parsed("cifar10:3.0.2"), parsed("cifar10:3.*.*:train[:10%]+test")
    (('cifar10', None), ('cifar10:3.0.2', None), ('cifar10:3.*.*', 'train[:10%]+test'))
    """
    name, *rest = re.split(r":(?![^\[]*\])", path)
    if rest and re.fullmatch(r"\d+(\.(\d+|\*)){0,2}", rest[0]):
        name = f"{name}:{rest.pop(0)}"
    if len(rest) > 1 or "" in rest:
        raise InputError(f"'{kind}:{path}' is not {kind}:NAME or {kind}:NAME:SPLIT, such as {kind}:cifar10:train[:10%]")
    return name, rest[0] if rest else None


class _Records:
    """The records of a split, and what was found in one pass through them."""

    def __init__(self, builder: Any, split: str, image: str, fields: tuple[str, ...], place: str) -> None:
        self._image = image
        self._split = split
        self._folder = Path(builder.data_path)
        self._name = builder.info.full_name
        self._source = _data_source(builder, split, image, place)
        if not len(self._source):
            raise InputError(f"{place}: the split '{split}' has no images")
        self._written = (self._folder / _INFO).stat().st_mtime_ns
        mark = f"{self._folder.resolve()}\t{self._written}\t{split}"
        self._found: Found = passed(self._source, mark, image, fields, place)
        self.values = self._found.values

    def __len__(self) -> int:
        return len(self._source)

    def source(self, labels: np.ndarray, channels: int) -> EncodedSource:
        names = [f"{self._split}-{index:06d}" for index in range(len(self))]
        mark, digests = f"{self._folder.resolve()}\t{self._written}", self._found.digests
        return EncodedSource(
            lambda index: self._source[index][self._image],
            names,
            labels,
            channels,
            identity=lambda index: f"{self._name}\t{names[index]}\t{digests[index]}",
            stamp=lambda index: f"{mark}\t{names[index]}\t{digests[index]}",
        )


def _data_source(builder: Any, split: str, image: str, place: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        return builder.as_data_source(split=split, decoders={image: tfds.decode.SkipDecoding()})
    except NotImplementedError:
        raise InputError(_wrong_format(place, builder)) from None
    except (ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{place}: '{split}' cannot be read ({reason}); there are {shown(builder.info.splits)}"
        ) from None


def _wrong_format(place: str, builder: Any) -> str:
    return (
        f"{place} was prepared as {builder.info.file_format.value}, which only TensorFlow reads: where TensorFlow is "
        f"installed, prepare it again with: tfds build {builder.name} --file_format=array_record"
    )


def _builder(name: str) -> Any:
    tfds = _package(name)
    folder = _folder(name)
    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # whatever a broken folder makes it raise
        raise InputError(
            f"tfds:{name}: {folder} cannot be read ({str(error).splitlines()[0]}): prepare it again"
        ) from None
    if builder.info.file_format is not None and builder.info.file_format.value not in ("array_record", "parquet"):
        raise InputError(_wrong_format(f"tfds:{name}", builder))
    return builder


def _package(name: str) -> Any:
    try:
        import tensorflow_datasets
    except ImportError:
        raise InputError(f"'tfds:{name}' needs tensorflow-datasets: pip install 'jaxtl[tfds]'") from None
    return tensorflow_datasets


def _folder(name: str) -> Path:
    """The folder of one version of one configuration."""
    plain, _, version = name.partition(":")
    home = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    given = Path(plain).expanduser()
    by_path = given.is_dir()
    start = given if by_path else home / plain
    if (start / _INFO).is_file():
        return start
    found = sorted((file.parent for depth in ("*", "*/*") for file in start.glob(f"{depth}/{_INFO}")), key=_order)
    if version:
        found = [
            folder for folder in found if re.fullmatch(version.replace(".", r"\.").replace("*", ".*"), folder.name)
        ]
    if not found:
        raise InputError(_not_there(name, plain, home, start, by_path))
    if len({folder.parent for folder in found}) > 1:
        names = shown(str(folder.parent.relative_to(start)) for folder in found)
        raise InputError(f"tfds:{name} has several configurations, {names}: write tfds:{plain}/CONFIGURATION")
    return found[-1]


def _order(folder: Path) -> tuple[Any, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", folder.name)), folder.name


def _not_there(name: str, plain: str, home: Path, start: Path, by_path: bool) -> str:
    if by_path:
        return f"tfds:{name}: {start} holds no prepared data set: no {_INFO} in it or in its versions"
    there = [entry.name for entry in home.iterdir() if entry.is_dir()] if home.is_dir() else []
    return (
        f"tfds:{name} is not prepared in {home}{nearest(plain, there)}. Preparing it needs TensorFlow, reading it "
        "does not: in an environment of its own, pip install tensorflow tensorflow-datasets and tfds build "
        f"{plain} --file_format=array_record; another folder is named by TFDS_DATA_DIR, or by tfds:PATH"
    )


def _fields(place: str, builder: Any, options: Options) -> tuple[str, tuple[str, ...]]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [name for name, feature in features.items() if isinstance(feature, tfds.features.Image)]
    supervised = builder.info.supervised_keys
    usual = supervised[1] if isinstance(supervised, tuple) and isinstance(supervised[1], str) else None
    return chosen_fields(place, list(features), images, options, usual)


def _class_names(features: Any, labels: tuple[str, ...]) -> tuple[str, ...] | None:
    if len(labels) > 1:
        return None
    feature = features[labels[0]]
    feature = getattr(feature, "feature", feature)  # of a sequence
    names = getattr(feature, "names", None)
    return None if not names else tuple(names)


def _word(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
