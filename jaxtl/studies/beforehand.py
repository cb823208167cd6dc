"""What would keep a study's runs from being done or compared, found before the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtl.errors import InputError
from jaxtl.notices import quiet
from jaxtl.recipe import MSE, Recipe
from jaxtl.recipe.problems import listed
from jaxtl.train.fine_tune import weights_fingerprint
from jaxtl.train.run import Prepared, prepare


@dataclass(frozen=True)
class Start:
    """What a run starts from: the fingerprints of its images and of its weights."""

    images: str
    weights: str


def start_of(prepared: Prepared) -> Start:
    """What a prepared run starts from."""
    return Start(prepared.data.fingerprint, weights_fingerprint(prepared.model))


def check_all(recipes: Mapping[str, Sequence[Recipe]], done: Mapping[str, Sequence[Start | None]]) -> None:
    """Raises one ``InputError`` with everything that is wrong with any name's first run.

    Args:
        recipes: the runs of each name, one for each seed.
        done: what each of them started from, None for those that are still to be done.

    >>> check_all({"mine": [Recipe.from_keywords(loss="mse")]}, {"mine": [None]})
    Traceback (most recent call last):
    jaxtl.errors.InputError: studies compare accuracies, and the loss 'mse' has none
    """
    starts: dict[str, Start] = {}
    problems: dict[str, list[str]] = {}
    for name, its in recipes.items():
        try:
            _check(its[0], done[name], starts)
        except InputError as error:
            problems.setdefault(str(error), []).append(name)
    if problems:
        said = [why if len(names) == len(recipes) else f"{', '.join(names)}: {why}" for why, names in problems.items()]
        raise InputError(said[0] if len(said) == 1 else listed("before the first run", said))


def _check(recipe: Recipe, done: Sequence[Start | None], starts: dict[str, Start]) -> None:
    if isinstance(recipe.loss, MSE):
        raise InputError(f"studies compare accuracies, and the loss {recipe.loss.name!r} has none")
    key = repr((recipe.model, recipe.data, recipe.seed, recipe.strategy == "scratch"))
    if None in done or key not in starts:
        with quiet():
            starts[key] = start_of(prepare(recipe))
    if done[0] is None or done[0] == starts[key]:
        return
    other = "images" if done[0].images != starts[key].images else "weights"
    raise InputError(
        f"{recipe.output} holds a run with other {other} than there are now, which are not to be compared; "
        "choose another output, or delete it"
    )
