"""Options that several commands share: the network, how images are read, and the images and labels of a table found."""

from __future__ import annotations

from typing import Annotated, Any

import typer

ModelName = Annotated[
    str, typer.Argument(help="The output of a run, a folder saved by jaxtl, or a name that 'jaxtl list' shows.")
]
Weights = Annotated[
    str | None, typer.Option(help="A .safetensors or .pth file or a folder, in place of the name's own.")
]
TestTime = Annotated[
    str | None, typer.Option(metavar="flip|crops", help="Average the probabilities of variants of each image.")
]
Channels = Annotated[int, typer.Option(min=1, help="Channels of the images, 6 for pictures of six bands.")]
PathColumn = Annotated[
    str | None,
    typer.Option(help="The column of image paths, or of images; of shards their extension. Default: by usual names."),
]
LabelColumn = Annotated[
    list[str] | None,
    typer.Option(help="The column of labels; several times: several columns. Default: by usual names."),
]
LabelSeparator = Annotated[str | None, typer.Option(help="Between the labels of an image in one cell; default: ';'.")]
Task = Annotated[
    str | None, typer.Option(help="What labels are: class, multi-label or regression; default: told by them.")
]


def labels_of(
    path_column: str | None, label_column: list[str] | None, label_separator: str | None, task: str | None
) -> dict[str, Any]:
    """Those that were given, as keywords of ``jaxtl.open_data``.

    >>> labels_of("id", ["x", "y"], None, None)
    {'path_column': 'id', 'label_column': ['x', 'y']}
    """
    given = {
        "path_column": path_column,
        "label_column": label_column or None,
        "label_separator": label_separator,
        "task": task,
    }
    return {name: value for name, value in given.items() if value is not None}
