"""What a call of ``python -m benchmarks.run`` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


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
    """

    size: str
    gpu: bool
    cores: int
    data: str = ""
    weights: str = ""
    given_turns: int | None = None

    def pick(self, *, quick: T, small: T, full: T) -> T:
        """The value for this size."""
        return {"quick": quick, "small": small, "full": full}[self.size]

    @property
    def turns(self) -> int:
        """How often everything is measured."""
        return self.given_turns or self.pick(quick=2, small=7, full=5)

    @property
    def seconds(self) -> float:
        """How long one turn of a rate takes, about."""
        return self.pick(quick=0.05, small=1.5, full=3.0)

    @property
    def workers(self) -> int:
        """Processes of PyTorch's loader."""
        return min(16, max(2, self.cores))
