"""Several runs as one study: each is done once, and a study that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.files import write_whole
from jaxtl.judged import in_words, judged_by, said
from jaxtl.model import Model
from jaxtl.notices import quiet
from jaxtl.recipe import Recipe
from jaxtl.studies.beforehand import Start, check_all, start_of
from jaxtl.train.run import prepare
from jaxtl.train.written import read_history
from jaxtl.trees import flatten

Records = list[dict[str, Any]]
Row = dict[str, Any]

MARK = "run.json"
_DIFFERENCES_SHOWN = 5


@dataclass(frozen=True)
class Run:
    """What a study keeps of one run.

    Attributes:
        history: the records of ``fine_tune``.
        trained: part of the parameters that training changed, 0 to 1; None for a run that diverged.
        seconds: spent on training and validation.
        start: what it started from.
        diverged: for a run that ended because a loss or a gradient was not finite: where; else None.
    """

    history: Records
    trained: float | None
    seconds: float
    start: Start
    diverged: str | None = None

    @property
    def last(self) -> dict[str, Any] | None:
        """The record after the last epoch, which says how good the run is; None for a run that diverged."""
        return self.history[-1] if self.diverged is None else None


class Runner:
    """Does the runs of a study one after the other; images that were decoded for one serve the next."""

    def __init__(self, *, progress: bool = True) -> None:
        self._progress = progress
        self._data: Data | None = None

    def __call__(self, recipe: Recipe) -> Run:
        """Trains as a recipe says into its output; a run that is over is read, one that is not is continued.

        A run that diverges is over as well: done again, it would diverge again.

        Raises:
            InputError: the output holds the run of another recipe.
        """
        if (found := finished(recipe)) is not None:
            return found
        with quiet():
            run = self._trained(recipe, Path(str(recipe.output)))
        write_json(Path(str(recipe.output)) / MARK, {"recipe": _settings(recipe), **asdict(run)})
        return run

    def _trained(self, recipe: Recipe, folder: Path) -> Run:
        from jaxtl.train.fine_tune import fine_tune

        prepared = prepare(recipe)
        data, start = self._shared(prepared.data), start_of(prepared)
        try:
            result = fine_tune(prepared.model, data, prepared.recipe, resume=_begun(folder), progress=self._progress)
        except FloatingPointError as error:
            history = read_history(folder)
            return Run(history, None, _seconds(history), start, diverged=str(error))
        return Run(
            history=result.history,
            trained=changed_part(prepared.model, result.model),
            seconds=_seconds(result.history),
            start=start,
        )

    def _shared(self, data: Data) -> Data:
        """The data of the run before, if it is the same, with what it keeps in memory."""
        if self._data is None or self._data.fingerprint != data.fingerprint:
            self._data = data
        return self._data


def run_all(
    recipes: Mapping[str, Sequence[Recipe]], *, title: str, label: str, progress: bool = True
) -> dict[str, list[Run]]:
    """The runs of every name, one for each seed; all names take their turn with a seed before the next.

    With ``progress`` it shows how each run goes on, a line for each that is done, and a table of all, whose title
    begins with what the runs are judged by.

    Raises:
        InputError: what keeps any of them from being done or compared, before the first is.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, quiet=not progress)
    before = {name: [finished(recipe) for recipe in its] for name, its in recipes.items()}
    check_all(recipes, {name: [None if run is None else run.start for run in runs] for name, runs in before.items()})
    runner = Runner(progress=progress)
    found: dict[str, list[Run]] = {name: [] for name in recipes}
    for number in range(max(map(len, recipes.values()), default=0)):
        for name, its in recipes.items():
            if number < len(its):
                run = runner(its[number])
                found[name].append(run)
                console.print(f"{name}, seed {its[number].seed}: {_outcome(run)}", markup=False)
    if progress:
        console.print(_table([row(name, runs) for name, runs in found.items()], title, label))
    return found


def row(name: str, runs: Sequence[Run]) -> Row:
    """What the runs of one name come to: accuracies are those after the last epoch, 0 to 1; seconds are a run's.

    ``measure`` is the name of what they are judged by; where that is not the accuracy, it stands in its place.
    ``accuracies`` has None for runs that diverged, ``diverged`` says how many did, and the rest is over those that did
    not, None where all did.
    """
    measure = next((judged_by(run.last) for run in runs if run.last is not None), None)
    found = [None if measure is None or run.last is None else float(run.last[measure]) for run in runs]
    accuracies = [accuracy for accuracy in found if accuracy is not None]
    trained = [run.trained for run in runs if run.trained is not None]
    return {
        "name": name,
        "measure": measure,
        "mean": mean(accuracies) if accuracies else None,
        "lowest": min(accuracies, default=None),
        "highest": max(accuracies, default=None),
        "accuracies": found,
        "diverged": len(runs) - len(accuracies),
        "trained": mean(trained) if trained else None,
        "seconds": mean(run.seconds for run in runs),
    }


def changed_part(before: Model, after: Model) -> float:
    """The part of the parameters that lie in arrays with other bits than before.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> changed_part(model, model)
    0.0
    """
    old, new = flatten(before.params), flatten(after.params)
    sizes = {path: int(np.size(leaf)) for path, leaf in new.items()}
    changed = [path for path in new if np.asarray(old[path]).tobytes() != np.asarray(new[path]).tobytes()]
    return sum(sizes[path] for path in changed) / sum(sizes.values())


def folder_name(name: str) -> str:
    """A name as a folder's: what is no letter, digit or one of ``. , = + -`` becomes an underscore.

    >>> folder_name("model.weights=a/b")
    'model.weights=a_b'
    """
    return re.sub(r"[^\w.,=+-]", "_", name)


def write_json(path: Path, content: Any) -> None:
    """Writes a file that is there whole or not at all."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def percent(part: float) -> str:
    """A part as people read it.

    >>> percent(0.876)
    '87.6 %'
    """
    return f"{100 * part:.1f} %"


def _begun(folder: Path) -> bool:
    checkpoints = folder / "checkpoints"
    return checkpoints.is_dir() and any(entry.name.isdigit() for entry in checkpoints.iterdir())


def _seconds(history: Records) -> float:
    return sum(record.get("seconds", 0.0) for record in history)


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What a run depends on, but for rounding errors."""
    of_no_matter = set() if recipe.recalibrate else {"eval_batch_size"}
    return recipe.model_dump(mode="json", exclude={"output", *of_no_matter})


def finished(recipe: Recipe) -> Run | None:
    """The run of a recipe, where its output holds it and it is over.

    Raises:
        InputError: the output holds the run of another recipe.

    >>> import tempfile
    >>> finished(Recipe(output=tempfile.mkdtemp())) is None
    True
    """
    folder = Path(str(recipe.output))
    return _read(folder, _settings(recipe)) if (folder / MARK).is_file() else None


def _read(folder: Path, settings: Mapping[str, Any]) -> Run:
    try:
        stored = json.loads((folder / MARK).read_text(encoding="utf-8"))
        fields = {name: stored[name] for name in Run.__dataclass_fields__}
        run = Run(**{**fields, "start": Start(**fields["start"])})
        then = stored["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / MARK} is no result of a run ({error!r}); delete {folder} to run it again"
        ) from None
    now = json.loads(json.dumps(settings))
    old, new = flatten(then), flatten(now)
    different = [
        f"{name}: {old.get(name)!r} then, {new.get(name)!r} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if not different and list(then.get("groups", {})) != list(now.get("groups", {})):
        different = ["the order of groups"]
    if different:
        more = len(different) - _DIFFERENCES_SHOWN
        shown = "; ".join(different[:_DIFFERENCES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        raise InputError(f"{folder} holds the run of another recipe ({shown}); choose another output")
    return run


def _outcome(run: Run) -> str:
    return f"diverged: {run.diverged}" if run.last is None else said(run.last, decimals=1)


def _table(rows: Sequence[Row], title: str, label: str) -> Any:
    from rich import box
    from rich.table import Table

    measure = next((found["measure"] for found in rows if found["measure"]), "val_accuracy")
    table = Table(title=f"{in_words(measure).capitalize()} on {title}", box=box.SIMPLE_HEAD)
    table.add_column(label, overflow="fold")
    columns: dict[str, Callable[[Row], str]] = {
        "mean": lambda row: _part(row["mean"]),
        "lowest": lambda row: _part(row["lowest"]),
        "highest": lambda row: _part(row["highest"]),
        "trained": lambda row: _part(row["trained"]),
        "seconds": lambda row: f"{row['seconds']:.0f}",
    }
    if any(found["diverged"] for found in rows):
        columns["diverged"] = lambda row: f"{row['diverged']} of {len(row['accuracies'])}" if row["diverged"] else ""
    for column in columns:
        table.add_column(column, justify="right")
    for found in rows:
        table.add_row(found["name"], *(show(found) for show in columns.values()))
    return table


def _part(part: float | None) -> str:
    return "-" if part is None else percent(part)
