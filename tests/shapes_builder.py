"""A small data set of TensorFlow Datasets, in a module of its own because builders look for their file."""

from __future__ import annotations

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def turned(index: int) -> io.BytesIO:
    """A JPEG file whose orientation has to be heeded."""
    image = Image.new("RGB", (8, 4), (10 * index, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    file.seek(0)
    return file


class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pytest may import this file twice
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=["square", "circle", "unused"]),
            "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=["big", "red"])),
            "age": tfds.features.Scalar(np.float32),
            "who": tfds.features.Text(),
            "name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(0, 12),
            "validation": self._generate_examples(12, 4),
            "test": self._generate_examples(16, 4),
        }

    def _generate_examples(self, start, count):
        for index in range(start, start + count):
            yield (
                index,
                {
                    "image": turned(index),
                    "label": index % 2,
                    "tags": [0, 1] if index % 3 else [],
                    "age": index / 2,
                    "who": f"person {index // 3}",
                    "name": "ab"[index % 2],
                },
            )
