"""Several runs as one study: each is done once, and a study that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.files import write_whole
from jaxtl.model import Model
from jaxtl.notices import quiet
from jaxtl.recipe import Recipe
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
        accuracy: on validation images after the last epoch, 0 to 1.
        trained: part of the parameters that training changed, 0 to 1.
        seconds: spent on training and validation.
    """

    history: Records
    accuracy: float
    trained: float
    seconds: float


class Runner:
    """Does the runs of a study one after the other; images that were decoded for one serve the next."""

    def __init__(self, *, progress: bool = True) -> None:
        self._progress = progress
        self._data: Data | None = None

    def __call__(self, recipe: Recipe) -> Run:
        """Trains as a recipe says into its output; a run that is there whole is read, one that is not is continued.

        Raises:
            InputError: the output holds the run of another recipe.
        """
        folder = Path(str(recipe.output))
        settings = recipe.model_dump(mode="json", exclude={"output", "eval_batch_size"})
        if (folder / MARK).is_file():
            return _read(folder, settings)
        from jaxtl.train.fine_tune import fine_tune
        from jaxtl.train.run import prepare

        with quiet():
            prepared = prepare(recipe)
            data = self._shared(prepared.data)
            result = fine_tune(prepared.model, data, prepared.recipe, resume=_begun(folder), progress=self._progress)
        run = Run(
            history=result.history,
            accuracy=_accuracy(result.history[-1], recipe),
            trained=changed_part(prepared.model, result.model),
            seconds=sum(record.get("seconds", 0.0) for record in result.history),
        )
        write_json(folder / MARK, {"recipe": settings, **asdict(run)})
        return run

    def _shared(self, data: Data) -> Data:
        """The data of the run before, if it is the same, with what it keeps in memory."""
        if self._data is None or self._data.fingerprint != data.fingerprint:
            self._data = data
        return self._data


def run_all(
    recipes: Mapping[str, Sequence[Recipe]], *, progress: bool = True, title: str = "", label: str = "run"
) -> dict[str, list[Run]]:
    """The runs of every name, one for each seed; all names take their turn with a seed before the next.

    With ``progress`` it shows how each run goes on, a line for each that is done, and a table of all.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, quiet=not progress)
    runner = Runner(progress=progress)
    found: dict[str, list[Run]] = {name: [] for name in recipes}
    for number in range(max(map(len, recipes.values()), default=0)):
        for name, its in recipes.items():
            if number < len(its):
                found[name].append(runner(its[number]))
                console.print(f"{name}, seed {its[number].seed}: {percent(found[name][-1].accuracy)}")
    if progress:
        console.print(_table([row(name, runs) for name, runs in found.items()], title, label))
    return found


def row(name: str, runs: Sequence[Run]) -> Row:
    """What the runs of one name come to: accuracies are those after the last epoch, 0 to 1; seconds are a run's."""
    accuracies = [run.accuracy for run in runs]
    return {
        "name": name,
        "mean": mean(accuracies),
        "lowest": min(accuracies),
        "highest": max(accuracies),
        "accuracies": accuracies,
        "trained": mean(run.trained for run in runs),
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


def _accuracy(record: Mapping[str, Any], recipe: Recipe) -> float:
    if "val_accuracy" not in record:
        raise InputError(f"studies compare accuracies, and the loss {recipe.loss.name!r} has none; use another loss")
    return float(record["val_accuracy"])


def _read(folder: Path, settings: Mapping[str, Any]) -> Run:
    try:
        stored = json.loads((folder / MARK).read_text(encoding="utf-8"))
        run = Run(**{name: stored[name] for name in Run.__dataclass_fields__})
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


def _table(rows: Iterable[Row], title: str, label: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column(label)
    columns: dict[str, Callable[[Row], str]] = {
        "mean": lambda row: percent(row["mean"]),
        "lowest": lambda row: percent(row["lowest"]),
        "highest": lambda row: percent(row["highest"]),
        "trained": lambda row: percent(row["trained"]),
        "seconds": lambda row: f"{row['seconds']:.0f}",
    }
    for column in columns:
        table.add_column(column, justify="right")
    for found in rows:
        table.add_row(found["name"], *(show(found) for show in columns.values()))
    return table
