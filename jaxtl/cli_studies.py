"""The commands that answer a question with several runs; ``jaxtl.cli`` holds the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from jaxtl.cli_options import LabelColumn, LabelSeparator, PathColumn, labels_of

Config = Annotated[str, typer.Argument(help="A recipe, such as configs/last_stage_flowers.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Fields of the recipe by their dotted names: epochs=3 optimizer.fast.lr=3e-4."),
]


def lr_find(
    config: Config,
    overrides: Overrides = None,
    lowest: Annotated[float, typer.Option(help="Rate of the fastest group in the first step.")] = 1e-7,
    highest: Annotated[float, typer.Option(help="Rate of the fastest group in the last step.")] = 10.0,
    steps: Annotated[int, typer.Option(help="How many steps at most.")] = 100,
    phase: Annotated[int, typer.Option(min=1, help="Phase of the recipe, counted from 1.")] = 1,
    plot: Annotated[Path, typer.Option(help="The curve, as a PNG.")] = Path("lr_find.png"),
) -> None:
    """Suggest learning rates: train a copy while the rates grow, and see where the loss falls."""
    from jaxtl.files import check_writable, expanded
    from jaxtl.recipe import load_recipe

    check_writable(expanded(plot))
    recipe = load_recipe(config, overrides or ())
    from jaxtl.report.range_test import plot_range_test
    from jaxtl.studies.lr_finder import find_rates
    from jaxtl.train.run import prepare

    ready = prepare(recipe)
    found = find_rates(ready.model, ready.data, recipe, lowest=lowest, highest=highest, steps=steps, phase=phase - 1)
    fastest = max(found.rates.values())
    marks = {rule: fastest * factor for rule, factor in found.suggestions.items()}
    typer.echo(found)
    typer.echo(f"the curve: {plot_range_test((fastest * found.factors).tolist(), found.losses.tolist(), marks, plot)}")


def plan(
    data: Annotated[str, typer.Argument(help="The images, such as folder:path/to/images.")],
    model: Annotated[str, typer.Option(help="A name that 'jaxtl list' shows, or a folder saved by jaxtl.")],
    weights: Annotated[str | None, typer.Option(help="A file or folder, in place of the name's own weights.")] = None,
    until: Annotated[str | None, typer.Option(help="Cut the network after this stage.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Input size in pixels; default: as measured.")] = None,
    crop_pct: Annotated[float | None, typer.Option(help="Part of the image that evaluation keeps.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for training steps and validations: 90s, 10min, 2h.")] = None,
    output: Annotated[Path, typer.Option(help="The recipe to write, a new file.")] = Path("plan.yaml"),
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    task: Annotated[
        str | None, typer.Option(help="'class' where labels look like several or like numbers and are classes.")
    ] = None,
) -> None:
    """Look at images and network, recommend a strategy, say why, and write a recipe that runs."""
    from jaxtl.studies.plan import parse_budget
    from jaxtl.studies.plan import plan as make_plan

    make_plan(
        data,
        model,
        weights=weights or "default",
        until=until,
        size=size,
        crop_pct=crop_pct,
        budget=None if budget is None else parse_budget(budget),
        output=output,
        seed=seed,
        told=typer.echo,
        **labels_of(path_column, label_column, label_separator, task),
    )


def compare(
    config: Config,
    overrides: Overrides = None,
    strategies: Annotated[str, typer.Option(help="Names with commas between them.")] = "scratch,features,last-stage,"
    "full,gradual,lp-ft",
    samples: Annotated[int | None, typer.Option(min=1, help="Train on so many images; default: as the recipe.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each strategy.")] = 3,
    output: Annotated[Path, typer.Option(help="Folder for the runs, the table and the plot.")] = Path("runs/compare"),
) -> None:
    """Train several strategies under the same budget and seeds; interrupted, the same command continues."""
    from jaxtl.recipe import load_recipe

    recipe = load_recipe(config, overrides or ())
    from jaxtl.studies.comparison import compare as run

    run(recipe, [name.strip() for name in strategies.split(",")], samples=samples, seeds=seeds, output=output)


def sweep(
    config: Config,
    fields: Annotated[
        list[str],
        typer.Argument(help="Fields with several values, optimizer.fast.lr=1e-2,1e-3, and others with one: epochs=3."),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each value.")] = 1,
    output: Annotated[Path, typer.Option(help="Folder for the runs, the table and the plot.")] = Path("runs/sweep"),
) -> None:
    """Train with each of several values of a field; interrupted, the same command continues."""
    from jaxtl.recipe import load_recipe
    from jaxtl.studies.sweep import is_sweep, parse_sweep
    from jaxtl.studies.sweep import sweep as run

    swept = [field for field in fields if is_sweep(field)]
    recipe = load_recipe(config, [field for field in fields if field not in swept])
    run(recipe, dict(parse_sweep(field) for field in swept), seeds=seeds, output=output)


def transferability(
    config: Config,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each depth.")] = 1,
    output: Annotated[Path, typer.Option(help="Folder for the runs, the table and the plot.")] = Path(
        "runs/transferability"
    ),
) -> None:
    """Accuracy against the number of frozen stages, and how far each stage moves when all are trained."""
    from jaxtl.recipe import load_recipe

    recipe = load_recipe(config, overrides or ())
    from jaxtl.studies.transferability import transferability as run

    run(recipe, seeds=seeds, output=output)


def verify(
    name: Annotated[str, typer.Argument(help="timm's name of a network.")],
    weights: Annotated[
        str | None, typer.Option(help="A file or folder; 'default': the tag's own. Without: random ones.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the images in pixels.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of images and random weights.")] = 0,
) -> None:
    """Compare a network with timm's on this machine, stage by stage; exit code 1 when they differ."""
    from jaxtl.studies.verify import verify as run

    found = run(name, weights, size=size, seed=seed)
    typer.echo(found)
    if found.first_difference is not None:
        raise typer.Exit(1)


COMMANDS: dict[str, Callable[..., None]] = {
    "lr-find": lr_find,
    "plan": plan,
    "compare": compare,
    "sweep": sweep,
    "transferability": transferability,
    "verify": verify,
}
