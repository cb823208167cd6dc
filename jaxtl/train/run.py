"""A run from a recipe alone: loads the model, opens the data, trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtl.data.augment import Augment
from jaxtl.data.dataset import Data
from jaxtl.data.open import open_data
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError
from jaxtl.finetune.from_recipe import make_optimizer
from jaxtl.finetune.optimizer import Optimizer
from jaxtl.finetune.strategies import expand
from jaxtl.model import Model
from jaxtl.notices import say
from jaxtl.pretrained.load import load
from jaxtl.recipe import Augment as AugmentRanges
from jaxtl.recipe import DataSection, Recipe
from jaxtl.train.fine_tune import Result, fine_tune
from jaxtl.train.fits import check_batches, check_fits
from jaxtl.train.fitted import check_fittable
from jaxtl.train.task import check_task, with_task
from jaxtl.train.written import check_output

_CHOICE = (
    "path_column",
    "label_column",
    "group_column",
    "split_column",
    "label_separator",
    "task",
    "value_range",
    "val_fraction",
    "folds",
    "fold",
    "split_file",
    "train_samples",
)


@dataclass(frozen=True)
class Prepared:
    """What a recipe means, before the first step."""

    model: Model
    data: Data
    recipe: Recipe
    """With the strategy written out."""
    optimizers: tuple[Optimizer, ...]
    """One for each phase."""


def prepare(recipe: Recipe) -> Prepared:
    """The model with a head for the data's classes, the data with the model's preprocessing, and the optimizer.

    The head is that of the weights where these name the same classes, as those of a run do; any other is new.

    Raises:
        InputError: sections that are missing, or whatever model, data and groups find wrong.
    """
    given, recipe = recipe, with_task(recipe)
    network, images = recipe.require("model"), recipe.require("data")
    unsized = Preprocess(size=(32, 32)).with_channels(network.in_chans or 3)
    try:
        found = open_data(images.source, unsized, **how_opened(images, recipe.seed))
    except InputError:
        if recipe is not given:  # perhaps the labels are fine, and no numbers
            as_they_are = how_opened(given.require("data"), recipe.seed)
            check_task(given, open_data(images.source, unsized, **as_they_are))
        raise
    check_task(recipe, found)
    rates = {"drop_rate": network.drop_rate, "drop_path_rate": network.drop_path_rate}
    model = load(
        network.name,
        weights=None if recipe.strategy == "scratch" else network.weights,
        classes=found.classes,
        until=network.until,
        seed=recipe.seed,
        in_chans=network.in_chans,
        **{name: rate for name, rate in rates.items() if rate is not None},
        **({"head": network.head} if network.head else {}),
        **({"remat": True} if network.remat else {}),
        **({"img_size": images.size} if images.size is not None else {}),
    )
    if images.crop_pct is not None:
        model = model.replace(preprocess=model.preprocess.replace(crop_pct=images.crop_pct))
    augment = images.augment
    data = open_data(
        images.source,
        model,
        augment=Augment(**augment.model_dump()) if isinstance(augment, AugmentRanges) else augment,
        train_size=images.train_size,
        storage=images.storage,
        sampling=images.sampling,
        **how_opened(images, recipe.seed),
        max_bad=images.max_bad,
    )
    say(data.describe())
    return settle(model, data, recipe)


def settle(model: Model, data: Data, recipe: Recipe) -> Prepared:
    """What a recipe means for a model and data that are there.

    Raises:
        InputError: whatever the model, the data and the groups find wrong.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1)
    >>> len(settle(model, jaxtl.open_data("digits", model), Recipe.from_keywords(strategy="gradual")).optimizers)
    4
    """
    check_fits(model, data)
    expanded = expand(recipe, model.graph)
    check_task(expanded, data)
    check_fittable(model, data, expanded)
    check_batches(expanded, data)
    steps = data.steps_per_epoch(recipe.batch_size)
    phases = range(len(expanded.all_phases))
    return Prepared(model, data, expanded, tuple(make_optimizer(expanded, model, steps, phase) for phase in phases))


def how_opened(images: DataSection, seed: int) -> dict[str, Any]:
    """Which images and labels are taken and which are held out, as keywords of `open_data`.

    >>> how_opened(DataSection(source="digits", val_fraction=0.3), seed=1)["val_fraction"]
    0.3
    """
    return {"seed": seed, **{name: getattr(images, name) for name in _CHOICE}}


def train(recipe: Recipe, *, resume: bool = False) -> Result:
    """Does what ``jaxtl train`` does: ``prepare``, then ``jaxtl.fine_tune``; an output in whose way something is, is
    refused before anything else."""
    check_output(recipe.output, resume)
    prepared = prepare(recipe)
    return fine_tune(prepared.model, prepared.data, prepared.recipe, resume=resume)
