"""Image files and PIL images of any mode, made upright 8-bit images with one or three channels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from jaxtl.errors import InputError

# compared in lower case
EXTENSIONS = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_LYING = (5, 6, 7, 8)  # orientations whose upright image has width and height exchanged


def read_image(path: str | Path, channels: int = 3, at_least: int | None = None) -> Image.Image:
    """Reads an image file, turns it upright by its EXIF orientation and converts it as `convert` does.

    Torchvision's ``ImageFolder`` leaves a photograph lying on its side when only its EXIF tag says which way is up;
    here it is turned.

    Args:
        path: of the file.
        channels: 3 for RGB, 1 for greyscale.
        at_least: decode it reduced as `reduction` says, JPEG files by their own steps, which is several times faster
            than decoding them whole. None: whole.

    Raises:
        InputError: the file is missing, empty, truncated or no image.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "red.png"
    >>> Image.new("RGB", (4, 3), "red").save(path)
    >>> read_image(path).size, read_image(path, channels=1).mode
    ((4, 3), 'L')
    """
    try:
        return _opened(path, channels, at_least)
    except FileNotFoundError:
        raise InputError(f"image file '{path}' does not exist") from None
    except InputError as error:
        raise InputError(f"image file '{path}': {error}") from None
    except _UNREADABLE as error:
        empty = Path(path).is_file() and Path(path).stat().st_size == 0
        reason = "the file is empty" if empty else str(error)
        raise InputError(f"cannot read image file '{path}' ({reason}): replace it or delete it") from error


def decode_image(data: bytes, what: str, channels: int = 3, at_least: int | None = None) -> Image.Image:
    """The same for the bytes of an image file, wherever they come from.

    Args:
        data: of the file.
        what: the image, for people: where it lies.
        channels: 3 for RGB, 1 for greyscale.
        at_least: as in `read_image`.

    Raises:
        InputError: no bytes, or they are truncated or no image.

    >>> file = io.BytesIO()
    >>> Image.new("RGB", (4, 3), "red").save(file, "PNG")
    >>> decode_image(file.getvalue(), "the first image").size
    (4, 3)
    """
    try:
        return _opened(io.BytesIO(data), channels, at_least)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    except _UNREADABLE as error:
        reason = str(error) if data else "it has no bytes"
        raise InputError(f"cannot read {what} ({reason}): replace it or leave it out") from error


def _opened(file: str | Path | io.BytesIO, channels: int, at_least: int | None) -> Image.Image:
    with Image.open(file) as image:
        steps = 1 if at_least is None else reduction(image.size, at_least)
        before = image.size
        if at_least is not None and steps > 1:
            image.draft(None, (at_least, at_least))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    converted = convert(image, channels)
    drafted = round(max(before) / max(image.size))
    return converted if steps == drafted else converted.reduce(steps // drafted)


def image_size(file: str | Path | io.BytesIO) -> tuple[int, int] | None:
    """Width and height of the upright image, from the file's header; None where that cannot be read.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "red.png"
    >>> Image.new("RGB", (4, 3), "red").save(path)
    >>> image_size(path)
    (4, 3)
    """
    try:
        with Image.open(file) as image:
            width, height = image.size
            lying = image.getexif().get(ExifTags.Base.Orientation, 1) in _LYING
    except _UNREADABLE:
        return None
    return (height, width) if lying else (width, height)


def reduction(size: tuple[int, int], at_least: int) -> int:
    """The whole number by which an image of that size is reduced so that its short side keeps `at_least` pixels.

    A power of two up to 8, which JPEG files can be decoded at, times what is left.

    >>> [reduction((9999, side), 448) for side in (300, 895, 896, 1792, 3024, 9000)]
    [1, 1, 2, 4, 4, 16]
    """
    short = min(size)
    power = max(power for power in (1, 2, 4, 8) if power <= max(1, short // at_least))
    return power * max(1, short // power // at_least)


def reduced(image: Image.Image, at_least: int) -> Image.Image:
    """The image made smaller by `reduction`, every pixel the mean of those it replaces.

    >>> reduced(Image.new("RGB", (100, 50)), 20).size
    (50, 25)
    """
    steps = reduction(image.size, at_least)
    return image if steps == 1 else image.reduce(steps)


def convert(image: Image.Image, channels: int) -> Image.Image:
    """The image in mode "RGB" (three channels) or "L" (one channel).

    What is transparent (RGBA, LA, PA, a palette with a transparent colour) is laid over white. 16-bit greyscale keeps
    its upper eight bits, where PIL's own conversion may clip.

    Raises:
        InputError: for floating-point images, whose range nobody knows, and for other numbers of channels.

    >>> convert(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), 3).getpixel((0, 0))
    (255, 255, 255)
    """
    if channels not in (1, 3):
        raise InputError(f"an image can be given 1 or 3 channels, not {channels}: pass arrays for other numbers")
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise InputError("floating-point pixels have no known range: save it as an 8-bit or 16-bit image")
    if image.mode.startswith("I"):
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 0xFFFF:
            raise InputError("pixels of more than 16 bits: save it as an 8-bit or 16-bit image")
        image = Image.fromarray((wide >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        overlay = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", overlay.size, "white"), overlay)
    return image.convert("RGB").convert(mode)
