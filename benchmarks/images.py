"""Folders of small images that mean nothing, of any number."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 2
DISTINCT = 32  # images drawn for each class; all others are further names of the same files


def make_folder(root: Path, train: int, val: int, pixels: int) -> str:
    """``root/train/<class>`` and ``root/val/<class>`` with so many JPEGs in all; the folder's path.

    A class's images share a colour, so that they can be told apart. Names are many, files few: the disk holds at most
    ``DISTINCT`` files of each class, and reading is as fast as it gets.
    """
    for name, count in (("train", train), ("val", val)):
        for label in range(CLASSES):
            folder = root / name / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count // CLASSES):
                path = folder / f"{number:06d}.jpg"
                if number < DISTINCT:
                    _draw(label, number, pixels).save(path, quality=90)
                else:
                    os.link(folder / f"{number % DISTINCT:06d}.jpg", path)
    return str(root)


def _draw(label: int, number: int, pixels: int) -> Image.Image:
    generator = np.random.default_rng((label, number))
    coarse = generator.integers(0, 256, (4, 4, 3), np.uint8)
    coarse[..., label] = 255
    return Image.fromarray(coarse).resize((pixels * 5 // 4, pixels), Image.Resampling.BICUBIC)
