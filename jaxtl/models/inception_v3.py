"""Inception v3, by timm's names.

Szegedy et al., https://arxiv.org/abs/1512.00567. Some of its weights are trained on adversarial examples
(https://arxiv.org/abs/1611.01236).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxtl.models import init, registry
from jaxtl.models.convolution import Pair
from jaxtl.models.evonorm import BatchNormAct
from jaxtl.models.head import make_head
from jaxtl.models.layers import Conv, Dropout
from jaxtl.models.network import Network, stages_until
from jaxtl.models.pooling import AvgPool, MaxPool

_Branch = tuple[tuple[Any, ...], ...]


class ConvNormAct(nnx.Module):
    """Convolution, batch normalisation, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        act_layer: str,
        *,
        stride: int = 1,
        padding: int | Pair | None = None,
    ):
        self.conv = Conv(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            bias=False,
            kernel_init=init.Normal(0.1),
        )
        self.bn = BatchNormAct(out_channels, act_layer, eps=1e-3)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.bn(self.conv(x))


class Mixed(nnx.Module):
    """Branches of convolutions beside each other and one of pooling, their outputs joined.

    Args:
        in_channels: channels that come in.
        branches: timm's name without "branch" -> its convolutions, one after the other: (width, kernel), or (width,
            kernel, kernel) for two that see the same and are joined.
        pool_width: width of the 1x1 convolution behind an average pooling; 0: a max-pooling instead, and it and the
            last convolution of each branch halve the maps.
        act_layer: the activation.
    """

    def __init__(self, in_channels: int, branches: Mapping[str, _Branch], pool_width: int, act_layer: str):
        self.paths: tuple[tuple[tuple[str, ...], ...], ...] = ()
        self.out_channels = pool_width or in_channels
        for branch, steps in branches.items():
            width, path = in_channels, []
            for i, (out_width, *kernels) in enumerate(steps, start=1):
                number = f"_{i}" if len(steps) > 1 else ""
                names = [f"branch{branch}{number}{letter}" for letter in ("ab" if len(kernels) > 1 else ("",))]
                strided = not pool_width and i == len(steps)
                for name, kernel in zip(names, kernels, strict=True):
                    options = {"stride": 2, "padding": 0} if strided else {}
                    setattr(self, name, ConvNormAct(width, out_width, kernel, act_layer, **options))
                width = out_width
                path.append(tuple(names))
            self.out_channels += width * len(names)
            self.paths += (tuple(path),)
        self.pool = AvgPool(3, 1, 1) if pool_width else MaxPool(3, 2)
        self.branch_pool = ConvNormAct(in_channels, pool_width, 1, act_layer) if pool_width else None

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        outputs = []
        for path in self.paths:
            y = x
            for names in path:
                y = jnp.concatenate([getattr(self, name)(y) for name in names], -1)
            outputs.append(y)
        pooled = self.pool(x)
        outputs.append(pooled if self.branch_pool is None else self.branch_pool(pooled))
        return jnp.concatenate(outputs, -1)


_ROW, _COLUMN = (1, 7), (7, 1)
_CROSS = ((1, 3), (3, 1))
_DOUBLE = ((64, 1), (96, 3), (96, 3))
_FIVE: dict[str, _Branch] = {"1x1": ((64, 1),), "5x5": ((48, 1), (64, 5)), "3x3dbl": _DOUBLE}
_SEVEN: dict[str, _Branch] = {
    "1x1": ((320, 1),),
    "3x3": ((384, 1), (384, *_CROSS)),
    "3x3dbl": ((448, 1), (384, 3), (384, *_CROSS)),
}


def _six(width: int) -> dict[str, _Branch]:
    narrow = [(width, kernel) for kernel in (_COLUMN, _ROW, _COLUMN)]
    return {
        "1x1": ((192, 1),),
        "7x7": ((width, 1), (width, _ROW), (192, _COLUMN)),
        "7x7dbl": ((width, 1), *narrow, (192, _ROW)),
    }


_MIXED: dict[str, tuple[dict[str, _Branch], int]] = {
    "Mixed_5b": (_FIVE, 32),
    "Mixed_5c": (_FIVE, 64),
    "Mixed_5d": (_FIVE, 64),
    "Mixed_6a": ({"3x3": ((384, 3),), "3x3dbl": _DOUBLE}, 0),
    "Mixed_6b": (_six(128), 192),
    "Mixed_6c": (_six(160), 192),
    "Mixed_6d": (_six(160), 192),
    "Mixed_6e": (_six(192), 192),
    "Mixed_7a": (
        {"3x3": ((192, 1), (320, 3)), "7x7x3": ((192, 1), (192, _ROW), (192, _COLUMN), (192, 3))},
        0,
    ),
    "Mixed_7b": (_SEVEN, 192),
    "Mixed_7c": (_SEVEN, 192),
}
"""Name -> branches, and the width behind the pooling."""

_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Pool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "Pool2")


class InceptionV3(Network):
    """The network. Stages: ``stem``, ``Mixed_5`` (timm's ``Mixed_5b`` to ``Mixed_5d``), ``Mixed_6``, ``Mixed_7`` and
    ``fc``.

    Images have at least 75 pixels on each side. The auxiliary classifier of the original training is not there, as in
    timm.

    Args:
        num_classes, in_chans, until, drop_rate, head: see ``jaxtl.models.registry.build``.
        drop_path_rate: without effect: there are no residual branches.
        act_layer: a name in ``jaxtl.models.layers.ACTIVATIONS``.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        head: tuple[int, ...] = (),
        act_layer: str = "relu",
    ):
        self.num_classes = num_classes
        self.stages = stages_until(("stem", "Mixed_5", "Mixed_6", "Mixed_7", "fc"), until)

        self.Conv2d_1a_3x3 = ConvNormAct(in_chans, 32, 3, act_layer, stride=2, padding=0)
        self.Conv2d_2a_3x3 = ConvNormAct(32, 32, 3, act_layer, padding=0)
        self.Conv2d_2b_3x3 = ConvNormAct(32, 64, 3, act_layer)
        self.Pool1 = MaxPool(3, 2)
        self.Conv2d_3b_1x1 = ConvNormAct(64, 80, 1, act_layer)
        self.Conv2d_4a_3x3 = ConvNormAct(80, 192, 3, act_layer, padding=0)
        self.Pool2 = MaxPool(3, 2)
        width = 192
        for stage in self.stages[1:-1]:
            for name in _mixed_of(stage):
                branches, pool_width = _MIXED[name]
                block = Mixed(width, branches, pool_width, act_layer)
                setattr(self, name, block)
                width = block.out_channels

        self.num_features = width
        self.head_drop = Dropout(drop_rate)
        self.fc = make_head(width, num_classes, head, drop_rate)

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        mixed = {stage: _mixed_of(stage) for stage in self.stages[1:-1]}
        return super().stage_modules | {"stem": _STEM} | mixed

    @property
    def block_steps(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """As everywhere, but that each ``Mixed`` is a block."""
        stem, *mixed, fc = self.stage_modules.items()
        return (stem, *((name, (name,)) for _, names in mixed for name in names), fc)

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "fc":
            return self.classify(self.pool(x), rngs)
        for module in self.stage_modules[name]:
            x = getattr(self, module)(x, rngs)
        return x

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        pooled = self.head_drop(pooled, rngs)
        return pooled if self.fc is None else self.fc(pooled, rngs)


def _mixed_of(stage: str) -> tuple[str, ...]:
    return tuple(name for name in _MIXED if name.startswith(stage))


ARCHITECTURES: dict[str, dict] = {"inception_v3": {}}

registry.register(InceptionV3, ARCHITECTURES)
