"""Images side by side with a line of text below each, as a PNG."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import printable
from jaxtl.report import drawing
from jaxtl.report.fonts import drawable

_CELL = 1.7  # inches
_TEXT = 28  # characters that fit below an image
_TITLE = 13  # characters of the title that fit into an inch
_LINE = 0.15  # inches


def contact_sheet(
    images: Sequence[np.ndarray] | np.ndarray, captions: Sequence[str], path: str | os.PathLike[str], title: str = ""
) -> Path:
    """Writes the sheet, as near to a square as the number of images allows; its folder is made where it is missing.

    Args:
        images: uint8 (height, width, channels) each. Of two channels or more than three the first or the first three
            are shown.
        captions: one for each; what is too long is shortened.
        path: the PNG file.
        title: above all, in as many lines as it takes.

    >>> import tempfile
    >>> contact_sheet(np.zeros((3, 8, 8, 3), np.uint8), ["a", "b", "c"], tempfile.mkdtemp() + "/new/sheet.png").name
    'sheet.png'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width = _CELL * columns
    lines = textwrap.wrap(drawable(printable(title)), int(_TITLE * width))
    height = (_CELL + 0.25) * rows + 0.25 + _LINE * len(lines)
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels: list[Any] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    for axes, image, caption in zip(panels, images, captions, strict=False):
        shown = image[:, :, :3] if image.shape[2] >= 3 else image[:, :, 0]
        axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(_shortened(drawable(printable(caption))), fontsize=7, y=-0.14, parse_math=False)
    figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left", parse_math=False)
    return drawing.save(figure, path)


def _shortened(text: str) -> str:
    """Both ends, since names of classes may differ in either.

    >>> _shortened("a" * 20 + "b" * 20)
    'aaaaaaaaaaaaaa…bbbbbbbbbbbbb'
    """
    return text if len(text) <= _TEXT else f"{text[: _TEXT // 2]}…{text[1 - _TEXT // 2 :]}"
