"""``jaxtl show-batch``: what the network is trained on, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxtl.cli_options import Channels, LabelColumn, LabelSeparator, PathColumn, Task, labels_of


def show_batch(
    data: Annotated[str, typer.Argument(help="The images, such as folder:path/to/images.")],
    output: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("batch.png"),
    size: Annotated[int, typer.Option(min=1, help="Input size in pixels.")] = 224,
    augment: Annotated[str, typer.Option(help="auto, none, light, medium, strong or glyph.")] = "auto",
    channels: Channels = 3,
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
    from jaxtl.data.augment import PRESETS
    from jaxtl.report.contact_sheet import contact_sheet

    images = jaxtl.open_data(
        data,
        jaxtl.Preprocess(size=(size, size)).with_channels(channels),
        augment=augment,
        seed=seed,
        threads=0,  # and no look at all images, nor a copy of them: what is not drawn need not be decoded
        storage="stream",
        max_bad=None,
        **labels_of(path_column, label_column, label_separator, task),
    )
    with closing(images.train_batches(count, seed, epoch * images.steps_per_epoch(count))) as batches:
        batch = next(batches)
    captions = [_caption(label, images.classes, images.task) for label in np.asarray(batch["label"])]
    (augmentation,) = (name for name, changes in PRESETS.items() if changes == images.augment)
    title = f"{data}, augmentation {augmentation}, {size} pixels, epoch {epoch}, seed {seed}"
    typer.echo(f"{len(captions)} images: {contact_sheet(np.asarray(batch['image']), captions, output, title)}")


def _caption(label: object, classes: tuple[str, ...], task: str | None) -> str:
    import numpy as np

    values = np.asarray(label)
    if values.ndim == 0:
        return classes[int(values)]
    if task == "regression":
        return ", ".join(f"{name} {value:.3g}" for name, value in zip(classes, values, strict=True))
    return ", ".join(name for name, answer in zip(classes, values, strict=True) if answer) or "none"
