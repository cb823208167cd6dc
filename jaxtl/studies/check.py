"""Whether images can be trained on: everything that is wrong with them or looks odd, from one look at each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jaxtl.data.depths import several_depths
from jaxtl.data.divide import divide
from jaxtl.data.folder import scan_folder
from jaxtl.data.open import open_data
from jaxtl.data.opened import Opened
from jaxtl.data.preprocess import Preprocess
from jaxtl.data.progress import tracked
from jaxtl.data.sources import Source
from jaxtl.errors import InputError, printable
from jaxtl.studies.check_images import Pair, Seen, equal_files, look_alikes, look_at_all, names
from jaxtl.studies.look import spread_of

IMBALANCED = 10.0
"""The largest class over the smallest from which on it is worth telling."""
MOST_COMPARED = 50_000
"""Sets of more images are searched for equal files alone, not for look-alikes."""
_SHOWN = 5
_LISTED = 50


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        name: what the data was opened from.
        task: what labels are: ``class``, ``multi-label`` or ``regression``.
        images: by split how many; where the data has none, that of ``jaxtl.open_data``'s defaults.
        outputs: names of the classes, the labels or the numbers.
        classes: by class, or by label, the number of images in each split; empty for numbers.
        widths, heights: smallest, median and largest of the images that can be read, in pixels.
        problems: sentences; training must not begin before these are mended.
        warnings: sentences about what may be meant as it is.
        unreadable: for each image that cannot be read, why; they are among the problems.
        duplicates: groups of equal files in more than one split.
        look_alikes: pairs that look the same, in different splits or with different classes.
        contradictions: groups of equal files with different classes.
    """

    name: str
    task: str
    images: dict[str, int]
    outputs: tuple[str, ...]
    classes: dict[str, dict[str, int]]
    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    unreadable: tuple[str, ...]
    duplicates: tuple[Pair, ...]
    look_alikes: tuple[Pair, ...]
    contradictions: tuple[Pair, ...]

    @property
    def fine(self) -> bool:
        """Whether nothing has to be mended."""
        return not self.problems

    def record(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"fine": self.fine, **asdict(self)}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        images = " + ".join(f"{count} {split}" for split, count in self.images.items())
        yield f"{self.name}: {images} images {self._said()}"
        for name, counts in self.classes.items():
            yield f"  {name}: {' + '.join(map(str, counts.values()))}"
        sides = ", ".join(f"{side} {'/'.join(map(str, spread))}" for side, spread in self._sides().items())
        yield f"{sides} pixels (smallest/median/largest)"
        for title, sentences in (("to be mended", self.problems), ("worth a look", self.warnings)):
            if sentences:
                yield f"{title} ({len(sentences)}):"
                yield from (f"- {sentence}" for sentence in sentences[:_LISTED])
                if len(sentences) > _LISTED:
                    yield f"- and {len(sentences) - _LISTED} more, which --json shows"
        if self.fine:
            yield "nothing has to be mended"

    def _said(self) -> str:
        count = len(self.outputs)
        if self.task == "regression":
            return f"with {count} number{'s' * (count != 1)}: {', '.join(self.outputs)}"
        return f"with any of {count} labels" if self.task == "multi-label" else f"in {count} classes"

    def _sides(self) -> dict[str, tuple[int, int, int]]:
        return {"width": self.widths, "height": self.heights}


def check(spec: str, *, channels: int = 3, threads: int = 2, progress: bool = True, **labels: Any) -> Check:
    """Looks at all images of a data set, however broken it is.

    Args:
        spec: as for ``jaxtl.open_data``.
        channels: that the network will take.
        threads: images looked at at the same time.
        progress: show a bar on a terminal's standard error.
        labels: how images and labels are found, as keywords of ``jaxtl.open_data``: ``path_column``, ``task``, ...

    Raises:
        InputError: there is no such data.

    >>> found = check("digits", channels=1)
    >>> found.fine, found.widths, sorted(found.classes)[:2]
    (True, (8, 8, 8), ['0', '1'])
    """
    task, classes, parts, problems, warnings = _opened(spec, channels, labels)
    places = [(split, source, index) for split, source in parts.items() for index in range(len(source))]
    with closing(tracked(look_at_all(places, threads), len(places), "looking at the images", progress)) as answers:
        seen = list(answers)
    unreadable = tuple(image.reason for image in seen if image.reason is not None)
    readable = [image for image in seen if image.reason is None]
    counts = {} if task == "regression" else _counts(classes, parts)
    one_class = counts if task == "class" else {}
    groups = equal_files(readable)
    duplicates = tuple(names(group) for group in groups if len({image.split for image in group}) > 1)
    contradictions = tuple(names(group) for group in groups if len({image.label for image in group}) > 1)
    alike, too_similar = look_alikes(readable) if len(readable) <= MOST_COMPARED else ((), None)
    sizes = np.array([image.size for image in readable] or [(0, 0)])
    return Check(
        name=printable(spec),
        task=task,
        images={split: len(source) for split, source in parts.items()},
        outputs=tuple(map(printable, classes)),
        classes={printable(name): found for name, found in counts.items()},
        widths=spread_of(sizes[:, 0]),
        heights=spread_of(sizes[:, 1]),
        problems=(*map(printable, problems), *unreadable, *_emptied(classes, one_class, readable)),
        warnings=(
            *map(printable, warnings),
            *_imbalance(one_class),
            *_depths(readable),
            *_told(duplicates, "times the same file is in several splits, which makes validation too easy", " = "),
            *_told(contradictions, "times the same file has different classes", " = "),
            *_told(alike, "pairs look the same, in different splits or with different classes", " ~ "),
            *([] if too_similar is None else [too_similar]),
            *([f"more than {MOST_COMPARED} images: look-alikes were not searched"] * (len(readable) > MOST_COMPARED)),
        ),
        unreadable=unreadable,
        duplicates=duplicates,
        look_alikes=alike,
        contradictions=contradictions,
    )


def _opened(
    spec: str, channels: int, labels: dict[str, Any]
) -> tuple[str, Sequence[str], dict[str, Source], list[str], list[str]]:
    """Task, classes, splits, problems and warnings, from a folder that may be as broken as it likes."""
    kind, _, path = spec.partition(":")
    if kind == "folder" and path and not labels:
        folder, problems = scan_folder(path, channels)
        parts: dict[str, Source] = {"train": folder.train}
        try:
            parts["train"], parts["val"], *_ = divide(Opened(folder.classes, folder.train, folder.val))
        except InputError as error:
            problems.append(str(error))
        return "class", folder.classes, parts, problems, list(folder.notes)
    data = open_data(spec, Preprocess((32, 32)).with_channels(channels), max_bad=None, **labels)
    return data.task or "class", data.classes, {"train": data.train, "val": data.val}, [], list(data.notes)


def _counts(classes: Sequence[str], parts: dict[str, Source]) -> dict[str, dict[str, int]]:
    """By class, or by label, how many images of each split have it."""

    def count(labels: np.ndarray, number: int) -> int:
        return int(np.sum(labels == number) if labels.ndim == 1 else np.sum(labels[:, number] > 0))

    return {
        name: {split: count(source.labels, number) for split, source in parts.items()}
        for number, name in enumerate(classes)
    }


def _emptied(classes: Sequence[str], counts: dict[str, dict[str, int]], readable: list[Seen]) -> Iterator[str]:
    left = Counter((image.split, image.label) for image in readable)
    for label, name in enumerate(classes):
        for split, count in counts.get(name, {}).items():
            if count and not left[split, (label,)]:
                yield f"no {split} image can be read of class '{printable(name)}': add some or remove the class"


def _imbalance(counts: dict[str, dict[str, int]]) -> Iterator[str]:
    train = {name: found["train"] for name, found in counts.items() if found.get("train")}
    if len(train) < 2:
        return
    least, most = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
    if train[most] >= IMBALANCED * train[least]:
        yield (
            f"class '{printable(most)}' has {train[most]} training images and '{printable(least)}' {train[least]}: "
            "consider class_weights: balanced"
        )


def _depths(readable: list[Seen]) -> Iterator[str]:
    shifts = np.array([image.shift for image in readable], np.uint8)
    if told := several_depths([image.name for image in readable], shifts):
        yield told


def _told(groups: Sequence[Pair], what: str, sign: str) -> Iterator[str]:
    if groups:
        more = f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
        yield f"{len(groups)} {what}: {', '.join(sign.join(group) for group in groups[:_SHOWN])}{more}"
