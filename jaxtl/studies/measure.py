"""What a plan measures on training images before anything is trained: linear probes, views, sizes and speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

import jax
import numpy as np
from PIL import Image, ImageOps

from jaxtl.data import sources
from jaxtl.data.augment import preset
from jaxtl.data.bands import Picture, each_band
from jaxtl.data.dataset import Data
from jaxtl.data.preprocess import Preprocess
from jaxtl.data.sources import Source, Subset
from jaxtl.finetune.from_recipe import make_optimizer
from jaxtl.finetune.strategies import expand
from jaxtl.jitted import jit
from jaxtl.model import Model
from jaxtl.recipe import Recipe
from jaxtl.train.features import extract
from jaxtl.train.precision import computed_in
from jaxtl.train.probe import Probe, fit_probe
from jaxtl.train.state import TrainState
from jaxtl.train.step import make_train_step, prepared

FOLDS = 3
STRENGTHS = (1e-3, 1e-2, 1e-1)
_TIMED = 3

View = Callable[[Image.Image], Image.Image]
VIEWS: Mapping[str, View] = {
    "mirrored": ImageOps.mirror,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}


@dataclass(frozen=True)
class Probes:
    """Linear classifiers on frozen features, scored on training images that were held out from them.

    Attributes:
        stages: accuracy (0 to 1) on the pooled output of each body stage, in the network's order.
        images: how many training images took part.
        views: accuracy of the last stage's probe on held-out images as they are, ``"mirrored"`` and ``"turned"`` by
            90 degrees.
    """

    stages: Mapping[str, float]
    images: int
    views: Mapping[str, float] = field(default_factory=dict)

    @property
    def last(self) -> float:
        """On what the head sees."""
        return list(self.stages.values())[-1]

    @property
    def error(self) -> float:
        """The standard error of such an accuracy."""
        return float(np.sqrt(max(self.last * (1 - self.last), 1 / self.images) / self.images))

    @property
    def transferable(self) -> str:
        """The last stage whose features are better than those of all stages before it: where transfer ends."""
        return max(self.stages, key=lambda stage: self.stages[stage])


class _Seen:
    """A source through a view."""

    def __init__(self, source: Source, view: View) -> None:
        self._source = source
        self._view = view
        self.labels = source.labels
        self.names = source.names

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[Picture, int]:
        image, label = self._source[index]
        return each_band(image, self._view), label

    def identity(self, index: int) -> str:
        return self._source.identity(index)


def sample(data: Data, most: int, seed: int) -> Source:
    """So many training images at most, but two of each class where there are two; every class keeps its share."""
    wanted = min(len(data.train), max(most, 2 * len(data.classes)))
    return data.train if wanted == len(data.train) else sources.take(data.train, data.classes, wanted, seed)


def probe_stages(model: Model, data: Data, *, most: int = 512, seed: int = 0) -> Probes:
    """Cross-validates a linear probe on each body stage of a model, and looks at the last one's through two views.

    Args:
        model: the network at the input size that is meant.
        data: opened with this model; only training images are used.
        most: take so many at most.
        seed: of that draw.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20.letters", num_classes=10)
    >>> found = probe_stages(model, jaxtl.open_data("digits", model), most=100)
    >>> found.stages["layer3"] > found.stages["stem"], found.views["mirrored"] < found.views["as they are"]
    (True, True)
    """
    images = sample(data, most, seed)
    body = model.stages[:-1]
    found = extract(model, _only(data, images, model.preprocess), stages=body)
    folds = _folds(found.labels)
    stages = {stage: _accuracy(found[stage], found.labels, len(data.classes), folds) for stage in body}
    views = _views(model, data, images, found[body[-1]], found.labels, folds)
    return Probes(stages, len(images), views)


def probe_size(model: Model, data: Data, preprocess: Preprocess, *, most: int = 300, seed: int = 0) -> float:
    """Cross-validated accuracy (0 to 1) of a linear probe on the last body stage, with another preprocessing."""
    last = model.stages[-2]
    resized = model.replace(preprocess=preprocess)
    found = extract(resized, _only(data, sample(data, most, seed), preprocess), stages=(last,))
    return _accuracy(found[last], found.labels, len(data.classes), _folds(found.labels))


def forward_seconds(model: Model, data: Data, recipe: Recipe, batch_size: int = 32) -> float:
    """Seconds an image that one evaluation pass through the body takes in the precision of a recipe, without reading
    the image."""
    precision = computed_in(recipe)
    batch = np.stack([data.preprocess(data.train[i % len(data.train)][0]) for i in range(batch_size)])
    run = model.graph.remember(
        ("timed forward", model.preprocess, precision),
        lambda: jit(lambda p, s, images: model.graph.features(p, s, prepared(images, model.preprocess, precision))),
    )
    return _median(lambda: run(model.params, model.batch_stats, batch)) / batch_size


def step_seconds(model: Model, data: Data, recipe: Recipe) -> float:
    """Seconds an image that a training step of a recipe takes, reading and augmenting included."""
    expanded = expand(recipe, model.graph)
    optimizer = make_optimizer(expanded, model, data.steps_per_epoch(recipe.batch_size))
    train_step = make_train_step(
        model,
        optimizer,
        loss=expanded.loss,
        label_smoothing=expanded.label_smoothing,
        batch_norm=expanded.batch_norm,
        precision=computed_in(expanded),
    )
    state = TrainState.create(model, optimizer)
    with closing(data.train_batches(recipe.batch_size)) as batches:
        size = len(next(batches)["label"])

        def step() -> jax.Array:
            nonlocal state
            state, metrics = train_step(state, next(batches))
            return metrics["loss"]

        return _median(step) / size


def _median(run: Callable[[], jax.Array]) -> float:
    """Median seconds of some calls behind a first one, which compiles."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(_TIMED):
        begun = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds))


def _only(data: Data, images: Source, preprocess: Preprocess) -> Data:
    return Data(
        name=data.name,
        classes=data.classes,
        train=images,
        val=data.val,
        preprocess=preprocess,
        augment=preset("none"),
        split=data.split,
        threads=data.threads,
    )


def _folds(labels: np.ndarray) -> np.ndarray:
    """The fold of each image, classes spread evenly over the folds; -1, always trained on, for a class's only one."""
    folds = np.full(len(labels), -1)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            folds[members] = np.random.default_rng(int(label)).permutation(np.arange(len(members)) % FOLDS)
    return folds


def _accuracy(features: np.ndarray, labels: np.ndarray, classes: int, folds: np.ndarray) -> float:
    """Over all folds. The strength of the penalty is the fold's own best, alike for everything that is compared."""
    right = 0
    for fold in range(FOLDS):
        held = folds == fold
        if held.any():
            right += _right(features, labels, classes, folds, fold)[1].sum()
    return float(right / max(1, (folds >= 0).sum()))


def _right(
    features: np.ndarray, labels: np.ndarray, classes: int, folds: np.ndarray, fold: int
) -> tuple[Probe, np.ndarray]:
    """The probe that was fitted without a fold, and on which of the fold's images it is right.

    Every fold's probe is fitted to as many images, so that one compiled solver serves them all.
    """
    held, fewest = folds == fold, len(folds) - max(np.bincount(folds[folds >= 0]))
    fitted = np.flatnonzero(~held)
    spare = np.flatnonzero(~held & (folds >= 0))
    left_out = spare[len(spare) - (len(fitted) - fewest) :]
    fitted = np.setdiff1d(fitted, left_out) if _complete(labels, fitted, left_out) else fitted
    probe = fit_probe(
        features[fitted], labels[fitted], classes, val=(features[held], labels[held]), strengths=STRENGTHS
    )
    return probe, probe(features[held]).argmax(1) == labels[held]


def _complete(labels: np.ndarray, fitted: np.ndarray, left_out: np.ndarray) -> bool:
    return set(labels[fitted].tolist()) == set(labels[np.setdiff1d(fitted, left_out)].tolist())


def _views(
    model: Model, data: Data, images: Source, features: np.ndarray, labels: np.ndarray, folds: np.ndarray
) -> dict[str, float]:
    """Accuracy of the first fold's probe on its held-out images, through each view."""
    held = np.flatnonzero(folds == 0)
    if not len(held):
        return {}
    probe, right = _right(features, labels, len(data.classes), folds, 0)
    found = {"as they are": float(right.mean())}
    body = model.stages[:-1]  # all of them: the function that gives them is compiled already
    for name, view in VIEWS.items():
        seen = extract(model, _only(data, _Seen(Subset(images, held), view), model.preprocess), stages=body)
        found[name] = float((probe(seen[body[-1]]).argmax(1) == labels[held]).mean())
    return found
