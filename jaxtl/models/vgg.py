"""VGG: 3x3 convolutions in a row, by timm's names.

Simonyan and Zisserman, https://arxiv.org/abs/1409.1556; where the name ends in ``_bn``, with batch normalisation
(https://arxiv.org/abs/1502.03167).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtl.errors import InputError
from jaxtl.models import init, registry
from jaxtl.models.head import make_head
from jaxtl.models.layers import Activation, BatchNorm, Conv, Dropout, Stack, param
from jaxtl.models.network import Network, stages_until
from jaxtl.models.pooling import MaxPool

_CLASSIFIER_WIDTH = 4096
_CLASSIFIER_KERNEL = 7


def _conv(in_channels: int, out_channels: int, kernel_size: int, padding: int = 0) -> Conv:
    conv = Conv(in_channels, out_channels, kernel_size, padding=padding)
    conv.bias = param((out_channels,), init.zeros)
    return conv


def adaptive_average(x: jax.Array, height: int, width: int) -> jax.Array:
    """torch's ``adaptive_avg_pool2d``: averages over as many windows as asked for, which may overlap.

    >>> adaptive_average(jnp.arange(2.0).reshape(1, 1, 2, 1), 1, 3).ravel().tolist()
    [0.0, 0.5, 1.0]
    """
    rows, columns = (
        jnp.asarray(_windows(size, count), x.dtype) for size, count in zip(x.shape[1:3], (height, width), strict=True)
    )
    return jnp.einsum("rh,bhwc,kw->brkc", rows, x, columns)


def _windows(size: int, count: int) -> np.ndarray:
    """(count, size): the weight of each place in each window."""
    window, place = np.arange(count)[:, None], np.arange(size)
    inside = (place >= window * size // count) & (place < -(-(window + 1) * size // count))
    return inside / inside.sum(1, keepdims=True)


class ConvMlp(nnx.Module):
    """VGG's two wide layers as convolutions, 7x7 and 1x1; a smaller map is spread to 7x7 first."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, drop_rate: float):
        self.fc1 = _conv(in_channels, hidden, _CLASSIFIER_KERNEL)
        self.act1 = Activation("relu")
        self.drop = Dropout(drop_rate)
        self.fc2 = _conv(hidden, out_channels, 1)
        self.act2 = Activation("relu")

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        height, width = (max(size, _CLASSIFIER_KERNEL) for size in x.shape[1:3])
        if (height, width) != x.shape[1:3]:
            x = adaptive_average(x, height, width)
        x = self.drop(self.act1(self.fc1(x)), rngs)
        return self.act2(self.fc2(x))


class _Head(nnx.Module):
    def __init__(self, in_features: int, num_classes: int, hidden: tuple[int, ...], drop_rate: float):
        self.drop = Dropout(drop_rate)
        self.fc = make_head(in_features, num_classes, hidden, drop_rate)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = self.drop(x, rngs)
        return x if self.fc is None else self.fc(x, rngs)


class VGG(Network):
    """The family. Stages: ``stem``, ``stage1`` to ``stage4``, ``pre_logits``, ``head.fc``.

    timm has all convolutions in one row, ``features``; a stage is a run of them with the max-pooling that ends it, the
    stem the first run. ``pre_logits`` are the two wide layers between the maps and the head.

    Args:
        widths: of the convolutions, a tuple for each run.
        num_classes, in_chans, until, drop_rate, head: see ``jaxtl.models.registry.build``; ``drop_rate`` is also the
            dropout between the two wide layers.
        drop_path_rate: without effect: there are no residual branches.
        norm_layer: ``"batchnorm"`` behind each convolution, or ``None``.
        mlp_ratio: width of the first wide layer in parts of the second, which has 4096.

    Raises:
        InputError: for another ``norm_layer``.
    """

    def __init__(
        self,
        *,
        widths: tuple[tuple[int, ...], ...],
        num_classes: int = 1000,
        in_chans: int = 3,
        until: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        head: tuple[int, ...] = (),
        norm_layer: str | None = None,
        mlp_ratio: float = 1.0,
    ):
        if norm_layer not in (None, "batchnorm"):
            raise InputError(f"norm_layer is {norm_layer!r}; a VGG's can be None or 'batchnorm'")
        runs = ("stem", *(f"stage{i}" for i in range(1, len(widths))))
        self.stages = stages_until((*runs, "pre_logits", "head.fc"), until)
        self.num_classes = num_classes

        layers: list[nnx.Module] = []
        self.run_ends: tuple[int, ...] = ()
        width = in_chans
        for stage, run in zip(runs, widths, strict=True):
            if stage not in self.stages:
                break
            for out_width in run:
                norms = [BatchNorm(out_width)] if norm_layer else []
                layers += [_conv(width, out_width, 3, padding=1), *norms, Activation("relu")]
                width = out_width
            layers.append(MaxPool(2))
            self.run_ends += (len(layers),)
        self.features = Stack(*layers)
        if "pre_logits" in self.stages:
            self.pre_logits = ConvMlp(width, int(_CLASSIFIER_WIDTH * mlp_ratio), _CLASSIFIER_WIDTH, drop_rate)
            width = _CLASSIFIER_WIDTH
        self.num_features = width
        self.head = _Head(width, num_classes, head, drop_rate)

    def _run(self, stage: str) -> range:
        """The numbers in ``features`` of a stage's layers."""
        i = self.stages.index(stage)
        return range(self.run_ends[i - 1] if i else 0, self.run_ends[i])

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        runs = self.stages[: len(self.run_ends)]
        return super().stage_modules | {stage: tuple(f"features.{i}" for i in self._run(stage)) for stage in runs}

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if name == "head.fc":
            return self.classify(self.pool(x), rngs)
        if name == "pre_logits":
            return self.pre_logits(x, rngs)
        for i in self._run(name):
            x = self.features.run_child(i, x, rngs)
        return x

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.head(pooled, rngs)


_WIDTHS: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg11": ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg13": ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}

ARCHITECTURES: dict[str, dict] = {
    **{name: {"widths": widths} for name, widths in _WIDTHS.items()},
    **{f"{name}_bn": {"widths": widths, "norm_layer": "batchnorm"} for name, widths in _WIDTHS.items()},
}

registry.register(VGG, ARCHITECTURES)
