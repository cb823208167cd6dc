"""How far some images are from those a network was pretrained on, as its BatchNorms see it."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.models.graph import Modes
from jaxtl.train.statistics import pooled_statistics
from jaxtl.trees import flatten

NEAR, FAR = 0.22, 0.45
"""Overall distances below the one are near, from the other on far.

From a ResNet-18 up to layer3, pretrained on ImageNet and its statistics taken again on 250 ImageNet images, at 160
pixels and 256 images: ants and bees (drawn from ImageNet) 0.11, flower photographs 0.17, satellite images 0.59.
"""
_DEAD = 1e-3  # of the layer's median variance: what has less is a channel that hardly reacts to anything


@dataclass(frozen=True)
class LayerDistance:
    """One BatchNorm, medians over its channels.

    Attributes:
        stage: that it belongs to.
        shift: how far the mean moved, in stored standard deviations.
        spread: absolute logarithm of the standard deviation over the stored one.
        distance: root of the sum of the two squares, taken in each channel.
        channels: channels that count; those with hardly any stored variance do not.
    """

    stage: str
    shift: float
    spread: float
    distance: float
    channels: int


@dataclass(frozen=True)
class Distance:
    """``domain_distance``'s answer.

    Attributes:
        model: its name.
        data: what the data was opened from.
        images: how many were looked at.
        by_layer: each BatchNorm by module path, in the order of the network.
        by_stage: mean distance of a stage's BatchNorms, in order; stages without any are left out.
        overall: mean over the stages; 0: the images look to the network like those it was pretrained on.
    """

    model: str
    data: str
    images: int
    by_layer: dict[str, LayerDistance]
    by_stage: dict[str, float]
    overall: float

    @property
    def verdict(self) -> str:
        """``"near"``, ``"medium"`` or ``"far"``: ``overall`` against ``NEAR`` and ``FAR``."""
        return "near" if self.overall < NEAR else "medium" if self.overall < FAR else "far"

    def __str__(self) -> str:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        title = f"{self.data} seen by {self.model}: {self.verdict} ({self.overall:.2f}, {self.images} images)"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("stage")
        for column in ("distance", "mean shift", "spread", "BatchNorms"):
            table.add_column(column, justify="right")
        for stage, distance in self.by_stage.items():
            layers = [layer for layer in self.by_layer.values() if layer.stage == stage]
            shift, spread = (np.mean([getattr(layer, name) for layer in layers]) for name in ("shift", "spread"))
            table.add_row(stage, f"{distance:.3f}", f"{shift:.3f}", f"{spread:.3f}", str(len(layers)))
        text = io.StringIO()
        Console(file=text, width=110).print(table)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def domain_distance(
    model: Model, data: Data, *, batch_size: int = 64, most: int = 512, split: str = "train"
) -> Distance:
    """The distance of some images from those behind the network's stored BatchNorm statistics, without training.

    One pass in evaluation mode measures mean m and variance v of every BatchNorm channel over the images. Against the
    stored mean and variance mu and s2, a channel's distance is ``sqrt(shift**2 + spread**2)`` with
    ``shift = |m - mu| / sqrt(s2 + eps)`` and ``spread = |log((v + eps) / (s2 + eps))| / 2``. For small differences that
    is close to the Fisher-Rao distance of two normal distributions, which weighs the spread by the root of 2 (Costa et
    al. 2015, https://doi.org/10.1016/j.dam.2014.10.004). A layer's distance is the median over its channels, a stage's
    the mean over its layers, the whole the mean over its stages.

    Smaller images than those of pretraining count as distance too: compare data sets at one image size. A few dozen
    images are enough for a verdict. Labels are not looked at, and the classes need not fit.

    Args:
        model: with the statistics of its pretraining, before any training that moves them.
        data: opened with this model.
        batch_size: images per batch at most; the result does not depend on it.
        most: how many images at most, a random sample that is always the same.
        split: ``"train"`` or ``"val"``.

    Raises:
        InputError: a network without BatchNorm, data prepared for another network, an unknown split.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1)
    >>> model = model.replace(preprocess=model.preprocess.replace(size=8))
    >>> distance = domain_distance(model, jaxtl.open_data("digits", model), most=64)
    >>> list(distance.by_stage), distance.overall > 0
    (['stem', 'layer1', 'layer2', 'layer3'], True)
    """
    graph = model.graph
    if not graph.batch_norms:
        raise InputError(f"{model.name} has no BatchNorm, so it has no statistics to measure a distance from")
    modes = Modes(observe=frozenset(graph.batch_norms))
    measured = flatten(pooled_statistics(model, data, modes, batch_size, split, most))
    stored = flatten(model.batch_stats)
    layers: dict[str, LayerDistance] = {}
    for norm in sorted(graph.batch_norms, key=lambda norm: graph.stages.index(graph.stage_of(norm))):
        m, v, mu, s2 = (
            np.asarray(stats[f"{norm}.{name}"], np.float64) for stats in (measured, stored) for name in ("mean", "var")
        )
        layers[norm] = _layer(graph.stage_of(norm), m, v, mu, s2)
    by_stage = {
        stage: float(np.mean([layer.distance for layer in layers.values() if layer.stage == stage]))
        for stage in dict.fromkeys(layer.stage for layer in layers.values())
    }
    return Distance(
        model=model.name,
        data=data.name,
        images=min(most, len(data.train if split == "train" else data.val)),
        by_layer=layers,
        by_stage=by_stage,
        overall=float(np.mean(list(by_stage.values()))),
    )


def _layer(
    stage: str, m: np.ndarray, v: np.ndarray, mu: np.ndarray, s2: np.ndarray, eps: float = 1e-5
) -> LayerDistance:
    alive = s2 >= _DEAD * np.median(s2)
    m, v, mu, s2 = m[alive], v[alive], mu[alive], s2[alive]
    shift = np.abs(m - mu) / np.sqrt(s2 + eps)
    spread = np.abs(np.log((v + eps) / (s2 + eps))) / 2
    return LayerDistance(
        stage,
        shift=float(np.median(shift)),
        spread=float(np.median(spread)),
        distance=float(np.median(np.hypot(shift, spread))),
        channels=int(alive.sum()),
    )
