"""``jaxtl check``: what is wrong with images, before anything is trained on them."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxtl.cli_options import Channels, LabelColumn, LabelSeparator, PathColumn, Task, labels_of

MENDED_FIRST = 2


def check(
    data: Annotated[str, typer.Argument(help="The images, such as folder:path/to/images.")],
    channels: Channels = 3,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    task: Task = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at every image and say what is wrong; exit code 2 when something must be mended."""
    import os

    from jaxtl.studies.check import check as run

    labels = labels_of(path_column, label_column, label_separator, task)
    found = run(data, channels=channels, threads=min(16, os.cpu_count() or 1), **labels)
    if json:
        from json import dumps

        typer.echo(dumps(found.record(), indent=2, ensure_ascii=False))
    else:
        typer.echo(found)
    if not found.fine:
        raise typer.Exit(MENDED_FIRST)
