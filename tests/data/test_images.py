"""Reading images of every kind that people have."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jaxtl.data.images import image_size, read_image
from jaxtl.data.modes import convert
from jaxtl.errors import InputError


def test_a_photograph_lying_on_its_side_is_turned(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.paste("red", (0, 0, 8, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise
    image.save(tmp_path / "phone.png", exif=exif)
    upright = read_image(tmp_path / "phone.png")
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 2)) == (255, 0, 0)
    assert upright.getpixel((10, 30)) == (0, 0, 0)


def test_the_size_of_a_png_is_known_without_its_pixels(tmp_path, noise, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(40, 20).save(tmp_path / "plain.png")
    noise(40, 20).save(tmp_path / "first.png", exif=exif)
    content = (tmp_path / "first.png").read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    last = content.index(b"IEND") - 4
    (tmp_path / "last.png").write_bytes(content[:start] + content[end:last] + content[start:end] + content[last:])
    (tmp_path / "cut.png").write_bytes((tmp_path / "plain.png").read_bytes()[:-20])
    assert image_size(tmp_path / "first.png") == image_size(tmp_path / "last.png") == (20, 40)
    assert read_image(tmp_path / "last.png").size == (20, 40)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", None)
    assert image_size(tmp_path / "plain.png") == (40, 20)
    assert image_size(tmp_path / "cut.png") is None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16"])
@pytest.mark.parametrize(("channels", "expected"), [(1, "L"), (3, "RGB")])
def test_every_mode_becomes_what_the_network_takes(mode, channels, expected):
    image = convert(Image.new(mode, (3, 2)), channels)
    assert (image.mode, image.size) == (expected, (3, 2))


def test_transparent_parts_lie_on_white():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, 1] = (200, 100, 0, 255)
    pixels[0, 2] = (0, 0, 0, 128)
    image = convert(Image.fromarray(pixels), 3)
    assert [image.getpixel((x, 0)) for x in range(3)] == [(255, 255, 255), (200, 100, 0), (127, 127, 127)]


def test_a_palette_with_a_transparent_colour_lies_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "icon.gif", transparency=0)
    image.save(tmp_path / "icon.png", transparency=b"\x00\xff")
    for name in ("icon.gif", "icon.png"):
        read = read_image(tmp_path / name)
        assert [read.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (40, 50, 60)]


def test_sixteen_bits_keep_their_upper_eight(tmp_path):
    Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16)).save(tmp_path / "scan.png")
    assert np.asarray(read_image(tmp_path / "scan.png", channels=1)).tolist() == [[0, 1, 128, 255]]


def test_what_has_no_known_range_is_refused(tmp_path):
    Image.new("F", (2, 2)).save(tmp_path / "heat.tif")
    with pytest.raises(InputError, match=r"heat\.tif.*floating-point"):
        read_image(tmp_path / "heat.tif")
    with pytest.raises(InputError, match="more than 16 bits"):
        convert(Image.fromarray(np.array([[70000]], np.int32)), 3)


def test_unreadable_files_are_named_with_the_remedy(tmp_path, noise):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    noise(50, 50).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:600])
    for name, reason in [("empty.jpg", "file is empty"), ("text.jpg", "cannot identify"), ("cut.jpg", "[Tt]runcated")]:
        with pytest.raises(InputError, match=rf"{name}.*{reason}.*replace it or delete it"):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        read_image(tmp_path / "absent.jpg")
