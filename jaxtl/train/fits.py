"""Whether a model and some data are for each other."""

from __future__ import annotations

from collections.abc import Iterator

from jaxtl.data.dataset import Data
from jaxtl.data.problems import shown
from jaxtl.errors import InputError, nearest
from jaxtl.model import Model
from jaxtl.recipe import Recipe


def check_fits(model: Model, data: Data) -> None:
    """Raises ``InputError`` when a model does not fit some data: it is none, or classes or preprocessing differ.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1, num_classes=3)
    >>> check_fits(model, jaxtl.open_data("digits", model))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxtl.errors.InputError: cifar_resnet20 does not fit digits: it has 3 classes and the data has 10: load it with ...
    """
    check_kinds(model, data)
    problems = list(_classes(model, data))
    ours, theirs = model.preprocess.to_dict(), data.preprocess.to_dict()
    if ours != theirs:
        fields = [f"{key} {ours[key]} against {theirs[key]}" for key in ours if ours[key] != theirs[key]]
        problems.append(f"its preprocessing is not the data's ({'; '.join(fields)}): open the data with this model")
    if problems:
        raise InputError(f"{model.name} does not fit {data.name}: " + "; ".join(problems))


def check_batches(recipe: Recipe, data: Data) -> None:
    """Raises ``InputError`` where the batches that there are images for cannot be computed in equal parts.

    >>> from jaxtl.data.open import open_data
    >>> from jaxtl.data.preprocess import Preprocess
    >>> few = open_data("digits", Preprocess(size=8), samples_per_class=3)
    >>> check_batches(Recipe(batch_size=64, accumulate=4), few)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxtl.errors.InputError: digits has 30 training images, all of them a batch, and accumulate 4 does not divide ...
    """
    count = len(data.train)
    if recipe.epochs and count < recipe.batch_size and count % recipe.accumulate:
        fitting = count - count % recipe.accumulate
        remedy = f"give a batch_size of {fitting}" if fitting else "give another accumulate"
        raise InputError(
            f"{data.name} has {count} training images, all of them a batch, and accumulate {recipe.accumulate} does "
            f"not divide {count}: {remedy}"
        )


def check_kinds(model: object, data: object) -> None:
    """Raises ``InputError`` for what is no model, or no data, with what makes one."""
    check_model(model)
    if not isinstance(data, Data):
        spec = repr(data) if isinstance(data, str) else "..."
        raise InputError(
            f"the second argument must be data, as jaxtl.open_data({spec}, model) gives it, not {_said(data)}"
        )


def check_model(model: object) -> None:
    """Raises ``InputError`` for what is no model.

    >>> check_model("runs/a")
    Traceback (most recent call last):
    jaxtl.errors.InputError: the first argument must be a model, as jaxtl.load('runs/a') gives it, not 'runs/a'
    """
    if not isinstance(model, Model):
        name = repr(model) if isinstance(model, str) else "..."
        raise InputError(f"the first argument must be a model, as jaxtl.load({name}) gives it, not {_said(model)}")


def _said(value: object) -> str:
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


def _classes(model: Model, data: Data) -> Iterator[str]:
    count, known = len(data.classes), model.classes
    if known is not None and data.task != "regression" and set(data.classes) < set(known):
        yield (
            f"the data has {count} of its {len(known)} classes: to evaluate on it, open it with val_fraction=1, which "
            f"takes the classes from the model; to train on it, load the model with num_classes={count}, a new head"
        )
    elif model.num_classes != count:
        strange = [f"'{name}'{nearest(name, known)}" for name in data.classes if name not in known] if known else []
        lacking = f" (it does not know {shown(strange)})" if strange else ""
        yield (
            f"it has {model.num_classes} classes and the data has {count}{lacking}: "
            f"load it with num_classes={count}, which makes a new head to train"
        )
    elif known is not None and known != data.classes:
        different = [
            f"{ours!r} against {theirs!r}" for ours, theirs in zip(known, data.classes, strict=True) if ours != theirs
        ]
        yield (
            f"its classes are not the data's ({', '.join(different[:5])}): use data with the same class names, "
            "load it with classes=data.classes for a new head, or model.replace(classes=None) if only the names differ"
        )
