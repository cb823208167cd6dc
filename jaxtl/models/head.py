"""The head: what turns pooled features into logits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jaxtl.errors import InputError
from jaxtl.models.layers import Activation, Dropout, Linear, Stack


def make_head(
    in_features: int, num_classes: int, hidden: Iterable[int] = (), drop_rate: float = 0.0
) -> Linear | Stack | None:
    """A head for features (batch, in_features): none for 0 classes, one linear layer, or an MLP.

    An MLP is a ``Stack`` of linear layers with a ReLU and, with a ``drop_rate``, dropout between them, numbered as in a
    torch ``Sequential``.

    Args:
        in_features: width of the features.
        num_classes: width of the logits.
        hidden: widths of the hidden layers.
        drop_rate: dropout behind each ReLU, in training.

    >>> mlp = make_head(64, 5, hidden=(32,))
    >>> mlp.length, getattr(mlp, "0").kernel.shape, getattr(mlp, "2").kernel.shape
    (3, (64, 32), (32, 5))
    """
    if not num_classes:
        return None
    widths = [in_features, *hidden]
    if len(widths) == 1:
        return Linear(in_features, num_classes)
    layers: list[Any] = []
    for i in range(len(widths) - 1):
        layers += [Linear(widths[i], widths[i + 1]), Activation("relu")]
        layers += [Dropout(drop_rate)] if drop_rate else []
    return Stack(*layers, Linear(widths[-1], num_classes))


def hidden_widths(given: Any) -> tuple[int, ...]:
    """The option ``head`` of ``jaxtl.load``, checked.

    Raises:
        InputError: what is no run of whole numbers from 1 on.

    >>> hidden_widths([512, 256])
    (512, 256)
    """
    fits = isinstance(given, list | tuple) and all(
        isinstance(width, int) and not isinstance(width, bool) and width > 0 for width in given
    )
    if not fits:
        raise InputError(f"head must be the widths of the head's hidden layers, as in head=(512,), not {given!r}")
    return tuple(given)
