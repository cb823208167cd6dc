"""Where the features that a phase trains on are kept: on disk, in the host's memory, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtl.data.dataset import Data
from jaxtl.recipe import Recipe
from jaxtl.train.feature_cache import FixedPart, is_on_disk, variant


@dataclass(frozen=True)
class Lack:
    """What of a phase's features is not on disk yet.

    Attributes:
        arrays: bytes of each array, one a split and variant.
        found: whether others are there.

    >>> [Lack((2, 8), found=False).place(room) for room in (10, 5, 1)]
    ['disk', 'both', 'memory']
    """

    arrays: tuple[int, ...]
    found: bool

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(self.arrays)

    def place(self, room: int) -> str:
        """Where the features are kept if the disk has room for so many bytes: ``disk``, ``memory`` or ``both``."""
        if self.size <= room:
            return "disk"
        return "both" if self.found or min(self.arrays) <= room else "memory"


def lack(part: FixedPart, data: Data, recipe: Recipe, views: int, row: int, *, look: bool) -> Lack:
    """What of the features of a part is not on disk yet.

    Args:
        part: the network up to the stage in question.
        data: of the run.
        recipe: of the run.
        views: variants of each training image.
        row: bytes of one image's features.
        look: for what is there; else nothing counts as there.
    """
    arrays = {("train", variant(data, view)): len(data.train) * row for view in range(views)}
    arrays["val", None] = len(data.val) * row
    if not look:
        return Lack(tuple(arrays.values()), found=False)
    how: dict[str, Any] = {"seed": recipe.seed, "batch_size": recipe.eval_batch_size, "part_key": part.key()}
    lacking = tuple(
        size for (split, view), size in arrays.items() if not is_on_disk(part, data, split, view=view, **how)
    )
    return Lack(lacking, found=len(lacking) < len(arrays))
