"""Broken and odd image files, each with what should be read of it: four coloured quarters, or a sentence.

Most of them hold `QUARTERS`, 24x16 pixels: red and green above, blue and white below.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
SIZE = (24, 16)
_ROTATE_90, _ROTATE_270 = Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270
_LYING_DOWN = {  # what a camera does to an upright picture before it writes that orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: _ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: _ROTATE_270,
}
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Odd:
    """A file, how it is made, and what reading it as RGB should give.

    Attributes:
        file: its name.
        make: writes it.
        colours: in the middle of the quarters, row by row.
        message: a regular expression for the sentence, in place of colours.
        near: how far colours may be off.
        size: width and height, upright.
    """

    file: str
    make: Callable[[Path], object]
    colours: tuple[Colour, Colour, Colour, Colour] = (RED, GREEN, BLUE, WHITE)
    message: str | None = None
    near: int = 0
    size: tuple[int, int] = SIZE


def quarters(mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", SIZE, WHITE)
    for colour, place in ((RED, (0, 0)), (GREEN, (12, 0)), (BLUE, (0, 8))):
        image.paste(colour, (*place, place[0] + 12, place[1] + 8))
    return image.convert(mode)


def levels(*values: int, dtype: type = np.uint8) -> np.ndarray:
    """Four quarters of grey."""
    return np.kron(np.array(values, dtype).reshape(2, 2), np.ones((8, 12), dtype)).astype(dtype)


def grey(*values: int) -> tuple[Colour, Colour, Colour, Colour]:
    first, second, third, fourth = ((value, value, value) for value in values)
    return first, second, third, fourth


def saved(mode: str = "RGB", image: Image.Image | None = None, **options: object) -> Callable[[Path], object]:
    return lambda path: (image or quarters(mode)).save(path, **options)


def moving(format: str | None = None, **options: object) -> Callable[[Path], object]:
    """With two black pictures behind the coloured one."""
    black = [Image.new("RGB", SIZE, BLACK) for _ in range(2)]
    return lambda path: quarters().save(path, format, save_all=True, append_images=black, **options)


def encoded(format: str, mode: str = "RGB", image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or quarters(mode)).save(buffer, format, **options)
    return buffer.getvalue()


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def half(format: str, **options: object) -> Callable[[Path], object]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = encoded(format, image=noise, **options)
    return holding(whole[: len(whole) // 2])


def exif(orientation: int, kind: str = "jpg") -> Odd:
    turn = _LYING_DOWN.get(orientation)
    image = quarters() if turn is None else quarters().transpose(turn)
    block = Image.Exif()
    block[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "jpg" else {}
    return Odd(f"exif{orientation}.{kind}", saved(image=image, exif=block, **options), near=4)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    pixels: np.ndarray, *, interlaced: bool = False, size: tuple[int, int] | None = None, clear: tuple[int, ...] = ()
) -> bytes:
    """A PNG of uint8 or uint16 grey or RGB pixels, which Pillow cannot write in these forms."""
    height, width = pixels.shape[:2]
    wide = pixels.dtype.newbyteorder(">")
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for top, left, down, across in steps if interlaced else [(0, 0, 1, 1)]:
        for row in pixels[top::down, left::across]:
            rows += b"\0" + row.astype(wide).tobytes() if row.size else b""
    kind = 2 if pixels.ndim == 3 else 0
    shown = size or (width, height)
    extra = chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)) if clear else b""
    header = struct.pack(">IIBBBBB", *shown, 8 * pixels.itemsize, kind, 0, 0, int(interlaced))
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def white_is_zero(pixels: np.ndarray, pages: int = 1) -> bytes:
    """A TIFF file of grey whose 0 is white, which Pillow does not write."""
    height, width = pixels.shape
    values = pixels.tobytes()
    content = b"II*\0"
    for _ in range(pages):
        start = len(content) + 4
        tags = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 1, 262: 0, 273: start, 277: 1, 278: height}
        tags[279] = len(values)
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        content += struct.pack("<I", start + len(values)) + values + struct.pack("<H", len(tags)) + entries
    return content + bytes(4)


def written(pixels: np.ndarray) -> Callable[[Path], object]:
    return lambda path: Image.fromarray(pixels).save(path)


def palette_with_clear_red() -> Image.Image:
    image = quarters().quantize(4)
    image.info["transparency"] = image.getpixel((6, 4))
    return image


def clear_left() -> Image.Image:
    image = quarters("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 12, 16))
    return image


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(path.with_name(target))


def linked(path: Path) -> None:
    quarters().save(path.with_name("real.png"))
    path.symlink_to(path.with_name("real.png"))


def closed(path: Path) -> None:
    quarters().save(path)
    path.chmod(0)


def lab(path: Path) -> None:
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    ImageCms.applyTransform(quarters(), to_lab).save(path)


_QUALITY = {"quality": 95, "subsampling": 0}
_ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_JPEG = encoded("JPEG", **_QUALITY)
_PNG = encoded("PNG")
_RGB = np.asarray(quarters())
_BITS = Image.fromarray(levels(0, 255, 255, 0)).convert("1")
_GREY = levels(0, 1, 128, 255)
_SIXTEEN, _TWELVE, _EIGHT = (
    levels(*values, dtype=np.uint16) for values in ((0, 256, 32768, 65535), (0, 16, 2048, 4095), (0, 1, 128, 255))
)
_UPPER = grey(0, 1, 128, 255)
_WHITE_LEFT = (WHITE, GREEN, WHITE, WHITE)
_NO_RED = (WHITE, GREEN, BLUE, WHITE)
_NAMES = ("with some space", "Gänseblümchen", "雛菊", "😀", "a'b\"c", "-n", "a\nb")
_CANNOT = "cannot identify it as an image"

ZOO = [
    # JPEG
    Odd("plain.jpg", saved(**_QUALITY), near=4),
    Odd("progressive.jpg", saved(progressive=True, **_QUALITY), near=4),
    Odd("grey.jpg", saved("L", **_QUALITY), grey(76, 150, 29, 255), near=4),
    Odd("cmyk.jpg", saved("CMYK", **_QUALITY), near=6),  # Adobe's, inverted
    Odd("icc.jpg", saved(icc_profile=_ICC, **_QUALITY), near=4),
    Odd("UPPER.JPG", holding(_JPEG), near=4),
    Odd("no end.jpg", holding(_JPEG[:-2]), message="truncated"),
    Odd("more behind.jpg", holding(_JPEG + bytes(1000)), near=4),
    Odd("garbage in front.jpg", holding(bytes(16) + _JPEG), message=_CANNOT),
    Odd("half.jpg", half("JPEG"), message="truncated.*replace it or delete it"),
    Odd("half progressive.jpg", half("JPEG", progressive=True), message="truncated"),
    Odd("header alone.jpg", holding(_JPEG[:4]), message="replace it or delete it"),
    Odd("mpo.jpg", moving("MPO", **_QUALITY), near=4),
    Odd("mpo.mpo", moving(**_QUALITY), near=4),
    # the way up
    *(exif(orientation) for orientation in range(1, 9)),
    *(exif(orientation, kind) for kind in ("png", "tif", "webp") for orientation in (3, 6)),
    exif(0),
    exif(9),
    Odd("corrupt exif.jpg", saved(exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(20), **_QUALITY), near=4),
    Odd("nonsense exif.png", saved(exif=b"Exif\0\0nonsense")),
    # PNG
    Odd("plain.png", holding(_PNG)),
    Odd("interlaced.png", holding(png(_RGB, interlaced=True))),
    Odd("palette.png", saved(image=quarters().quantize(4))),
    Odd("clear palette.png", saved(image=palette_with_clear_red()), _NO_RED),
    Odd("alpha.png", saved(image=clear_left()), _WHITE_LEFT),
    Odd("grey alpha.png", saved(image=clear_left().convert("LA")), grey(255, 150, 255, 255), near=1),
    Odd("clear colour.png", holding(png(_RGB, clear=RED)), _NO_RED),
    Odd("clear grey.png", holding(png(levels(7, 8, 9, 7), clear=(7,))), grey(255, 8, 9, 255)),
    Odd("bits.png", saved(image=_BITS), grey(0, 255, 255, 0)),
    Odd("grey.png", written(_GREY), _UPPER),
    Odd("16 bits.png", written(_SIXTEEN), _UPPER),
    Odd("12 bits.png", written(_TWELVE), _UPPER),
    Odd("8 of 16 bits.png", written(_EIGHT), _UPPER),
    Odd("clear 16 bits.png", holding(png(_SIXTEEN, clear=(256,))), grey(0, 255, 128, 255)),
    Odd("colours of 16 bits.png", holding(png(_RGB.astype(np.uint16) * 257))),
    Odd("icc.png", saved(icc_profile=_ICC)),
    Odd("moving.png", moving()),
    Odd("really png.jpg", holding(_PNG)),
    Odd("really png.gif", holding(_PNG)),
    Odd("half.png", half("PNG"), message="truncated|replace it"),
    Odd("wrong checksum.png", holding(_PNG[:29] + b"\0\0\0\0" + _PNG[33:]), message="replace it or delete it"),
    Odd("damaged.png", holding(_PNG[:45] + b"\xff\xfe\xfd" + _PNG[48:]), message="replace it or delete it"),
    Odd("no pixels.png", holding(png(_RGB, size=(0, 16))), message="replace it or delete it"),
    Odd("bomb.png", holding(png(_RGB, size=(50_000, 50_000))), message="has 2500 megapixels, more than the 89"),
    Odd("small bomb.png", holding(png(_RGB, size=(10_000, 10_000))), message="has 100 megapixels, more than the 89"),
    # GIF, WebP, BMP
    Odd("plain.gif", saved()),
    Odd("moving.gif", moving()),
    Odd("clear.gif", saved(image=clear_left()), _WHITE_LEFT),
    Odd("half.gif", half("GIF"), message="truncated|replace it"),
    Odd("lossy.webp", saved(quality=95), near=40),
    Odd("lossless.webp", saved(lossless=True)),
    Odd("clear.webp", saved(image=clear_left(), lossless=True), _WHITE_LEFT),
    Odd("moving.webp", moving(lossless=True)),
    Odd("half.webp", half("WEBP"), message="replace it or delete it"),
    Odd("plain.bmp", saved()),
    Odd("bits.bmp", saved(image=_BITS), grey(0, 255, 255, 0)),
    Odd("half.bmp", half("BMP"), message="truncated"),
    Odd("small.avif", saved(quality=95, subsampling="4:4:4"), near=12),
    # TIFF
    Odd("plain.tif", saved()),
    Odd("deflated.tiff", saved(compression="tiff_adobe_deflate")),
    Odd("group 4.tif", saved(image=_BITS, compression="group4"), grey(0, 255, 255, 0)),
    Odd("pages.tif", moving()),
    Odd("cmyk.tif", saved("CMYK")),
    Odd("ycbcr.tif", saved("YCbCr"), near=3),
    Odd("lab.tif", lab, near=25),
    Odd("16 bits.tif", written(_SIXTEEN), _UPPER),
    Odd("12 bits.tif", written(_TWELVE), _UPPER),
    Odd("zero is white.tif", holding(white_is_zero(255 - _GREY)), _UPPER),
    Odd("zero of 16 bits is white.tif", holding(white_is_zero(65535 - _SIXTEEN)), _UPPER),
    Odd("zero of 12 bits is white.tif", holding(white_is_zero(4095 - _TWELVE)), _UPPER),
    Odd("32 bits.tif", written(levels(0, 256, 32768, 65535, dtype=np.int32)), _UPPER),
    Odd("heights.tif", written(levels(0, 1, 2, -1000, dtype=np.int32)), message="pixels below 0, such as -1000"),
    Odd("counts.tif", written(levels(0, 1, 2, 10**6, dtype=np.int32)), message="more than 16 bits, such as 1000000"),
    Odd("float.tif", written(levels(0, 1, 2, 3, dtype=np.float32)), message="floating-point pixels have no"),
    Odd("half.tif", half("TIFF"), message="replace it or delete it|truncated"),
    # the rest of the family
    Odd("letters.ppm", holding(b"P3 2 2 255 255 0 0 0 255 0 0 0 255 255 255 255\n"), size=(2, 2)),
    Odd("12 bits.pgm", holding(b"P2 2 2 4095 0 16 2048 4095\n"), _UPPER, size=(2, 2), near=1),
    # no images
    Odd("empty.jpg", holding(b""), message="the file is empty"),
    Odd("one byte.png", holding(b"\x89"), message=_CANNOT),
    Odd("text.jpg", holding(b"not an image at all"), message=_CANNOT),
    Odd("page.jpg", holding(b"\n<!DOCTYPE html>\n<html><body>404</body></html>"), message="it holds a web page"),
    Odd("drawing.png", holding(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), message="it holds an SVG drawing"),
    Odd("paper.jpg", holding(b"%PDF-1.7\n"), message="it holds a PDF document"),
    Odd("pointer.jpg", holding(b"version https://git-lfs.github.com/spec/v1\noid x\n"), message="git lfs pull"),
    Odd("phone.jpg", holding(bytes(3) + b"\x18ftypheic" + bytes(20)), message="HEIC image, save it as JPEG"),
    Odd("program.jpg", holding(encoded("EPS")), message=_CANNOT),
    Odd("packed.png", holding(b"PK\x03\x04" + bytes(50)), message="zip archive"),
    Odd("folder.jpg", lambda path: path.mkdir(), message="it is a folder"),
    Odd("lost.jpg", link("nowhere.jpg"), message="is a link to a file that does not exist: delete it"),
    Odd("circle.jpg", link("circle.jpg"), message="is a link that leads back to itself: delete it"),
    Odd("absent.jpg", lambda path: None, message="does not exist"),
    Odd("closed.png", closed, message="permission denied"),
    # sizes and names
    Odd("link.png", linked),
    Odd("tiny.png", saved(image=Image.new("RGB", (1, 1), RED)), (RED,) * 4, size=(1, 1)),
    Odd("tall.png", saved(image=Image.new("RGB", (1, 5000), RED)), (RED,) * 4, size=(1, 5000)),
    Odd("wide.jpg", saved(image=Image.new("RGB", (5000, 1), RED), **_QUALITY), (RED,) * 4, size=(5000, 1), near=4),
    *(Odd(f"{name}.png", saved()) for name in _NAMES),
]  # fmt: skip
MAY_READ_ALL = hasattr(os, "geteuid") and os.geteuid() == 0
