"""How general each stage is: accuracy against the number of frozen stages, and how far full fine-tuning moves each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from jaxtl.files import expanded
from jaxtl.finetune.labels import FROZEN
from jaxtl.notices import quiet
from jaxtl.pretrained.load import load
from jaxtl.recipe import DEFAULT_GROUPS, Recipe
from jaxtl.recipe.changes import as_given
from jaxtl.recipe.recipe import checked, default_optimizer
from jaxtl.report.transfer import plot_transferability
from jaxtl.studies.comparison import RESULTS, check_results, fields_without_strategy, say_what_is_left_out, seeded
from jaxtl.studies.drift import Drift, drift
from jaxtl.studies.runs import Row, Run, row, run_all, write_json
from jaxtl.train.run import prepare

FIGURE = "transferability.png"


def transferability(recipe: Recipe, *, output: str | Path, seeds: int = 1, progress: bool = True) -> dict[str, Any]:
    """Trains with the first 0, 1, ... and at last all body stages frozen, and measures what full fine-tuning moved.

    General stages can stay frozen without a loss (Yosinski et al., 2014, "How transferable are features in deep neural
    networks?"). A study that was interrupted is continued by the same call.

    Args:
        recipe: with ``model`` and ``data``; of ``optimizer`` the entries slow (body) and fast (head) count. Its own
            groups, layer decay, phases and strategy are not used.
        output: folder for ``results.json``, ``transferability.png`` and a folder for each run.
        seeds: runs for each number of frozen stages, from the recipe's seed on.
        progress: print how it goes, and the tables.

    Returns:
        ``"rows"``: as ``compare`` gives them, each with ``frozen``, the number of stages, and ``stage``, the last of
        them (None for 0); ``"stages"``: for each body stage ``stage``, ``distance`` (relative change of its weights,
        L2) and ``similarity`` (linear CKA of its pooled outputs on validation images), means over the seeds
        that did not diverge.

    Raises:
        InputError: a recipe without model or data, what keeps any run from being done, or an output of other runs or
            results.
    """
    folder = expanded(output)
    say_what_is_left_out(recipe)
    with quiet():
        first = prepare(frozen_up_to(recipe, 0, ()))
    body = first.model.stages[:-1]
    recipes = {
        f"frozen-{count}": seeded(frozen_up_to(recipe, count, body), f"frozen-{count}", seeds, folder)
        for count in range(len(body) + 1)
    }
    check_results(folder, recipes)
    title = f"validation images by frozen stages: {recipe.epochs} epochs, {seeds} seed{'s' * (seeds != 1)}"
    found = run_all(recipes, progress=progress, title=title, label="frozen")
    rows = _rows(found, body)
    whole = zip(recipes["frozen-0"], found["frozen-0"], strict=True)
    moved = _means([_moved(its) for its, run in whole if run.diverged is None])
    write_json(folder / RESULTS, {"seeds": seeds, "epochs": recipe.epochs, "rows": rows, "stages": moved})
    plot_transferability(rows, moved, folder / FIGURE)
    if progress and moved:
        _print(moved)
    return {"rows": rows, "stages": moved}


def frozen_up_to(recipe: Recipe, count: int, body: Sequence[str]) -> Recipe:
    """The recipe with the first ``count`` body stages frozen, the others slow, and the head fast.

    >>> frozen_up_to(Recipe(), 1, ("stem", "layer1")).groups
    {'head': 'fast', 'stem': 'frozen', '*': 'slow'}
    """
    fields = fields_without_strategy(recipe)
    entries = as_given(default_optimizer(DEFAULT_GROUPS)) | fields.get("optimizer", {})
    if count >= len(body):
        groups = {"head": "fast", "*": FROZEN}
        entries.pop("slow")
    else:
        groups = {"head": "fast", **dict.fromkeys(body[:count], FROZEN), "*": "slow"}
    return checked({**fields, "groups": groups, "optimizer": entries}, "the recipe with groups slow and fast")


def _rows(found: dict[str, list[Run]], body: Sequence[str]) -> list[Row]:
    return [
        {**row(name, runs), "frozen": count, "stage": body[count - 1] if count else None}
        for count, (name, runs) in enumerate(found.items())
    ]


def _moved(recipe: Recipe) -> list[Drift]:
    with quiet():
        prepared = prepare(recipe)
        return drift(prepared.model, load(str(Path(str(recipe.output), "model"))), prepared.data)


def _means(runs: list[list[Drift]]) -> list[Row]:
    """For each stage the means over the seeds."""
    rows = []
    for drifts in zip(*runs, strict=True):
        distances = [found.distance for found in drifts if found.distance is not None]
        average = Drift(
            drifts[0].stage, mean(distances) if distances else None, mean(found.similarity for found in drifts)
        )
        rows.append(asdict(average))
    return rows


def _print(stages: list[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What full fine-tuning moved", box=box.SIMPLE_HEAD)
    table.add_column("stage")
    table.add_column("weights, relative change", justify="right")
    table.add_column("features, CKA", justify="right")
    for its in stages:
        distance = "" if its["distance"] is None else f"{its['distance']:.4f}"
        table.add_row(its["stage"], distance, f"{its['similarity']:.3f}")
    Console(highlight=False, soft_wrap=True).print(table)
