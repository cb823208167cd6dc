"""Images that a network is only tested on: nothing is held out of them, and its classes are theirs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxtl.data.bands import Picture
from jaxtl.data.encoded import label_of
from jaxtl.data.opened import Opened
from jaxtl.data.sources import Source, Subset


class Relabelled(Subset):
    """The images of a source with other labels.

    >>> from jaxtl.data.digits import load_digits
    >>> two = Subset(load_digits(), [3, 1])
    >>> Relabelled(two, np.array([1, 0])).labels.tolist()
    [1, 0]
    """

    def __init__(self, source: Source, labels: np.ndarray) -> None:
        super().__init__(source, range(len(source)))
        self.labels = labels

    def __getitem__(self, index: int) -> tuple[Picture, int]:
        return super().__getitem__(index)[0], label_of(self.labels, index)


def in_terms_of(opened: Opened, classes: Sequence[str]) -> Opened:
    """The same images with labels that are positions among a network's classes, where theirs are some of these.

    Of numbers there must be as many; a single one may have any name. Images with other classes are given back as they
    are, for `jaxtl.train.fits.check_fits` to refuse.

    >>> from jaxtl.data.digits import load_digits
    >>> pair = Opened(("1", "3"), Relabelled(Subset(load_digits(), [3, 1]), np.array([1, 0])))
    >>> in_terms_of(pair, ("0", "1", "2", "3")).train.labels.tolist()
    [3, 1]
    """
    theirs = opened.classes
    if opened.task == "regression" and len(theirs) == len(classes) == 1:
        return dataclasses.replace(opened, classes=tuple(classes))
    short = opened.task == "regression" and len(theirs) != len(classes)
    if theirs == tuple(classes) or short or not set(theirs) <= set(classes):
        return opened
    places = np.array([classes.index(name) for name in theirs], np.int32)

    def moved(source: Source) -> Source:
        if opened.task == "class":
            return Relabelled(source, places[source.labels])
        labels = np.zeros((len(source), len(classes)), np.float32)
        labels[:, places] = source.labels
        return Relabelled(source, labels)

    val = None if opened.val is None else moved(opened.val)
    return dataclasses.replace(opened, classes=tuple(classes), train=moved(opened.train), val=val)
