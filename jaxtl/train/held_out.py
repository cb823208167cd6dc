"""The images that a tuned model did not train on, as far as what was saved with it says which these are."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError

from jaxtl.data.dataset import Data
from jaxtl.data.divide import read_split
from jaxtl.data.kinds import kind_of
from jaxtl.data.open import open_data
from jaxtl.data.sources import has_classes
from jaxtl.errors import InputError
from jaxtl.files import expanded
from jaxtl.model import Model
from jaxtl.notices import say
from jaxtl.pretrained.config import CONFIG, read_config
from jaxtl.recipe import DataSection
from jaxtl.train.run import how_opened

SPLIT = ("val_fraction", "folds", "fold", "split_file", "train_samples")
LABELS = ("path_column", "label_column", "label_separator", "task", "value_range")
"""How images and labels are found, which is alike where a model is tested on other images than it was trained on."""

NAMED_BY_PATHS = ("folder", "csv", "parquet")
"""Kinds of data in which a name says more of an image than a number."""
NEARLY_ALL = 0.95
"""Of the images of a training, so many have to be in a source of another name that it is taken for the same."""


def open_held_out(
    model: Model,
    folder: str | Path,
    source: str,
    *,
    val_fraction: float | None = None,
    split_file: str | Path | None = None,
    seed: int | None = None,
    **labels: Any,
) -> Data:
    """Opens images for a model, without those that its folder records it was trained on; says which these are.

    Where the model was trained on the same source, its split is taken from the run's ``split.json``, or as it is
    recorded. A folder or table of another name counts as the same where it has the training images of ``split.json``,
    by paths below it and classes, up to a twentieth of them. Where the model was trained on another source, all images
    are taken, unless the source has a split of its own. Where nothing is recorded, `open_data`'s default is held out.
    Columns and labels are found as in training.

    Args:
        model: the network.
        folder: that it was loaded from; another name has no record.
        source: as for ``open_data``.
        val_fraction: hold out this part, in place of the recorded split; 1: all.
        split_file: take the split from this file, in place of the recorded one.
        seed: of the split, in place of the recorded one.
        labels: ``path_column``, ``label_column``, ``label_separator`` and ``task``, in place of the recorded ones.

    Raises:
        InputError: data that cannot be opened, or a ``config.json`` that is damaged.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1)
    >>> open_held_out(model, "cifar_resnet20", "digits", val_fraction=0.1).split
    '10% held out, seed 0'
    """
    record = _Record.of(expanded(folder), source)
    if record.written is not None:
        record = _compared(record, model, source, labels)
    how = {**(record.how if record.fits else _how_others(model, source, record)), **labels}
    if seed is not None:
        how["seed"] = seed
    if val_fraction is not None or split_file is not None:
        how = _without_split(how)
        given = {"val_fraction": val_fraction, "split_file": split_file}
        how |= {name: value for name, value in given.items() if value is not None}
    elif seed is None and not record.fits and record.data:
        how["val_fraction"] = 1
    elif seed is None and record.written is not None:
        with contextlib.suppress(InputError), _what_is_there(record) as place:  # or too much is not there any more
            return _told(open_data(source, model, **{**_without_split(how), "split_file": place}), source, record)
    return _told(open_data(source, model, **how), source, record, split_file is not None, drawn=True)


@dataclass(frozen=True)
class _Record:
    """What is recorded of a model's training, as far as it is about some images.

    Attributes:
        data: what its data recorded of itself; empty where the model has no record.
        fits: whether that may be these images: the same place, one of the same name, or one with the same images.
        how: how its images were opened, as keywords of ``open_data``.
        place: of the run's split.json.
        written: the names in that; None where it is not there, or the images are others.
        there: names of these images that fit by what they are called alone; None where the place fits.
    """

    data: Mapping[str, Any]
    fits: bool
    how: Mapping[str, Any]
    place: Path
    written: Mapping[str, list[str]] | None
    there: frozenset[str] | None = None

    @classmethod
    def of(cls, folder: Path, source: str) -> _Record:
        config = read_config(folder) if (folder / CONFIG).is_file() else {}
        training = (config.get("jaxtl") or {}).get("training") or {}
        data, place = training.get("data") or {}, folder.parent / "split.json"
        fits = _may_be(data.get("source", ""), source)
        written = None
        if fits or source.partition(":")[0] == data.get("source", "").partition(":")[0] in NAMED_BY_PATHS:
            with contextlib.suppress(InputError):
                written = read_split(place)
        return cls(data, fits, _opened(training), place, written)


def _how_others(model: Model, source: str, record: _Record) -> dict[str, Any]:
    """How other images than those of the training are opened, as keywords of ``open_data``."""
    kind, _ = kind_of(source)
    alike = (kind.module == "tar") == record.data.get("source", "").startswith("tar:")
    names = [name for name in LABELS if name in kind.options and (alike or name != "path_column")]
    how = {name: record.how[name] for name in names if record.how.get(name) is not None}
    known = record.data or model.task != "class"  # without a record any model says that it answers with a class
    return {"task": model.task, **how} if known and "task" in kind.options else how


def _compared(record: _Record, model: Model, source: str, labels: Mapping[str, Any]) -> _Record:
    """The record, which knows from the names in split.json whether it is about a source."""
    assert record.written is not None
    others = replace(record, fits=False, written=None)
    how = {**_without_split(record.how), **labels, "val_fraction": 1, "max_bad": None}
    try:
        found = open_data(source, model, **how)
    except InputError:
        if record.fits:
            raise
        return others
    names = frozenset([*found.train.names, *found.val.names])
    if record.fits:
        return others if names.isdisjoint([*record.written["train"], *record.written["val"]]) else record
    trained = set(record.written["train"])
    missing = (1 - NEARLY_ALL) * len(trained)
    if len(trained - names) > missing:
        return others
    if (then := record.data.get("train_by_class")) is not None and has_classes(found.val):
        now = Counter[str]()
        for part in (found.train, found.val):
            now.update(
                found.classes[label] for name, label in zip(part.names, part.labels, strict=True) if name in trained
            )
        if sum(abs(now[name] - then.get(name, 0)) for name in {*now, *then}) > missing:
            return others
    return replace(record, fits=True, there=names)


@contextlib.contextmanager
def _what_is_there(record: _Record) -> Iterator[Path]:
    """The file of a split, without the images that a source lacks which fits by names alone."""
    if record.there is None:
        yield record.place
        return
    assert record.written is not None
    left = {part: [name for name in names if name in record.there] for part, names in record.written.items()}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, record.place.name)
        place.write_text(json.dumps(left), encoding="utf-8")
        yield place


def _told(data: Data, source: str, record: _Record, split_given: bool = False, drawn: bool = False) -> Data:
    then, counts = record.data.get("split"), (record.data.get("train"), record.data.get("val"))
    if record.written is not None:
        seen = len(set(record.written["train"]).intersection(data.val.names))
        if set(record.written["val"]) == set(data.val.names):
            told = ", as in training"
        else:
            told = f"; the model was trained on {seen} of them" if seen else ", none of which the model was trained on"
        if record.there is not None:
            told += f", if these are the images of {record.data['source']}, whose names they have"
            told += "" if drawn else " (else --val-fraction 1)"
    elif then is None:
        told = "; no training on them is recorded"
    elif not record.fits:
        told = f"; the model was trained on {record.data['source']} ({then}): if these are the same, say --split-file"
    elif split_given:
        told = ""
    elif then == data.split and counts == (len(data.train), len(data.val)):
        told = ", as in training"
    else:
        told = f"; the model may have seen them: it was trained with {then}"
    say(f"{len(data.val)} validation images of {source}: {data.split}{told}")
    return data


def _opened(training: Mapping[str, Any]) -> dict[str, Any]:
    """How its images were opened, as keywords of ``open_data``."""
    recipe = training.get("recipe") or {}
    try:
        images = DataSection.model_validate(recipe.get("data"))
    except ValidationError:  # none, or that of another version
        return {}
    return {**how_opened(images, recipe.get("seed", 0)), "max_bad": images.max_bad}


def _without_split(how: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in how.items() if name not in SPLIT}


def _may_be(recorded: str, source: str) -> bool:
    """Whether two sources may be the same images: a record may name a folder from elsewhere, or by its last part."""
    (kind, _, then), (today, _, now) = recorded.partition(":"), source.partition(":")
    if kind != today:
        return False
    here, there = expanded(now), expanded(then)
    if not now or not here.exists():
        return then == now
    same = here.resolve() == there.resolve()
    return same or (not there.exists() and here.resolve().name == PurePath(then).name)
