"""Plain JPEG files have Pillow's pixels without Pillow, and whatever is wrong or unusual is left to it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from local_files import shared
from PIL import Image

from jaxtl.data import jpeg
from jaxtl.data.images import decode_image, decode_pixels, image_size, read_image, read_pixels
from jaxtl.errors import InputError


def saved(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def quick(data: bytes, channels: int = 3) -> np.ndarray | None:
    shape = jpeg.plain_shape(data)
    return None if shape is None else jpeg.plain_pixels(data, shape[2], channels)


def by_pillow(data: bytes, mode: str = "RGB") -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("size", [(64, 48), (37, 23), (1, 1), (8, 300)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 30},
        {"progressive": True},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"keep_rgb": True},
        {"restart_marker_blocks": 2},
        {"icc_profile": bytes(900), "comment": "a photograph"},
        {"exif": turned(1)},
    ],
    ids=lambda options: "-".join(options) or "usual",
)
def test_pixels_are_pillows(noise, size, options):
    for image in (noise(*size), Image.linear_gradient("L").resize(size).convert("RGB")):
        data = saved(image, **options)
        np.testing.assert_array_equal(quick(data), by_pillow(data))


def test_grey_files(noise):
    data = saved(noise(31, 20, "L"))
    np.testing.assert_array_equal(quick(data), by_pillow(data))
    np.testing.assert_array_equal(quick(data, channels=1)[:, :, 0], by_pillow(data, "L"))


def test_what_is_left_to_pillow(noise, tmp_path):
    image = noise(40, 30)
    assert quick(saved(image.convert("CMYK"))) is None
    assert quick(saved(image), channels=1) is None  # Pillow weighs the colours, a JPEG file's own grey is another
    assert [quick(saved(image, exif=turned(number))) for number in range(2, 9)] == [None] * 7
    assert quick(saved(image)[:20]) is None
    assert quick(b"") is None
    for number, shape in [(1, (30, 40, 3)), (6, (40, 30, 3))]:
        (tmp_path / "photo.jpg").write_bytes(saved(image, exif=turned(number)))
        assert read_pixels(tmp_path / "photo.jpg").shape == shape
        assert image_size(tmp_path / "photo.jpg") == shape[1::-1]
        assert read_pixels(tmp_path / "photo.jpg", channels=1).shape == (*shape[:2], 1)
        assert read_pixels(tmp_path / "photo.jpg", at_least=10).shape == (shape[0] // 2, shape[1] // 2, 3)


def test_a_file_that_ends_too_early_is_refused_as_ever(noise, tmp_path):
    data = saved(noise(60, 50))
    for end in (*range(2, len(data) - 1, 97), len(data) - 2, len(data) - 1):
        with pytest.raises(InputError):
            decode_pixels(data[:end], "an image")
        (tmp_path / "cut.jpg").write_bytes(data[:end])
        with pytest.raises(InputError, match=r"cut\.jpg.*replace it or delete it"):
            read_pixels(tmp_path / "cut.jpg")


def test_damage_changes_no_answer_and_prints_nothing(noise, capfd):
    rng = np.random.default_rng(0)
    whole = [saved(noise(48, 32)), saved(noise(48, 32), progressive=True), saved(noise(48, 32, "L"))]
    quickly = 0
    for number in range(600):
        data = bytearray(whole[number % 3])
        for place in rng.integers(2, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        if (found := quick(bytes(data))) is not None:
            quickly += 1
            np.testing.assert_array_equal(found, by_pillow(bytes(data)))
    assert 50 < quickly < 550
    assert capfd.readouterr() == ("", "")


def test_pictures_and_pixels_are_the_same(noise, tmp_path):
    for name, image in [("a.jpg", noise(40, 30)), ("b.png", noise(40, 30)), ("c.jpg", noise(40, 30, "L"))]:
        image.save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        for channels in (1, 3):
            picture = read_image(tmp_path / name, channels)
            assert picture.mode == ("L" if channels == 1 else "RGB")
            expected = np.asarray(picture).reshape(30, 40, channels)
            np.testing.assert_array_equal(read_pixels(tmp_path / name, channels), expected)
            np.testing.assert_array_equal(decode_pixels(data, name, channels), expected)
            assert decode_image(data, name, channels).mode == picture.mode


@pytest.mark.parametrize("folder", ["flowers", "hymenoptera", "eurosat"])
def test_photographs(folder):
    files = sorted(file for file in shared(f"data/{folder}").rglob("*") if file.suffix in (".jpg", ".jpeg"))
    for file in files[:: max(1, len(files) // 60)]:
        data = file.read_bytes()
        np.testing.assert_array_equal(quick(data), by_pillow(data))
