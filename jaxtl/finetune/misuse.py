"""What is allowed and seldom meant: said before the first step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxtl.data.bands import is_grey
from jaxtl.data.dataset import Data
from jaxtl.data.problems import shown
from jaxtl.data.sources import in_colour
from jaxtl.finetune.batch_norm import modes_of, small_batch_warning
from jaxtl.finetune.from_recipe import make_groups
from jaxtl.finetune.labels import FROZEN, groups_of
from jaxtl.finetune.phases import span_of, trained_groups
from jaxtl.model import Model
from jaxtl.recipe import LARS, SGD, Adafactor, AnyOptimizer, Lion, Muon, Recipe

_LOOKED_AT = 16
_FEW_A_CLASS = 2
_FAR = 30.0


def warnings_for(model: Model, data: Data, recipe: Recipe) -> list[str]:
    """One sentence for each thing that a run is likely not meant to do."""
    return [
        *_rates(model, recipe),
        *_preprocessing(model),
        *_colour(model, data),
        *_everything(model, data, recipe),
        *_balanced_twice(data, recipe),
        *_numbers_far_from_one(data, recipe),
        *_small_batches(model, recipe),
    ]


def survivable(entry: AnyOptimizer) -> float:
    """The rate above which pretrained weights are usually lost.

    Rules of thumb: five to ten times what published fine-tuning recipes give to the body.
    """
    match entry:
        case SGD():
            return 0.5 * (1 - entry.momentum)
        case LARS():
            return 10.0
        case Lion():
            return 3e-4
        case Muon():
            return 2e-2
        case Adafactor():
            return 1e-2
    return 1e-3


def _rates(model: Model, recipe: Recipe) -> Iterator[str]:
    if not model.pretrained:
        return
    groups = make_groups(recipe, model)
    body = {group for path, group in groups_of(model.params, groups.label).items() if not model.graph.in_head(path)}
    worst: dict[str, float] = {}
    for number, phase in enumerate(recipe.all_phases):
        for group in trained_groups(recipe, phase):
            scale = max((s for g, (base, s) in groups.scales.items() if base == group and g in body), default=0.0)
            worst[group] = max(worst.get(group, 0.0), scale * span_of(recipe, group, number).peak)
    for group, rate in worst.items():
        limit = survivable(recipe.optimizer[group])
        if rate > limit:
            yield (
                f"the rate {rate:g} of the group {group!r} is above {limit:g}, which pretrained weights seldom survive "
                f"with {recipe.optimizer[group].name}: lower optimizer.{group}.lr"
            )


def _preprocessing(model: Model) -> Iterator[str]:
    own = model.loaded_preprocess
    if not model.pretrained or own is None:
        return
    own = own.with_channels(model.preprocess.channels)
    for name in ("mean", "std", "interpolation"):
        used, meant = getattr(model.preprocess, name), getattr(own, name)
        if used != meant:
            yield f"{name} is {used}, and {model.name} was trained with {meant}: keep the preprocessing that load gives"


def _colour(model: Model, data: Data) -> Iterator[str]:
    if model.preprocess.channels not in (1, 3):
        return
    count = min(_LOOKED_AT, len(data.train))
    places = [number * len(data.train) // count for number in range(count)]
    coloured = sum(not is_grey(np.asarray(in_colour(data.train, place))) for place in places)
    if model.preprocess.channels == 3 and not coloured:
        yield f"{data.name} holds greyscale images and {model.name} takes three channels: each is repeated three times"
    if model.preprocess.channels == 1 and coloured:
        yield (
            f"{coloured} of {count} images of {data.name} are in colour and {model.name} takes one channel: they "
            "become grey; load it with in_chans=3 (model.in_chans=3) to keep the colours"
        )


def _everything(model: Model, data: Data, recipe: Recipe) -> Iterator[str]:
    groups = groups_of(model.params, make_groups(recipe, model).label).values()
    a_class = len(data.train) / len(data.classes)
    if model.pretrained and FROZEN not in groups and a_class < _FEW_A_CLASS:
        yield (
            f"nothing is frozen and there are {a_class:.1f} training images a class: train the head alone "
            "(strategy: features), or the network learns these images by heart"
        )


def _balanced_twice(data: Data, recipe: Recipe) -> Iterator[str]:
    if recipe.class_weights == "balanced" and data.sampling == "balanced":
        yield (
            "class_weights and data.sampling are both balanced: classes with few images already come as often as the "
            "others, and weights make up for it once more; use one of the two"
        )


def _numbers_far_from_one(data: Data, recipe: Recipe) -> Iterator[str]:
    if recipe.loss.name != "mse":
        return
    labels = np.asarray(data.train.labels, np.float64).reshape(len(data.train), -1)
    far = [
        f"{name} (mean {mean:.4g}, standard deviation {spread:.4g})"
        for name, mean, spread in zip(data.classes, labels.mean(0), labels.std(0), strict=True)
        if abs(mean) > _FAR or spread > _FAR or 0 < spread < 1 / _FAR
    ]
    if far:
        yield (
            f"the training numbers of {shown(far)} are far from 1, and from answers near 0 the usual rates hardly lead "
            "to them: write (number - mean) / standard deviation into the data, and turn answers back with the same two"
        )


def _small_batches(model: Model, recipe: Recipe) -> Iterator[str]:
    groups = groups_of(model.params, make_groups(recipe, model).label)
    warning = small_batch_warning(
        modes_of(model.graph, groups, recipe.batch_norm), recipe.batch_size // recipe.accumulate
    )
    if warning:
        yield warning
