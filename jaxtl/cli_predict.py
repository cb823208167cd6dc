"""``jaxtl predict``: a network's answers to image files, printed as they come."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxtl.cli_options import ModelName, TestTime, Weights
from jaxtl.errors import printable

NOT_ALL = 1
_AT_ONCE = 32


def predict(
    model: ModelName,
    images: Annotated[list[str], typer.Argument(help="Image files, or folders of them.")],
    weights: Weights = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 3,
    tta: TestTime = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name what is on images.

    Answers are printed as they come. Files that cannot be read are named at the end, and the exit code is 1 then.
    """
    import sys
    from contextlib import closing

    import jaxtl
    from jaxtl.data.progress import tracked
    from jaxtl.pretrained.source import model_of
    from jaxtl.train.predict import batches, check_files, files_of

    check_files([Path(image) for image in images])
    network = jaxtl.load(model_of(model), weights=weights or "default")
    files = files_of(network, images)
    problems: list[str] = []

    def answers() -> Generator[Mapping[str, Any]]:
        parts, count = batches(network, files, _AT_ONCE), -(-len(files) // _AT_ONCE)
        with closing(tracked(parts, count, "looking at the images", not sys.stdout.isatty())) as shown:
            for part in shown:
                problems.extend(part.problems)
                yield from part.answers(network, top, tta)

    try:
        with closing(answers()) as found:
            _print_json(found) if json else _print_lines(found)
    finally:
        for problem in problems:
            typer.echo(printable(f"error: {problem}"), err=True)
    if problems:
        raise typer.Exit(NOT_ALL)


def _print_lines(answers: Iterable[Mapping[str, Any]]) -> None:
    for image in answers:
        numbers = [f"{name} {value:g}" for name, value in image.get("values", {}).items()]
        named = [f"{label} {100 * p:.2f} %" for label, p in image.get("top", ())]
        typer.echo(printable(f"{image['path']}: {', '.join(numbers or named)}"))


def _print_json(answers: Iterable[Mapping[str, Any]]) -> None:
    """A list, whose end is written where the answers end early too."""
    from json import dumps
    from textwrap import indent

    first = before = "[\n"
    try:
        for image in answers:
            typer.echo(before + printable(indent(dumps(image, indent=2, ensure_ascii=False), "  ")), nl=False)
            before = ",\n"
    finally:
        if before != first:
            typer.echo("\n]")
    if before == first:
        typer.echo("[]")
