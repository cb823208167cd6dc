"""The head: what turns pooled features into logits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
from flax import nnx

from jaxtl.errors import InputError
from jaxtl.models import init
from jaxtl.models.layers import Activation, Dropout, Linear, Stack, param


class PointwiseLinear(Linear):
    """A linear layer whose kernel has the axes of a 1x1 convolution, (1, 1, in, out), because weights are stored so."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.kernel = param((1, 1, in_features, out_features), init.FanInUniform(in_features))


class ClassifierHead(nnx.Module):
    """What timm keeps under ``head``: the layer ``fc``."""

    def __init__(self, fc: Linear | Stack | None):
        self.fc = fc

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return x if self.fc is None else self.fc(x, rngs)


def make_head(
    in_features: int, num_classes: int, hidden: Iterable[int] = (), drop_rate: float = 0.0, *, pointwise: bool = False
) -> Linear | Stack | None:
    """A head for features (batch, in_features): none for 0 classes, one linear layer, or an MLP.

    An MLP is a ``Stack`` of linear layers with a ReLU and, with a ``drop_rate``, dropout between them, numbered as in a
    torch ``Sequential``.

    Args:
        in_features: width of the features.
        num_classes: width of the logits.
        hidden: widths of the hidden layers.
        drop_rate: dropout behind each ReLU, in training.
        pointwise: the one linear layer is a ``PointwiseLinear``; the layers of an MLP never are.

    >>> mlp = make_head(64, 5, hidden=(32,))
    >>> mlp.length, getattr(mlp, "0").kernel.shape, getattr(mlp, "2").kernel.shape
    (3, (64, 32), (32, 5))
    """
    if not num_classes:
        return None
    widths = [in_features, *hidden]
    if len(widths) == 1:
        return PointwiseLinear(in_features, num_classes) if pointwise else Linear(in_features, num_classes)
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
