"""An opened picture as a person sees it: the right way up, and what is black in it dark."""

from __future__ import annotations

import threading

from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from jaxtl.data.bands import Picture
from jaxtl.data.modes import convert

LYING = (5, 6, 7, 8)
"""Orientations whose upright image has width and height exchanged."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TELLING = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # where Pillow looks for an orientation
_ONE_READS = threading.Lock()  # Pillow fills in an image's EXIF by steps, and threads may share an image


def as_seen(image: Image.Image, channels: int) -> Picture:
    """The image upright, and as `jaxtl.data.modes.convert` gives it; as a negative where `zero_is_white`.

    Raises:
        InputError: as `convert`.
    """
    picture = convert(upright(image), channels)
    return ImageOps.invert(picture) if zero_is_white(image) and isinstance(picture, Image.Image) else picture


def zero_is_white(image: Image.Image) -> bool:
    """Whether it is a TIFF file whose darkest value is its largest, and Pillow gives its values as they are: it inverts
    those of 8 bits alone.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.mode.startswith("I"):
        return False
    return bool(image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0)


def upright(image: Image.Image) -> Image.Image:
    """The image turned by its EXIF orientation, which it is then rid of; the same image where it has none.

    >>> lying = Image.new("RGB", (4, 3))
    >>> lying.getexif()[ExifTags.Base.Orientation] = 6
    >>> turned = upright(lying)
    >>> turned.size, upright(turned) is turned
    ((3, 4), True)
    """
    image.load()
    with _ONE_READS:
        turn = _TURNS.get(orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    for name in _TELLING:
        turned.info.pop(name, None)
    return turned


def orientation(image: Image.Image) -> int:
    """EXIF's number of it; 1, upright, where that cannot be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow parses what anybody may have written
        return 1
    return found if isinstance(found, int) else 1
