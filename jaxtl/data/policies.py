"""RandAugment and TrivialAugment: a few changes of an image, drawn from a fixed list.

Cubuk et al., https://arxiv.org/abs/1909.13719; Müller and Hutter, https://arxiv.org/abs/2103.10158. The lists and how
far each change goes are torchvision's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtl.data import colour, tones

LEVELS = 31
"""Strengths are drawn, or given, as one of so many levels from 0 to 30."""
POLICIES = ("randaugment", "trivialaugment")


@dataclasses.dataclass(frozen=True)
class Change:
    """One of a policy's changes.

    Attributes:
        kind: "move" for a field of `jaxtl.data.geometry.Move`, "tone" for what `toned` does.
        name: of the change.
        most: its strength at the highest level.
    """

    kind: str
    name: str
    most: float


def _changes(moves: Mapping[str, float], factor: float, lost_bits: float) -> tuple[Change, ...]:
    factors = ("brightness", "saturation", "contrast", "sharpness")
    return (
        Change("tone", "identity", 0.0),
        *(Change("move", name, most) for name, most in moves.items()),
        *(Change("tone", name, factor) for name in factors),
        Change("tone", "posterize", lost_bits),
        Change("tone", "solarize", 255.0),
        Change("tone", "autocontrast", 0.0),
        Change("tone", "equalize", 0.0),
    )


def changes_of(policy: str) -> tuple[Change, ...]:
    """The changes a policy draws from.

    TrivialAugment shifts images of 224 pixels by up to 32, and here others by the same part of their sides.

    >>> [change.name for change in changes_of("randaugment")][:4]
    ['identity', 'shear_x', 'shear_y', 'shift_x']
    """
    if policy == "randaugment":
        shear, shift, turn, factor, bits = 0.3, 150 / 331, 30.0, 0.9, 4.0
    else:
        shear, shift, turn, factor, bits = 0.99, 32 / 224, 135.0, 0.99, 6.0
    moves = {"shear_x": shear, "shear_y": shear, "shift_x": shift, "shift_y": shift, "rotate": turn}
    return _changes(moves, factor, bits)


def strength(change: Change, level: Any, positive: Any) -> Any:
    """A change's strength at a level from 0 to 30, to one side or the other.

    >>> strength(Change("move", "rotate", 30.0), 15, False)
    -15.0
    """
    return change.most * level / (LEVELS - 1) * (2 * positive - 1)


def toned(xp: Any, pixels: Any, name: str, amount: Any) -> Any:
    """Pixels after a change of tone: float32 (height, width, channels), whole numbers from 0 to 255, in and out.

    >>> import numpy as np
    >>> toned(np, np.full((1, 1, 3), 200, np.float32), "solarize", -255.0)[0, 0].tolist()
    [55.0, 55.0, 55.0]
    """
    if name == "identity":
        return pixels
    if name in colour.CHANGES:
        return colour.CHANGES[name](xp, pixels, 1 + amount)
    if name == "sharpness":
        return tones.sharpness(xp, pixels, 1 + amount)
    if name == "posterize":
        return tones.posterize(xp, pixels, 8 - xp.round(xp.abs(amount)))
    if name == "solarize":
        return tones.solarize(xp, pixels, 255 - xp.abs(amount))
    return {"autocontrast": tones.autocontrast, "equalize": tones.equalize}[name](xp, pixels)
