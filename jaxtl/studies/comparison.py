"""Which strategy, and which setting: several runs under the same budget, side by side."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from jaxtl.errors import InputError, nearest
from jaxtl.files import expanded
from jaxtl.notices import say
from jaxtl.recipe import Recipe
from jaxtl.recipe.changes import as_given
from jaxtl.recipe.recipe import checked
from jaxtl.recipe.removal import without_decided
from jaxtl.recipe.training import StrategyName
from jaxtl.report.curves import plot_comparison
from jaxtl.studies.runs import Row, Run, folder_name, row, run_all, write_json

RESULTS, CURVES = "results.json", "curves.png"
_SHOWN = 3


def compare(
    recipe: Recipe,
    strategies: Sequence[str] | Mapping[str, Mapping[str, Any]],
    *,
    samples: int | None = None,
    seeds: int = 3,
    output: str | Path,
    progress: bool = True,
) -> list[Row]:
    """Trains every strategy with the same images, epochs, batch size and seeds, and says what each comes to.

    A study that was interrupted is continued by the same call: whole runs are not repeated. Accuracies are those after
    the last epoch, so that none is the best of several. Where images have several labels, mean average precisions
    take their place, here as in the table and the curves.

    Args:
        recipe: everything that the strategies share, with ``model`` and ``data``. What a strategy decides (groups,
            layer decay, phases) is not taken from it; rates are, from ``optimizer.slow`` and ``optimizer.fast``.
        strategies: names that ``strategy`` takes; or names of one's own, each with the fields of the recipe that it
            changes: ``{"head only": {"groups": {"head": "fast", "*": "frozen"}}}``.
        samples: train on so many images; default: as the recipe says.
        seeds: runs of each strategy, from the recipe's seed on; a seed decides the images, their order, and the head.
        output: folder for ``results.json``, ``curves.png`` and a folder for each run.
        progress: print how it goes, and the table.

    Returns:
        A row for each strategy: ``name``, ``measure`` (what it is judged by, as records name it: ``"val_accuracy"``, or
        of several labels an image ``"val_mean_average_precision"``; None where all runs diverged), ``mean``,
        ``lowest``, ``highest`` and ``accuracies`` (0 to 1, one for each seed), ``diverged`` (how many runs did; these
        have the accuracy None and don't count in the rest), ``trained`` (part of the parameters that changed),
        ``seconds`` of a run.

    Raises:
        InputError: unknown strategies, what keeps any run from being done or compared, or an output that holds runs of
            other recipes, of other images or weights, or other results.
    """
    output = expanded(output)
    named = _named(recipe, strategies)
    if not isinstance(strategies, Mapping):
        say_what_is_left_out(recipe)
    shared = {} if samples is None else {"data.train_samples": samples}
    recipes = {name: seeded(its, name, seeds, output, shared) for name, its in named.items()}
    check_results(output, named)
    images = "" if samples is None else f"{samples} training images, "
    title = f"validation images: {images}{recipe.epochs} epochs, {seeds} seed{'s' * (seeds != 1)}"
    found = run_all(recipes, progress=progress, title=title, label="strategy")
    return written(output, found, {"samples": samples, "epochs": recipe.epochs, "seeds": seeds})


def with_strategy(recipe: Recipe, name: str) -> Recipe:
    """A recipe that follows a named strategy, in place of its own groups, layer decay and phases. Of its optimizers
    those for slow and fast are kept.

    Raises:
        InputError: no strategy has that name.

    >>> with_strategy(Recipe.from_keywords(epochs=3, groups={"*": "fast"}), "full").strategy
    'full'
    """
    known = get_args(StrategyName)
    if name not in known:
        raise InputError(f"no strategy is called {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return checked({**fields_without_strategy(recipe), "strategy": name}, f"the recipe with strategy {name!r}")


def fields_without_strategy(recipe: Recipe) -> dict[str, Any]:
    """The fields that a recipe sets, without those that a strategy decides; epochs are always among them."""
    fields, _ = without_decided(as_given(recipe), kept=())
    fields.pop("strategy", None)
    return {**fields, "epochs": recipe.epochs}


def say_what_is_left_out(recipe: Recipe) -> None:
    """Says it of the optimizers that strategies have no use for."""
    fields, left_out = without_decided(as_given(recipe), kept=())
    theirs = "" if "optimizer" in fields else ", with the default optimizers"
    for name in left_out:
        if name.startswith("optimizer."):
            say(f"{name} is left out: here the groups are slow (the body) and fast (the head){theirs}")


def _named(recipe: Recipe, strategies: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> dict[str, Recipe]:
    if not strategies:
        raise InputError(f"nothing to compare; name some of {', '.join(get_args(StrategyName))}")
    if isinstance(strategies, Mapping):
        return {name: recipe.replace(**changes) for name, changes in strategies.items()}
    names = [strategies] if isinstance(strategies, str) else list(dict.fromkeys(strategies))
    return {name: with_strategy(recipe, name) for name in names}


def seeded(
    recipe: Recipe, name: str, seeds: int, output: Path, changes: Mapping[str, Any] | None = None
) -> list[Recipe]:
    """A recipe with some changes, once for each seed, with the folder below a study's output that each writes to."""
    if seeds < 1:
        raise InputError(f"seeds must be at least 1, not {seeds}")
    folder = output / folder_name(name)
    numbers = range(recipe.seed, recipe.seed + seeds)
    return [recipe.replace(**(changes or {}), seed=seed, output=str(folder / f"seed-{seed}")) for seed in numbers]


def check_results(output: Path, names: Collection[str]) -> None:
    """Raises ``InputError`` where a study would replace results that it does not have itself.

    >>> import tempfile
    >>> output = Path(tempfile.mkdtemp())
    >>> check_results(output, ["full"])
    >>> write_json(output / RESULTS, {"rows": [{"name": "full"}, {"name": "lp-ft"}]})
    >>> check_results(output, ["full"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxtl.errors.InputError: ... holds the results of 'lp-ft', which this study would replace; choose another output ...
    """
    path = output / RESULTS
    if not path.is_file():
        return
    try:
        lost = [row["name"] for row in json.loads(path.read_text(encoding="utf-8"))["rows"] if row["name"] not in names]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} holds no results of a study, and would be replaced; choose another output") from None
    if lost:
        more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        raise InputError(
            f"{path} holds the results of {', '.join(map(repr, lost[:_SHOWN]))}{more}, which this study "
            "would replace; choose another output (--output), or study these as well"
        )


def written(
    output: Path,
    found: Mapping[str, Sequence[Run]],
    budget: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Row]:
    """The rows, after they and the curves were written; runs that diverged are not drawn."""
    rows = [row(name, runs) | ({"settings": settings[name]} if settings else {}) for name, runs in found.items()]
    write_json(output / RESULTS, {**budget, "rows": rows})
    histories = {name: [run.history for run in runs if run.diverged is None] for name, runs in found.items()}
    if drawn := {name: its for name, its in histories.items() if its}:
        plot_comparison(drawn, output / CURVES)
    return rows
