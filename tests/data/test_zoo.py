"""Every odd file is read as a person would see it, or refused in a sentence that names it."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from odd_images import MAY_READ_ALL, ZOO
from PIL import features

from jaxtl.data.images import image_size, quiet_pillow, read_image
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError


@pytest.mark.parametrize("odd", ZOO, ids=[re.sub(r"\s", "-", odd.file) for odd in ZOO])
def test_odd_files(odd, tmp_path):
    if odd.file == "closed.png" and MAY_READ_ALL:
        pytest.skip("whoever runs this may read every file")
    if odd.file.endswith(".avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / odd.file
    odd.make(path)
    with warnings.catch_warnings():
        warnings.resetwarnings()
        quiet_pillow()
        warnings.simplefilter("error", append=True)
        check(odd, path)


def check(odd, path):
    if odd.message is not None:
        for at_least in (None, 8):
            with pytest.raises(InputError) as error:
                read_image(path, at_least=at_least)
            assert str(path) in str(error.value)
            assert re.search(odd.message, str(error.value)), str(error.value)
            assert "\n" not in str(error.value)
        return
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", odd.size)
    assert image_size(path) == odd.size
    width, height = odd.size
    places = [(x * width // 4, y * height // 4) for y in (1, 3) for x in (1, 3)]
    found = np.array([image.getpixel(place) for place in places])
    np.testing.assert_allclose(found, np.array(odd.colours), atol=odd.near)
    assert read_image(path, channels=1).mode == "L"
    smaller = read_image(path, at_least=4)
    assert min(smaller.size) >= min(4, *odd.size)
    assert Preprocess(8)(smaller).shape == (8, 8, 3)


def test_the_zoo_is_large():
    assert len({odd.file for odd in ZOO}) == len(ZOO) >= 60


def test_the_limit_is_pillows_own(tmp_path, noise, monkeypatch):
    noise(100, 100).save(tmp_path / "a.jpg")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 9999)
    for at_least in (None, 8):  # a reduced JPEG takes no less care
        with pytest.raises(InputError, match="more than the 0 that are read"):
            read_image(tmp_path / "a.jpg", at_least=at_least)
    assert image_size(tmp_path / "a.jpg") is None
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", None)
    assert read_image(tmp_path / "a.jpg").size == (100, 100)
