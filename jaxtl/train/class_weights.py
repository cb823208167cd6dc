"""Class weights of a recipe, from the training images."""

from __future__ import annotations

from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.train.losses import balanced_weights


def class_weights(given: tuple[float, ...] | str | None, data: Data) -> tuple[float, ...] | None:
    """A weight for each class: as given, or for ``"balanced"`` inverse to the class's share of the training images.

    Raises:
        InputError: not as many weights as classes.

    >>> from jaxtl.data.open import open_data
    >>> from jaxtl.data.preprocess import Preprocess
    >>> data = open_data("digits", Preprocess(size=8, mean=(0.5,), std=(0.5,)))
    >>> [round(weight, 2) for weight in class_weights("balanced", data)[:3]]
    [1.01, 0.98, 1.01]
    """
    if given is None:
        return None
    if isinstance(given, str):
        return balanced_weights(data.train.labels, len(data.classes))
    if len(given) != len(data.classes):
        raise InputError(
            f"class_weights has {len(given)} numbers and {data.name} has {len(data.classes)} classes: "
            f"give one for each of {', '.join(data.classes)}"
        )
    return given
