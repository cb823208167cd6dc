"""Image files of any kind, read as upright 8-bit pictures."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from jaxtl.data import jpeg
from jaxtl.data.as_seen import LYING, as_seen, orientation
from jaxtl.data.band_files import npy_size, read_npy, read_pages
from jaxtl.data.bands import Picture, each_band, size_of, to_array
from jaxtl.data.modes import convert
from jaxtl.data.png_chunks import may_have_exif
from jaxtl.data.unreadable import check_size, unreadable
from jaxtl.errors import InputError, printable

File = Path | io.BytesIO
# compared in lower case
EXTENSIONS = frozenset(
    {
        ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm",
        ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
_DRAWN = ("BUFR", "EPS", "GRIB", "HDF5", "WMF")
_HEAD = 2**16  # bytes that hold all of a JPEG file but its pixels, most often


def quiet_pillow() -> None:
    """Ignores what Pillow warns of that is refused or does not matter here, unless a filter of anybody's says else."""
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.\w+ImagePlugin", append=True)
    maker_note, unknown = r"\s*Possibly corrupt EXIF", r"image file could not be identified"
    warnings.filterwarnings("ignore", f"{maker_note}|{unknown}", UserWarning, r"PIL\.Image", append=True)


quiet_pillow()


def extensions(channels: int) -> frozenset[str]:
    """Endings of the files that hold pictures of so many channels, in lower case: ``.npy`` beyond 1 and 3.

    >>> sorted(extensions(6) - extensions(3))
    ['.npy']
    """
    return EXTENSIONS if channels in (1, 3) else EXTENSIONS | {".npy"}


def read_image(path: str | Path, channels: int = 3, at_least: int | None = None) -> Picture:
    """Reads an image file, turns it upright by its EXIF orientation and converts it as `jaxtl.data.modes.convert` does.

    Torchvision's ``ImageFolder`` leaves a photograph lying on its side when only its EXIF tag says which way is up;
    here it is turned. Of animations the first frame is read. A corrupt EXIF block turns nothing. For other numbers of
    channels than 1 and 3 the bands of all pages of a TIFF file are laid one behind the other, and ``.npy`` files hold
    (height, width, channels) or (channels, height, width).

    Args:
        path: of the file.
        channels: 3 for RGB, 1 for greyscale, others for arrays of bands.
        at_least: decode it reduced as `reduction` says, JPEG files by their own steps, which is several times faster
            than decoding them whole. None: whole.

    Returns:
        a PIL image in mode "RGB" or "L", or uint8 (height, width, channels).

    Raises:
        InputError: the file is missing, empty, truncated or no image; it has more than ``PIL.Image.MAX_IMAGE_PIXELS``
            pixels (89 million, unless that was changed); its pixels cannot be converted.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "red.png"
    >>> Image.new("RGB", (4, 3), "red").save(path)
    >>> read_image(path).size, read_image(path, channels=1).mode
    ((4, 3), 'L')
    """
    path = Path(path)
    with _named(path):
        return _read_npy(path, channels, at_least) if _is_npy(path) else _picture(path, channels, at_least)


def read_pixels(path: str | Path, channels: int = 3, at_least: int | None = None) -> np.ndarray:
    """The pixels of that image, uint8 (height, width, channels); the arguments are those of `read_image`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "red.jpg"
    >>> Image.new("RGB", (4, 3), "red").save(path)
    >>> read_pixels(path).shape
    (3, 4, 3)
    """
    path = Path(path)
    with _named(path):
        return _read_npy(path, channels, at_least) if _is_npy(path) else _pixels(path, channels, at_least)


def decode_image(data: bytes, what: str, channels: int = 3, at_least: int | None = None) -> Picture:
    """`read_image` for the bytes of an image file, wherever they come from.

    Args:
        data: of the file.
        what: the image, for people: where it lies.
        channels: as for `read_image`.
        at_least: as for `read_image`.

    Raises:
        InputError: no bytes, or they are truncated or no image.

    >>> file = io.BytesIO()
    >>> Image.new("RGB", (4, 3), "red").save(file, "PNG")
    >>> decode_image(file.getvalue(), "the first image").size
    (4, 3)
    """
    with _named_bytes(data, what):
        return _picture(io.BytesIO(data), channels, at_least)


def decode_pixels(data: bytes, what: str, channels: int = 3, at_least: int | None = None) -> np.ndarray:
    """`read_pixels` for the bytes of an image file; the arguments are those of `decode_image`."""
    with _named_bytes(data, what):
        return _pixels(io.BytesIO(data), channels, at_least)


def _picture(file: File, channels: int, at_least: int | None) -> Picture:
    pixels = _plain(file, channels, at_least)
    if pixels is None:
        return _by_pillow(file, channels, at_least)
    return Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])


def _pixels(file: File, channels: int, at_least: int | None) -> np.ndarray:
    pixels = _plain(file, channels, at_least)
    return to_array(_by_pillow(file, channels, at_least)) if pixels is None else pixels


def _plain(file: File, channels: int, at_least: int | None) -> np.ndarray | None:
    """Of a JPEG file that Pillow is not needed for, neither to read it nor to reduce it or to refuse it."""
    with _opened(file) as stream:
        head = stream.read(_HEAD)
        if (shape := jpeg.plain_shape(head)) is None:
            return None
        height, width, components = shape
        too_large = Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS
        if too_large or (at_least is not None and reduction((width, height), at_least) > 1):
            return None
        return jpeg.plain_pixels(head + stream.read(), components, channels)


def _by_pillow(file: File, channels: int, at_least: int | None) -> Picture:
    with Image.open(file, formats=_kinds()) as image:
        check_size(image.size)
        if channels not in (1, 3) and image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            bands = convert(read_pages(image, channels), channels)
            return bands if at_least is None else reduced(bands, at_least)
        steps = 1 if at_least is None else reduction(image.size, at_least)
        before = image.size
        if at_least is not None and steps > 1:
            image.draft(None, (at_least, at_least))
        converted = as_seen(image, channels)
    drafted = round(max(before) / max(size_of(converted)))
    return converted if steps == drafted else _by(converted, steps // drafted)


def _is_npy(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _read_npy(path: Path, channels: int, at_least: int | None) -> np.ndarray:
    bands = to_array(convert(read_npy(path, channels), channels))
    return bands if at_least is None else to_array(reduced(bands, at_least))


def image_size(file: str | File, channels: int = 3) -> tuple[int, int] | None:
    """Width and height of the upright image, from the file's header; None where that cannot be read.

    Args:
        file: its path, or its bytes.
        channels: as for `read_image`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "red.png"
    >>> Image.new("RGB", (4, 3), "red").save(path)
    >>> image_size(path)
    (4, 3)
    """
    try:
        if isinstance(file, io.BytesIO):
            return _size(file)
        path = Path(file)
        with _named(path):
            return npy_size(path, channels) if _is_npy(path) else _size(path)
    except MemoryError:
        raise
    except Exception:  # Pillow parses what anybody may have written
        return None


def _size(file: File) -> tuple[int, int]:
    with _opened(file) as stream:
        shape = jpeg.plain_shape(stream.read(_HEAD))
    if shape is not None:
        height, width, _ = shape
        check_size((width, height))
        return width, height
    with Image.open(file, formats=_kinds()) as image:
        width, height = image.size
        # Pillow gives TIFF files their upright size itself, and decodes a PNG to find EXIF behind its pixels
        turned = image.format != "TIFF" and (image.format != "PNG" or may_have_exif(file))
        lying = turned and orientation(image) in LYING
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


def reduced(picture: Picture, at_least: int) -> Picture:
    """The picture made smaller by `reduction`, every pixel the mean of those it replaces.

    >>> reduced(Image.new("RGB", (100, 50)), 20).size
    (50, 25)
    """
    steps = reduction(size_of(picture), at_least)
    return picture if steps == 1 else _by(picture, steps)


def _kinds() -> list[str]:
    """Pillow's formats, those that others have registered included, but not what is drawn by other programs."""
    Image.init()
    return [kind for kind in Image.ID if kind not in _DRAWN]


def _by(picture: Picture, steps: int) -> Picture:
    return each_band(picture, lambda band: band.reduce(steps))


def _opened(file: File) -> BinaryIO:
    return file.open("rb") if isinstance(file, Path) else io.BytesIO(file.getbuffer())


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns whatever reading a file raises into one sentence that names it; but not what is wrong with the machine."""
    try:
        yield
    except InputError as error:
        raise InputError(f"image file '{printable(path)}': {error}") from None
    except Exception as error:
        raise unreadable(path, error) from error


@contextlib.contextmanager
def _named_bytes(data: bytes, what: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__) if data else "it has no bytes"
        raise InputError(f"cannot read {what} ({reason}): replace it or leave it out") from error
