"""Hugging Face datasets: from the hub, from disk, or from a local folder or Parquet file."""

from __future__ import annotations

import os
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
from jaxtl.data.tfds import parsed
from jaxtl.errors import InputError


def open_source(path: str, channels: int, options: Options) -> Opened:
    """The images of a data set: ``owner/name``, ``owner/name/configuration``, or a path; behind it ``:train[:10%]``.

    A path is a folder that ``save_to_disk`` wrote, a folder of images or Parquet files, or a Parquet file. Without a
    slice its splits are used: train, and validation or test.

    Raises:
        InputError: the package is not installed; the data set cannot be opened; no such split, no such field, and what
            `read_answers` and `checked` find.
    """
    name, split = parsed(path, "hf")
    place = f"hf:{path}"
    found = _loaded(name, split, place)
    notes = []
    if split is not None:
        words, parts = [split], [found]
    else:
        train, val, others = given_split(list(found))
        if train is None and len(found) > 1:
            raise InputError(
                f"{place} has no split 'train', only {shown(found)}: name one, such as hf:{name}:{next(iter(found))}"
            )
        words = [word for word in (train or next(iter(found)), val if train else None) if word is not None]
        parts = [found[word] for word in words]
        if train and others:
            notes.append(f"split not used: {', '.join(others)}")
    image, labels = _fields(place, parts[0], options)
    answers = read_answers(
        {field: [value for part in parts for value in part.select_columns([field])[:][field]] for field in labels},
        place=place,
        row=_row([len(part) for part in parts], words),
        task=options.task,
        separator=options.label_separator,
        declared=_class_names(parts[0].features, labels),
    )
    count = len(parts[0])
    sides = (answers.labels[:count], answers.labels[count:])
    sources = [
        _source(part, word, image, mine, channels) for part, word, mine in zip(parts, words, sides, strict=False)
    ]
    group = options.group_column
    groups = [[str(value) for value in part.select_columns([group])[:][group]] for part in parts] if group else []
    if len(groups) == 2:
        check_groups(place, *groups)
    return checked(
        place,
        Opened(
            answers.classes,
            sources[0],
            sources[1] if len(sources) == 2 else None,
            answers.task,
            "own splits",
            tuple(notes),
            tuple(chain(*groups)) if groups else None,
            answers.told_by,
        ),
        options.tested,
    )


def _loaded(name: str, split: str | None, place: str) -> Any:
    """A data set where a split is named, else a mapping of them."""
    try:
        import datasets
    except ImportError:
        raise InputError(f"'{place}' needs Hugging Face datasets: pip install 'jaxtl[hf]'") from None
    where = Path(name).expanduser()
    try:
        if (where / "dataset_dict.json").is_file() or (where / "state.json").is_file():
            found = datasets.load_from_disk(str(where))
            return _of_split(found, split, place)
        if where.is_file():
            kind = {".parquet": "parquet", ".arrow": "arrow"}.get(where.suffix.lower())
            if kind is None:
                raise InputError(f"{place}: {where} is no .parquet or .arrow file")
            return datasets.load_dataset(kind, data_files=str(where), split=split)
        if where.is_dir():
            return datasets.load_dataset(str(where), split=split)
        owner, _, configuration = name.partition("/") if name.count("/") < 2 else name.rpartition("/")
        if name.count("/") == 2:
            return datasets.load_dataset(owner, configuration, split=split)
        return datasets.load_dataset(name, split=split)
    except InputError:
        raise
    except Exception as error:  # network, hub, builders and file formats each raise their own
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{place} cannot be opened: {reason}. Without a network: hf:PATH, of a folder or a Parquet file on disk"
        ) from error


def _of_split(found: Any, split: str | None, place: str) -> Any:
    import datasets

    if split is None:
        return found if isinstance(found, dict) else {"train": found}
    if not isinstance(found, dict) or split not in found:
        known = shown(found) if isinstance(found, dict) else "no splits"
        raise InputError(f"{place}: what save_to_disk wrote is opened by whole splits; there are {known}")
    assert isinstance(found, datasets.DatasetDict)
    return found[split]


def _fields(place: str, part: Any, options: Options) -> tuple[str, tuple[str, ...]]:
    import datasets

    images = [name for name, feature in part.features.items() if isinstance(feature, datasets.Image)]
    return chosen_fields(place, list(part.features), images, options)


def _class_names(features: Any, labels: tuple[str, ...]) -> tuple[str, ...] | None:
    if len(labels) > 1:
        return None
    feature = features[labels[0]]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return None if not names else tuple(names)


def _row(counts: list[int], words: list[str]) -> Any:
    def say(index: int) -> str:
        part = int(index >= counts[0])
        return f"{words[part]}[{index - part * counts[0]}]"

    return say


def _source(part: Any, word: str, image: str, labels: np.ndarray, channels: int) -> EncodedSource:
    import datasets

    images = part.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    names = [f"{word}-{index:06d}" for index in range(len(images))]

    def read(index: int) -> bytes:
        found = images[index][image]
        if found is None or (found["bytes"] is None and found["path"] is None):
            raise InputError(f"image '{names[index]}' is empty: leave the record out")
        return found["bytes"] if found["bytes"] is not None else Path(found["path"]).read_bytes()

    files = [file["filename"] for file in part.cache_files]
    written = "\t".join(f"{os.path.realpath(file)} {os.stat(file).st_mtime_ns}" for file in files)

    def stamp(index: int) -> str | None:
        found = images[index][image]
        path = found["path"] if found is not None and found["bytes"] is None else None
        if path is not None:
            return f"{os.path.realpath(path)}\t{os.stat(path).st_size}\t{os.stat(path).st_mtime_ns}"
        return f"{written}\t{part._fingerprint}\t{image}\t{names[index]}" if files else None

    return EncodedSource(read, names, labels, channels, stamp=stamp)
