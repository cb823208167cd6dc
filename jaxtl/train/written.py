"""The files that a run writes into its output beside the checkpoints; each is whole or not there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax

from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.files import check_writable, make_folder, write_whole
from jaxtl.model import Model
from jaxtl.pretrained.save import save
from jaxtl.recipe import Recipe
from jaxtl.unfinished import lock

Records = list[dict[str, Any]]
_CHECKPOINTS = "checkpoints"
_LOCK = ".lock"


@contextlib.contextmanager
def sole_writer(output: Path) -> Iterator[None]:
    """Keeps every other process from training into an output, which is made. The lock ends with the process at the
    latest; its file ``.lock`` stays, and says nothing.

    Raises:
        InputError: another run is training into it, or it cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp(), "run")
    >>> with sole_writer(folder), sole_writer(folder):
    ...     pass
    Traceback (most recent call last):
    jaxtl.errors.InputError: another process is training into ...
    """
    make_folder(output)
    try:
        file = (output / _LOCK).open("ab")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error}") from error
    with file:
        if lock(file.fileno()) is False:
            raise InputError(
                f"another process is training into {output}: wait for it or end it, or choose another output"
            )
        yield


def check_output(output: str | Path | None, resume: bool) -> None:
    """Tells what is in a run's way before any image is read. Nothing is made.

    Raises:
        InputError: the output holds another run, or a run without checkpoints; it cannot be written; another process is
            training into it. Or there is none, and a run is to be continued.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "model").mkdir()
    >>> check_output(folder, resume=False)
    Traceback (most recent call last):
    jaxtl.errors.InputError: ... holds a run already: --resume (resume=True) continues it; or choose another output
    """
    if output is None:
        if resume:
            raise InputError("a run is continued from its output; give the recipe the output of the run")
        return
    output = Path(output)
    if output.is_file():
        raise InputError(f"{output} is a file; name a folder")
    check_writable(output / _LOCK)
    if jax.process_index() == 0 and (output / _LOCK).exists():
        with sole_writer(output):
            pass
    _check_free(output, resume)


def checkpoint_folder(output: Path, resume: bool) -> Path:
    """Where the checkpoints go; ``InputError`` where the output holds another run, or a run without checkpoints."""
    make_folder(output)
    _check_free(output, resume)
    return output / _CHECKPOINTS


def _check_free(output: Path, resume: bool) -> None:
    folder = output / _CHECKPOINTS
    saved = folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir())
    if not resume and (saved or any((output / name).exists() for name in ("model", "best"))):
        raise InputError(f"{output} holds a run already: --resume (resume=True) continues it; or choose another output")
    if resume and not saved and (output / "model").exists():
        raise InputError(f"{output} holds the results of a run and not its checkpoints; choose another output")


def write_recipe(output: Path, recipe: Recipe) -> None:
    """``recipe.yaml``: the whole recipe, defaults included."""
    write_whole(output / "recipe.yaml", recipe.to_yaml())


def write_history(output: Path, history: Records) -> None:
    """``history.jsonl``: one record a line."""
    write_whole(output / "history.jsonl", "".join(json.dumps(record) + "\n" for record in history))


def read_history(output: Path) -> Records:
    """The records of ``history.jsonl``; none where it is not there.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_history(folder, [{"epoch": 1}])
    >>> read_history(folder), read_history(folder / "nowhere")
    ([{'epoch': 1}], [])
    """
    path = output / "history.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def write_results(
    output: Path,
    recipe: Recipe,
    data: Data,
    history: Records,
    models: Iterable[tuple[str, Model, dict[str, Any]]],
) -> None:
    """Models under their names, each with its record, one after the other, and ``curves.png``."""
    from jaxtl.report.curves import plot_history

    made_from = recipe.model_dump(mode="json", exclude={"output"})
    for name, model, record in models:
        training = {"recipe": made_from, "data": data.record(), "pretrained": model.pretrained, "result": record}
        save(model, output / name, training=training)
    plot_history(history, output / "curves.png")
