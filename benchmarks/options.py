"""What a call of ``python -m benchmarks.run`` asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Row = TypeVar("Row", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Options:
    """The same for every work.

    Attributes:
        size: "quick", "small" or "full".
        gpu: whether there is an accelerator.
        cores: how many cores may be used.
        data: a folder with ``train/<class>`` and ``val/<class>``; empty: none was given.
        weights: a file for ResNet-18 until ``layer3``; empty: random ones, of which accuracies mean nothing.
        given_turns: what ``--turns`` says.
        networks: the only ones to measure, where a work measures several; empty: all of them.
    """

    size: str
    gpu: bool
    cores: int
    data: str = ""
    weights: str = ""
    given_turns: int | None = None
    networks: tuple[str, ...] = ()

    def pick(self, *, quick: T, small: T, full: T) -> T:
        """The value for this size."""
        return {"quick": quick, "small": small, "full": full}[self.size]

    def among(self, rows: Iterable[Row]) -> list[Row]:
        """Those of some rows, each with a network's name in front, that are to be measured.

        >>> Options("full", False, 2, networks=("resnet50",)).among([("resnet18", 224), ("resnet50", 224)])
        [('resnet50', 224)]
        """
        return [row for row in rows if not self.networks or row[0] in self.networks]

    @property
    def turns(self) -> int:
        """How often everything is measured."""
        return self.given_turns or self.pick(quick=2, small=7, full=5)

    @property
    def seconds(self) -> float:
        """How long one turn of a rate takes, about."""
        return self.pick(quick=0.05, small=1.5, full=1.0 if self.gpu else 3.0)

    @property
    def workers(self) -> int:
        """Processes of PyTorch's loader."""
        return min(16, max(2, self.cores))
