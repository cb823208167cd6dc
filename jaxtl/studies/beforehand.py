"""What would keep a study's runs from being done or compared, found before the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtl.errors import InputError
from jaxtl.notices import quiet
from jaxtl.recipe import MSE, Recipe, Sigmoid
from jaxtl.recipe.problems import listed
from jaxtl.train.fine_tune import weights_fingerprint
from jaxtl.train.run import Prepared, prepare, settle


@dataclass(frozen=True)
class Start:
    """What a run starts from: the fingerprints of its images, wherever they are kept, and of its weights."""

    images: str
    weights: str


def start_of(prepared: Prepared) -> Start:
    """What a prepared run starts from."""
    return Start(prepared.data.images_fingerprint, weights_fingerprint(prepared.model))


def check_all(recipes: Mapping[str, Sequence[Recipe]], done: Mapping[str, Sequence[Start | None]]) -> None:
    """Raises one ``InputError`` with everything that keeps a run from being done, or from being compared.

    Of the runs that are to be done each name's first is prepared, of those that are done the starts are compared.

    Args:
        recipes: the runs of each name, one for each seed.
        done: what each of them started from, None for those that are still to be done.

    >>> check_all({"mine": [Recipe.from_keywords(loss="mse")]}, {"mine": [None]})
    Traceback (most recent call last):
    jaxtl.errors.InputError: studies compare accuracies, and the loss 'mse' has none
    """
    found = _Found()
    if len({isinstance(recipe.loss, Sigmoid) for its in recipes.values() for recipe in its}) > 1:
        raise InputError(
            "runs with the loss 'sigmoid' are judged by the mean average precision and others by the accuracy, which "
            "are not to be compared; give all runs of the study 'sigmoid', or none"
        )
    problems: dict[str, list[str]] = {}
    for name, its in recipes.items():
        try:
            _check(its, done[name], found)
        except InputError as error:
            problems.setdefault(str(error), []).append(name)
    if problems:
        said = [why if len(names) == len(recipes) else f"{', '.join(names)}: {why}" for why, names in problems.items()]
        raise InputError(said[0] if len(said) == 1 else listed("before the first run", said))


def _check(recipes: Sequence[Recipe], done: Sequence[Start | None], found: _Found) -> None:
    for recipe in recipes:
        if isinstance(recipe.loss, MSE):
            raise InputError(f"studies compare accuracies, and the loss {recipe.loss.name!r} has none")
    if None in done:
        found.prepared(recipes[0])
    others = [
        (recipe.output, "images" if then.images != now.images else "weights")
        for recipe, then in zip(recipes, done, strict=True)
        if then is not None and then != (now := found.start(recipe))
    ]
    if others:
        folders = ", ".join(str(folder) for folder, _ in others)
        what = " and ".join(dict.fromkeys(what for _, what in others))
        hold, them = ("hold runs", "them") if len(others) > 1 else ("holds a run", "it")
        raise InputError(
            f"{folders} {hold} with other {what} than there are now, which are not to be compared; "
            f"choose another output, or delete {them}"
        )


class _Found:
    """What recipes start from. Recipes of the same model, data and seed share that, and one after the other the model
    and the data themselves, which may take long to open."""

    def __init__(self) -> None:
        self._starts: dict[str, Start] = {}
        self._last: tuple[str, Prepared] | None = None

    def prepared(self, recipe: Recipe) -> Prepared:
        key = _start_key(recipe)
        with quiet():
            if self._last is not None and self._last[0] == key:
                shared = self._last[1]
                return settle(shared.model, shared.data, recipe)
            self._last = key, prepare(recipe)
        return self._last[1]

    def start(self, recipe: Recipe) -> Start:
        key = _start_key(recipe)
        if key not in self._starts:
            self._starts[key] = start_of(self.prepared(recipe))
        return self._starts[key]


def _start_key(recipe: Recipe) -> str:
    return repr((recipe.model, recipe.data, recipe.seed, recipe.strategy == "scratch"))
