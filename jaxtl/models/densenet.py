"""DenseNets: every layer sees the outputs of all layers before it, by timm's names.

Huang et al., https://arxiv.org/abs/1608.06993; the anti-aliased one: Zhang, https://arxiv.org/abs/1904.11486.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.evonorm import BatchNormAct
from jaxtl.models.head import make_head
from jaxtl.models.layers import Conv, Dropout, Stack
from jaxtl.models.network import Network, stages_until
from jaxtl.models.pooling import AvgPool, BlurPool, MaxPool

_STEMS = ("", "deep", "deep_tiered", "deep_tiered_narrow")


def _fan_in_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / math.prod(shape[:-1])))


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> Conv:
    return Conv(
        in_channels, out_channels, kernel_size, stride=stride, padding=None, bias=False, kernel_init=_fan_in_normal
    )


class DenseLayer(nnx.Module):
    """1x1 and 3x3 convolution, each behind its normalisation; the result is joined to what came in."""

    def __init__(self, in_channels: int, hidden: int, growth_rate: int, act_layer: str, drop_rate: float):
        self.norm1 = BatchNormAct(in_channels, act_layer)
        self.conv1 = _conv(in_channels, hidden, 1)
        self.norm2 = BatchNormAct(hidden, act_layer)
        self.conv2 = _conv(hidden, growth_rate, 3)
        self.drop = Dropout(drop_rate)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        new = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        return jnp.concatenate((x, self.drop(new, rngs)), -1)


class DenseNet(Network):
    """The family. Stages: ``stem``, ``features.denseblock1`` to ``features.denseblock4``, ``features.norm5``,
    ``classifier``.

    The transition that narrows and halves the maps between two dense blocks belongs to the second.

    Args:
        growth_rate: channels that each layer adds; the stem has twice as many.
        block_config: number of layers in each dense block.
        num_classes, in_chans, until, drop_rate, head: see ``jaxtl.models.registry.build``.
        drop_path_rate: without effect: there are no residual branches.
        bn_size: width of a layer's 1x1 convolution in parts of ``growth_rate``.
        stem_type: ``""``: one 7x7 convolution; ``"deep"``: three 3x3 of widths g, g, 2g where g is ``growth_rate``;
            ``"deep_tiered"``: 3g/4, 3g/2, 2g; ``"deep_tiered_narrow"``: 3g/4, 2g, 2g.
        act_layer: a name in ``jaxtl.models.layers.ACTIVATIONS``.
        aa_layer: ``None`` or ``"blur"``: what takes the stride behind the stem's max-pooling.
        aa_stem_only: if not, it also takes the place of the average pooling in transitions.
        proj_drop_rate: dropout of what each layer adds, in training.

    Raises:
        InputError: for another ``stem_type``, ``aa_layer`` or ``act_layer``.
    """

    def __init__(
        self,
        *,
        growth_rate: int = 32,
        block_config: tuple[int, ...] = (6, 12, 24, 16),
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        head: tuple[int, ...] = (),
        bn_size: int = 4,
        stem_type: str = "",
        act_layer: str = "relu",
        aa_layer: str | None = None,
        aa_stem_only: bool = True,
        proj_drop_rate: float = 0.0,
    ):
        if stem_type not in _STEMS:
            raise InputError(f"stem_type is {stem_type!r}; a DenseNet's can be {', '.join(map(repr, _STEMS))}")
        if aa_layer not in (None, "blur"):
            raise InputError(f"aa_layer is {aa_layer!r}; a DenseNet's can be None or 'blur'")
        self.num_classes = num_classes
        dense = tuple(f"features.denseblock{i + 1}" for i in range(len(block_config)))
        self.stages = stages_until(("stem", *dense, "features.norm5", "classifier"), until)

        layers = _stem(in_chans, growth_rate, stem_type, act_layer, aa_layer)
        self.stem_layers = tuple(layers)
        width = 2 * growth_rate
        for i, (stage, length) in enumerate(zip(dense, block_config, strict=True)):
            if stage not in self.stages:
                break
            if i > 0:
                pool = AvgPool(2) if aa_layer is None or aa_stem_only else BlurPool(2)
                layers[f"transition{i}"] = Stack(
                    norm=BatchNormAct(width, act_layer), conv=_conv(width, width // 2, 1), pool=pool
                )
                width //= 2
            members = {}
            for j in range(length):
                members[f"denselayer{j + 1}"] = DenseLayer(
                    width, bn_size * growth_rate, growth_rate, act_layer, proj_drop_rate
                )
                width += growth_rate
            layers[f"denseblock{i + 1}"] = Stack(**members)
        if "features.norm5" in self.stages:
            layers["norm5"] = BatchNormAct(width, act_layer)
        self.features = Stack(**layers)
        self.num_features = width
        self.head_drop = Dropout(drop_rate)
        self.classifier = make_head(width, num_classes, head, drop_rate)

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        modules = super().stage_modules | {"stem": tuple(f"features.{name}" for name in self.stem_layers)}
        for i, stage in enumerate(self.stages[2:-1], start=1):
            if stage != "features.norm5":
                modules[stage] = (f"features.transition{i}", stage)
        return modules

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "classifier":
            return self.classify(self.pool(x), rngs)
        for path in self.stage_modules[name]:
            x = getattr(self.features, path.removeprefix("features."))(x, rngs)
        return x

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        pooled = self.head_drop(pooled, rngs)
        return pooled if self.classifier is None else self.classifier(pooled, rngs)


def _stem(
    in_chans: int, growth_rate: int, stem_type: str, act_layer: str, aa_layer: str | None
) -> dict[str, nnx.Module]:
    """timm's name -> layer, in order; the last has twice ``growth_rate`` channels."""
    g = growth_rate
    widths = {
        "": (2 * g,),
        "deep": (g, g, 2 * g),
        "deep_tiered": (3 * (g // 4), 6 * (g // 4), 2 * g),
        "deep_tiered_narrow": (3 * (g // 4), 2 * g, 2 * g),
    }[stem_type]
    layers: dict[str, nnx.Module] = {}
    for i, (before, width) in enumerate(zip((in_chans, *widths), widths, strict=False)):
        layers[f"conv{i}"] = _conv(before, width, 3 if stem_type else 7, stride=1 if i else 2)
        layers[f"norm{i}"] = BatchNormAct(width, act_layer)
    layers["pool0"] = MaxPool(3, 2, 1) if aa_layer is None else Stack(MaxPool(3, 1, 1), BlurPool(2))
    return layers


ARCHITECTURES: dict[str, dict] = {
    "densenet121": {},
    "densenet161": {"growth_rate": 48, "block_config": (6, 12, 36, 24)},
    "densenet169": {"block_config": (6, 12, 32, 32)},
    "densenet201": {"block_config": (6, 12, 48, 32)},
    "densenet264d": {"growth_rate": 48, "block_config": (6, 12, 64, 48), "stem_type": "deep"},
    "densenetblur121d": {"stem_type": "deep", "aa_layer": "blur"},
}

registry.register(DenseNet, ARCHITECTURES)
