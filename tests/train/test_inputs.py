"""Validation images stay where the training images are."""

from __future__ import annotations

from contextlib import closing

import jax
import numpy as np
import pytest

import jaxtl
from jaxtl.train.inputs import ImageInputs


@pytest.mark.parametrize("storage", ["device", "stream"])
def test_validation_batches(storage: str) -> None:
    model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1)
    data = jaxtl.open_data("digits", model, augment="glyph", storage=storage)
    with closing(ImageInputs(data, jaxtl.Recipe(eval_batch_size=100), 0)) as inputs:
        twice = [list(inputs.validation()) for _ in range(2)]
    assert (twice[0][0]["image"] is twice[1][0]["image"]) == (storage == "device")
    assert isinstance(twice[0][0]["image"], jax.Array) == (storage == "device")
    for found in twice:
        for batch, expected in zip(found, data.eval_batches(100), strict=True):
            for name in ("image", "label", "mask"):
                np.testing.assert_array_equal(batch[name], expected[name])
