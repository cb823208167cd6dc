"""Where training starts: what a recipe has fitted to the training images before the first step."""

from __future__ import annotations

from jaxtl.data.dataset import Data
from jaxtl.model import Model
from jaxtl.notices import say
from jaxtl.recipe import Recipe
from jaxtl.train.class_weights import class_weights
from jaxtl.train.probe import check_every_class, check_head, linear_probe
from jaxtl.train.recalibrate import check_batch_norms, recalibrate


def check_fittable(model: Model, data: Data, recipe: Recipe) -> None:
    """Raises ``InputError`` where the network or the images lack what the recipe wants to fit.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1, head=(8,))
    >>> check_fittable(model, jaxtl.open_data("digits", model), Recipe(linear_probe=True))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxtl.errors.InputError: a linear probe needs a head of one linear layer, and that of cifar_resnet20 has ...
    """
    if recipe.recalibrate:
        check_batch_norms(model)
    if recipe.linear_probe:
        check_head(model)
        check_every_class(data.train.labels, data.classes)


def fitted(model: Model, data: Data, recipe: Recipe) -> Model:
    """The model with the statistics and the head that a recipe, its strategy written out, has fitted first.

    Raises:
        InputError: as ``check_fittable``.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1)
    >>> fitted(model, jaxtl.open_data("digits", model), Recipe()) is model
    True
    """
    if recipe.recalibrate:
        model = recalibrate(model, data, batch_size=recipe.eval_batch_size)
    if recipe.linear_probe:
        model, probe = linear_probe(
            model,
            data,
            batch_size=recipe.eval_batch_size,
            seed=recipe.seed,
            class_weights=class_weights(recipe.class_weights, data),
        )
        say(f"the head is fitted to the features (logistic regression, strength {probe.strength:g})")
    return model
