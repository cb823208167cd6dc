"""What a network answers, and whether that is what the data's labels are."""

from __future__ import annotations

from jaxtl.data.dataset import Data
from jaxtl.data.kinds import kind_of
from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.recipe import MSE, AnyLoss, Recipe, Sigmoid, Softmax
from jaxtl.train.losses import no_classes

LOSS_OF_TASK: dict[str, AnyLoss] = {"class": Softmax(), "multi-label": Sigmoid(), "regression": MSE()}
_LOSSES = {"class": ("softmax", "focal"), "multi-label": ("sigmoid",), "regression": ("mse",)}
_MEANING = {
    "class": "one class an image",
    "multi-label": "any number of classes an image",
    "regression": "numbers",
}


class WrongLossError(InputError):
    """A recipe's loss, or what it fits before training, is not for the labels of the data."""


def task_of(loss: str) -> str:
    """What a network answers that was trained with a loss, by the loss's name.

    >>> [task_of(loss) for loss in ("focal", "sigmoid", "mse")]
    ['class', 'multi-label', 'regression']
    """
    return next(task for task, losses in _LOSSES.items() if loss in losses)


def task_to_measure(model: Model, data: Data) -> str:
    """What a model is measured as on some data: its own task; or the data's, where its classes have no names, since
    ``jaxtl.load`` does not know what such a head is to answer.

    Raises:
        InputError: the data's labels are for another task.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1)
    >>> data = jaxtl.open_data("digits", model)
    >>> task_to_measure(model, data)
    'class'
    >>> task_to_measure(model.replace(task="regression"), data)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxtl.errors.InputError: cifar_resnet20 does not fit digits: its task is 'regression' and the data's is 'class': ...
    """
    if data.task in (None, model.task):
        return model.task
    if model.task == "class" and model.classes is None:
        return str(data.task)
    raise InputError(
        f"{model.name} does not fit {data.name}: its task is {model.task!r} and the data's is {data.task!r}: open the "
        f"data with task={model.task!r}; or, if the model answers otherwise, name that, "
        f"model.replace(task={data.task!r})"
    )


def with_task(recipe: Recipe) -> Recipe:
    """The same; where its loss is for numbers alone and it does not say what labels are, they are numbers.

    By themselves whole numbers, such as ages, would be read as classes.

    >>> with_task(Recipe.from_keywords(loss="mse", data={"source": "csv:ages.csv"})).data.task
    'regression'
    """
    data = recipe.data
    if data is None or data.task is not None or not isinstance(recipe.loss, MSE):
        return recipe
    kind, _ = kind_of(data.source)
    return recipe.replace(**{"data.task": "regression"}) if "task" in kind.options else recipe


def check_task(recipe: Recipe, data: Data) -> None:
    """Raises ``WrongLossError`` where the loss, or what is fitted before training, is not for the labels of the data.

    Data without a ``task``, made by hand, is not refused.

    >>> from jaxtl.data.open import open_data
    >>> from jaxtl.data.preprocess import Preprocess
    >>> data = open_data("digits", Preprocess(size=8), samples_per_class=1)
    >>> check_task(Recipe.from_keywords(loss={"name": "mse"}), data)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxtl.train.task.WrongLossError: digits: its labels are one class an image, and the loss 'mse' is for numbers: ...
    """
    if data.task is None:
        return
    problems = []
    fitting = _LOSSES[data.task]
    if recipe.loss.name not in fitting:
        meant = next(meaning for task, meaning in _MEANING.items() if recipe.loss.name in _LOSSES[task])
        why = f" ({data.told_by}; data.task=class, in Python task='class', where it is one)" if data.told_by else ""
        problems.append(
            f"its labels are {_MEANING[data.task]}{why}, and the loss '{recipe.loss.name}' is for {meant}: give the "
            f"loss {' or '.join(map(repr, fitting))}, or open the data with another task"
        )
    if data.task != "class" and recipe.linear_probe:
        problems.append("linear_probe needs one class an image; give another strategy, or turn it off")
    if data.task != "class" and recipe.class_weights == "balanced":
        problems.append("class_weights 'balanced' needs one class an image")
    if problems:
        raise WrongLossError(f"{data.name}: " + "; ".join(problems))


def check_labels(recipe: Recipe, data: Data) -> None:
    """Raises ``InputError`` where labels are none of the data's classes, for a loss that takes classes.

    Apart from ``check_task``, because it asks for the images that can be read, which may take a look at all of them.
    """
    if recipe.loss.name not in _LOSSES["class"]:
        return
    count = len(data.classes)
    found = {split: no_classes(source.labels, count) for split, source in (("train", data.train), ("val", data.val))}
    problems = [
        f"{split} has the labels {', '.join(map(str, wrong[:5]))}{', ...' * (len(wrong) > 5)}, and its {count} classes "
        f"are 0 to {count - 1}: correct these labels, or name all classes"
        for split, wrong in found.items()
        if wrong
    ]
    if problems:
        raise InputError(f"{data.name}: " + "; ".join(problems))
