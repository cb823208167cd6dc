"""The ResNets of He et al. for 32x32 images, section 4.2 of https://arxiv.org/abs/1512.03385.

A 3x3 convolution to 16 channels, three stages of basic blocks with 16, 32 and 64, and a linear head. Shortcuts have no
parameters: between stages they take every second pixel and pad the channels with zeros ("option A").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxtl.models import registry
from jaxtl.models.head import make_head
from jaxtl.models.layers import BatchNorm, Conv, Dropout, DropPath, Stack
from jaxtl.models.network import Network, stages_until
from jaxtl.models.relu import relu

_WIDTHS = (16, 32, 64)


class _Block(nnx.Module):
    def __init__(self, in_channels: int, channels: int, stride: int, drop_path: float):
        self.conv1 = Conv(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = Conv(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(channels)
        self.drop_path = DropPath(drop_path)
        self.stride = stride
        self.channel_pad = (channels - in_channels) // 2

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        y = relu(self.bn1(self.conv1(x)))
        y = self.drop_path(self.bn2(self.conv2(y)), rngs)
        shortcut = x[:, :: self.stride, :: self.stride]
        shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (self.channel_pad, self.channel_pad)))
        return relu(y + shortcut)


class CifarResNet(Network):
    """The family. Stages: ``stem``, ``layer1`` to ``layer3``, ``fc``; each layer has ``blocks`` blocks."""

    aliases: ClassVar[Mapping[str, str]] = {"linear": "fc"}
    in_timm: ClassVar[bool] = False

    def __init__(
        self,
        *,
        blocks: int,
        num_classes: int = 10,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        head: tuple[int, ...] = (),
    ):
        self.num_classes = num_classes
        self.stages = stages_until(("stem", "layer1", "layer2", "layer3", "fc"), until)
        width = _WIDTHS[0]
        self.conv1 = Conv(in_chans, width, 3, padding=1, bias=False)
        self.bn1 = BatchNorm(width)
        last = len(_WIDTHS) * blocks - 1
        for i, stage in enumerate(self.stages[1:-1]):
            members = []
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                members.append(_Block(width, _WIDTHS[i], stride, drop_path_rate * (i * blocks + j) / last))
                width = _WIDTHS[i]
            setattr(self, stage, Stack(*members))
        self.num_features = width
        self.head_drop = Dropout(drop_rate)
        self.fc = make_head(width, num_classes, head, drop_rate)

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        head = ("fc",) if self.num_classes else ()
        return super().stage_modules | {"stem": ("conv1", "bn1"), "fc": head}

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "stem":
            return relu(self.bn1(self.conv1(x)))
        if name == "fc":
            return self.classify(self.pool(x), rngs)
        return getattr(self, name)(x, rngs)

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        pooled = self.head_drop(pooled, rngs)
        return pooled if self.fc is None else self.fc(pooled, rngs)


ARCHITECTURES = {f"cifar_resnet{6 * blocks + 2}": {"blocks": blocks} for blocks in (3, 5, 7, 9, 18)}

registry.register(CifarResNet, ARCHITECTURES)
