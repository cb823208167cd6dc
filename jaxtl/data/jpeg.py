"""Plain JPEG files, decoded by libjpeg-turbo itself: Pillow's pixels in half of the time."""

from __future__ import annotations

import struct

import numpy as np
from PIL import ExifTags, Image

START = b"\xff\xd8\xff"
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, Huffman coded
_OTHER_FRAMES = (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_SCAN, _APP1 = 0xDA, 0xE1
_EXIF = b"Exif\0\0"


def plain_shape(data: bytes) -> tuple[int, int, int] | None:
    """Height, width and components of a JPEG file in grey (1) or in colour (3), of 8 bits, that is upright.

    None for all others, CMYK and photographs that have to be turned among them, and for what is no JPEG file or is
    not whole up to its first scan: Pillow says what these are.

    Args:
        data: the file, or its first bytes.

    >>> import io
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (4, 3)).save(file, "JPEG")
    >>> plain_shape(file.getvalue()), plain_shape(file.getvalue()[:200])
    ((3, 4, 3), None)
    """
    if not data.startswith(START):
        return None
    place, shape = 2, None
    while place + 4 <= len(data):
        lead, marker, length = struct.unpack_from(">BBH", data, place)
        if lead != 0xFF or marker < 0xC0 or marker in _OTHER_FRAMES:
            return None
        if marker == _SCAN:
            return shape
        if marker in _FRAMES:
            if shape is not None or length < 8 or place + 10 > len(data):
                return None
            bits, height, width, components = struct.unpack_from(">BHHB", data, place + 4)
            if bits != 8 or components not in (1, 3) or not height * width:
                return None
            shape = height, width, components
        elif marker == _APP1 and not _upright(data[place + 4 : place + 2 + length]):
            return None
        place += 2 + length
    return None


def plain_pixels(data: bytes, components: int, channels: int) -> np.ndarray | None:
    """The pixels of a file that `plain_shape` knows, uint8 (height, width, channels), equal to Pillow's to the bit.

    None where anything about it looks wrong to libjpeg, or channels would have to be mixed: Pillow then decides.

    Args:
        data: the whole file.
        components: as `plain_shape` says.
        channels: 1 or 3.

    >>> import io
    >>> file = io.BytesIO()
    >>> Image.linear_gradient("L").save(file, "JPEG")
    >>> bool((plain_pixels(file.getvalue(), 1, channels=1)[:, :, 0] == np.asarray(Image.open(file))).all())
    True
    >>> plain_pixels(file.getvalue()[:-9], 1, channels=1)
    """
    if channels not in (1, 3) or channels < components:
        return None
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(data, "RGB" if channels == 3 else "GRAY", strict=True)
    except ValueError:
        return None


def _upright(segment: bytes) -> bool:
    """Whether EXIF says so; False as well where it cannot be read, and where XMP might say it instead."""
    if not segment.startswith(_EXIF):
        return False
    exif = Image.Exif()
    try:
        exif.load(segment)
        return exif.get(ExifTags.Base.Orientation) == 1
    except Exception:  # Pillow parses what anybody may have written
        return False
