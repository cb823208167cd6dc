"""``jaxtl show-batch``: what the network is trained on, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxtl.cli_options import LabelColumn, LabelSeparator, PathColumn, Task, labels_of


def show_batch(
    data: Annotated[str, typer.Argument(help="The images, such as folder:path/to/images.")],
    output: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("batch.png"),
    size: Annotated[int, typer.Option(min=1, help="Input size in pixels.")] = 224,
    augment: Annotated[str, typer.Option(help="auto, none, light, medium, strong or glyph.")] = "auto",
    count: Annotated[int, typer.Option(min=1, max=100, help="How many images.")] = 16,
    epoch: Annotated[int, typer.Option(min=0, help="Of which epoch; each has its own order and variants.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the order and of what is random.")] = 0,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    task: Task = None,
) -> None:
    """Draw a batch of training images, augmented as in training, with their classes."""
    from contextlib import closing

    import numpy as np

    import jaxtl
    from jaxtl.report.contact_sheet import contact_sheet

    labels = labels_of(path_column, label_column, label_separator, task)
    images = jaxtl.open_data(data, jaxtl.Preprocess(size=(size, size)), augment=augment, seed=seed, **labels)
    with closing(images.train_batches(count, seed, epoch * images.steps_per_epoch(count))) as batches:
        batch = next(batches)
    captions = [_caption(label, images.classes) for label in np.asarray(batch["label"])]
    title = f"{data}, augmentation {augment}, {size} pixels, epoch {epoch}, seed {seed}"
    typer.echo(f"{len(captions)} images: {contact_sheet(np.asarray(batch['image']), captions, output, title)}")


def _caption(label: object, classes: tuple[str, ...]) -> str:
    import numpy as np

    values = np.asarray(label)
    if values.ndim == 0:
        return classes[int(values)]
    if np.isin(values, (0, 1)).all():
        return ", ".join(name for name, answer in zip(classes, values, strict=True) if answer) or "none"
    return ", ".join(f"{name} {value:.3g}" for name, value in zip(classes, values, strict=True))
