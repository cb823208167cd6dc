"""The command line: each command gathers its arguments, calls one part of jaxtl and prints what comes back.

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import jaxtl
from jaxtl.cli_cache import cache
from jaxtl.cli_check import check
from jaxtl.cli_data import show_batch
from jaxtl.cli_options import LabelColumn, LabelSeparator, ModelName, PathColumn, Task, TestTime, Weights, labels_of
from jaxtl.cli_predict import predict
from jaxtl.cli_studies import COMMANDS, Config, Overrides
from jaxtl.errors import InputError, nearest
from jaxtl.judged import in_words, said

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
_CONTINUED = {"train": "; if the run has an output, --resume continues it"} | dict.fromkeys(
    ("compare", "sweep", "transferability"), "; the same command continues where it stopped"
)


class _Stopped(Exception):
    """Carries what stopped a command past typer, which prints "Aborted!" for any of them."""

    def __init__(self, command: str | None, cause: BaseException) -> None:
        super().__init__(command)
        self.command = command
        self.cause = cause


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, EOFError) as cause:
            raise _Stopped(ctx.invoked_subcommand, cause) from cause


app = typer.Typer(
    name="jaxtl",
    cls=_Commands,
    help="Transfer learning for vision on JAX and Flax.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jaxtl {jaxtl.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; works anywhere.")] = False,
) -> None:
    pass


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="Folder for models, histories and plots.")] = Path("out/quickstart"),
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each strategy.")] = 3,
) -> None:
    """Compare the ways to teach a network of letters digits.

    Takes a small network that was trained on letters, adapts it to handwritten digits, and draws the curves. Offline,
    in minutes.
    """
    from jaxtl.studies.quickstart import run

    run(output, seeds)


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="A shell pattern such as 'resnet*'.")] = "*",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Leave out names without weights.")] = False,
) -> None:
    """List the models that can be loaded."""
    names = jaxtl.list_models(pattern, pretrained=pretrained)
    if not names:
        architectures = {name.partition(".")[0] for name in jaxtl.list_models()}
        raise InputError(f"no model is called {pattern!r}{nearest(pattern, architectures)}")
    typer.echo("\n".join(names))


@app.command()
def explain(config: Config, overrides: Overrides = None) -> None:
    """Show what a recipe would train.

    For each stage: group, learning rate, weight decay, BatchNorm mode, parameters and bytes.
    """
    from jaxtl.recipe import load_recipe

    recipe = load_recipe(config, overrides or ())
    from jaxtl.train.run import prepare

    prepared = prepare(recipe)
    if recipe.recalibrate:
        typer.echo("before training: the statistics of all BatchNorms are taken from the training images")
    if prepared.recipe.linear_probe:
        typer.echo("before training: the head is fitted to the features by logistic regression")
    phases = prepared.recipe.all_phases
    for number, (phase, optimizer) in enumerate(zip(phases, prepared.optimizers, strict=True), 1):
        explanation = jaxtl.explain(prepared.model, optimizer, batch_norm=recipe.batch_norm)
        if len(phases) > 1:
            typer.echo(f"phase {number} of {len(phases)}: {phase.epochs} epoch{'s' * (phase.epochs != 1)}")
        if number < len(phases):
            explanation = replace(explanation, notes=())
        typer.echo(explanation)


@app.command()
def train(
    config: Config,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run from its output.")] = False,
) -> None:
    """Train as a recipe says."""
    from jaxtl.recipe import load_recipe

    recipe = load_recipe(config, overrides or ())
    from jaxtl.train.run import train as run

    result = run(recipe, resume=resume)
    best = f"best validation {said(result.best)} in epoch {result.best['epoch']}"
    typer.echo(f"{best}; written to {result.output}" if result.output else best)


@app.command("eval")
def eval_(
    model: ModelName,
    data: Annotated[str, typer.Argument(help="The images, such as folder:path/to/images.")],
    weights: Weights = None,
    size: Annotated[int | None, typer.Option(min=1, help="Input size in pixels, in place of the weights' own.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 64,
    val_fraction: Annotated[
        float | None,
        typer.Option(help="Part held out, 1: all; default: as in training, of other images all, of unknown ones 0.2."),
    ] = None,
    split_file: Annotated[
        Path | None, typer.Option(help="The split.json of a run; default: as the model was trained.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the split; default: as in training, else 0.")] = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    task: Task = None,
    tta: TestTime = None,
) -> None:
    """Measure a model's accuracy on validation images.

    Of the images that it was trained on these are the ones that were held out then; of others all, unless they have a
    split of their own.
    """
    from jaxtl.pretrained.source import model_of
    from jaxtl.train.held_out import open_held_out

    model = model_of(model)
    sized: dict[str, Any] = {} if size is None else {"img_size": size}
    network = jaxtl.load(model, weights=weights or "default", **sized)
    images = open_held_out(
        network,
        weights or model,
        data,
        val_fraction=val_fraction,
        split_file=split_file,
        seed=seed,
        **labels_of(path_column, label_column, label_separator, task),
    )
    measured = jaxtl.evaluate(network, images, batch_size=batch_size, split="val", tta=tta)
    typer.echo(_measured(measured))


app.command()(predict)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="The output of a run, a folder saved by jaxtl, or a model's name.")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    format: Annotated[str, typer.Option(help="timm, torch, jaxtl or stablehlo.")] = "timm",
) -> None:
    """Write a model for others: for timm and the hub, as a torch state dict, or as a program for JAX alone."""
    from jaxtl.pretrained.export import export_run

    folder = export_run(model, output, format)
    typer.echo(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A folder that 'jaxtl export' wrote.")],
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the Hugging Face hub; made where it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new one for its owner alone.")] = False,
) -> None:
    """Upload an exported model to the Hugging Face hub."""
    from jaxtl.pretrained.push import push as upload

    typer.echo(upload(folder, repository, private=private))


app.command()(cache)
app.command()(show_batch)
app.command()(check)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def _measured(metrics: dict[str, Any]) -> str:
    """
    >>> _measured({"loss": 0.25, "accuracy": 0.75, "macro_f1": 0.5, "correct": 3, "count": 4})
    'accuracy 75.00 % (3 of 4), loss 0.2500; macro f1 0.5000'
    >>> _measured({"loss": 0.25, "mae": 0.5, "count": 4})
    'loss 0.2500 (4 images); mae 0.5000'
    """
    first = f"loss {metrics['loss']:.4f} ({metrics['count']} images)"
    if "accuracy" in metrics:
        right = f"{metrics['correct']:g} of {metrics['count']}"
        first = f"accuracy {_percent(metrics['accuracy'])} ({right}), loss {metrics['loss']:.4f}"
    further = [name for name in metrics if name not in ("loss", "accuracy", "correct", "count")]
    return f"{first}; {', '.join(f'{in_words(name)} {metrics[name]:.4f}' for name in further)}"


def _percent(part: float) -> str:
    return f"{100 * part:.2f} %"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit code.

    >>> main(["--version"])
    jaxtl 0.1.0
    0
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own chatter on standard error, from warnings down
    try:
        app([word for word in words if word != "--debug"], prog_name="jaxtl")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except Exception as error:
        cause = error.cause if isinstance(error, _Stopped) else error
        if debug:
            import traceback

            traceback.print_exception(cause)
        message, code = _report(cause, error.command if isinstance(error, _Stopped) else None)
        typer.echo(message, err=True)
        return code
    return 0


def _report(cause: BaseException, command: str | None) -> tuple[str, int]:
    if isinstance(cause, KeyboardInterrupt):
        return "interrupted" + (_CONTINUED.get(command or "", "")), INTERRUPTED
    if isinstance(cause, InputError):
        return f"error: {cause}", BAD_INPUT
    first_line = str(cause).strip().partition("\n")[0]
    kind = type(cause).__name__
    return f"error: {kind}{': ' if first_line else ''}{first_line} (the traceback: --debug)", FAILED
