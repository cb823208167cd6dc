"""Pictures of any mode, made 8-bit pictures with the channels that a network takes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from jaxtl.data.bands import Picture, to_array
from jaxtl.data.depths import note
from jaxtl.errors import InputError

_LEVELS_KEPT = ((0xFF, 0), (0xFFF, 4), (0xFFFF, 8))  # largest value, and by how many bits it is shifted down


def convert(picture: Picture, channels: int) -> Picture:
    """The picture as a PIL image in mode "RGB" (three channels) or "L" (one), else uint8 (height, width, channels).

    What is transparent (RGBA, LA, PA, a palette or PNG with a transparent colour) is laid over white. CMYK, YCbCr, LAB
    and HSV become RGB by Pillow's formulas, embedded ICC profiles are not applied. Wide pixels become bytes as
    `eight_bits` says. For other numbers than 1 and 3 a picture must have so many bands, which are taken as they are:
    RGBA and CMYK for four, LA for two, arrays for any.

    Args:
        picture: a PIL image, or (height, width) or (height, width, channels) of uint8, uint16 or bool.
        channels: that the network takes.

    Raises:
        InputError: for floating-point pixels, whose range nobody knows; pixels below 0 or of more than 16 bits; bands
            that do not fit.

    >>> convert(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), 3).getpixel((0, 0))
    (255, 255, 255)
    >>> convert(np.zeros((2, 3, 6), np.uint8), 6).shape
    (2, 3, 6)
    """
    if isinstance(picture, Image.Image):
        return _as_mode(picture, channels) if channels in (1, 3) else _own_bands(picture, channels)
    if picture.ndim not in (2, 3):
        raise InputError(f"a picture is an array (height, width, channels), not {picture.shape}")
    bands = to_array(eight_bits(picture))
    if channels not in (1, 3):
        return _checked(bands, channels)
    if bands.shape[2] not in (1, 3):
        raise _misfit(bands.shape[2], channels)
    return _as_mode(Image.fromarray(bands[:, :, 0] if bands.shape[2] == 1 else bands), channels)


def as_pixels(picture: Picture, channels: int) -> np.ndarray:
    """What `convert` gives as uint8 (height, width, channels); such an array is given back as it is.

    >>> as_pixels(Image.new("L", (4, 3)), 3).shape
    (3, 4, 3)
    """
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (channels,):
        return picture
    return to_array(convert(picture, channels))


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Pixels of up to 16 bits as bytes.

    What fits into a byte stays as it is. Where no value of the image is above 4095 it is taken for 12-bit data, as
    medical and raw cameras' files hold it, and loses its lower four bits; else it loses its lower eight. Each image is
    judged alone; where that makes a difference in a data set, `jaxtl.data.depths` tells.

    Raises:
        InputError: for floating-point pixels, and pixels below 0 or of more than 16 bits.

    >>> [eight_bits(np.array([0, most], np.uint16)).tolist() for most in (255, 4095, 65535)]
    [[0, 255], [0, 255], [0, 255]]
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(pixels.dtype, np.integer):
        raise InputError(f"{_KINDS.get(pixels.dtype.kind, pixels.dtype)} pixels have no known range: {_REMEDY}")
    if pixels.size == 0:
        return pixels.astype(np.uint8)
    smallest, largest = int(pixels.min()), int(pixels.max())
    if smallest < 0:
        raise InputError(f"pixels below 0, such as {smallest}, have no known range: {_REMEDY}")
    if largest > 0xFFFF:
        raise InputError(f"pixels of more than 16 bits, such as {largest}: {_REMEDY}")
    shift = next(shift for most, shift in _LEVELS_KEPT if largest <= most)
    note(shift)
    return (pixels >> shift).astype(np.uint8)


_REMEDY = "save it as an 8-bit or 16-bit image"
_KINDS = {"f": "floating-point", "c": "complex"}


def _as_mode(image: Image.Image, channels: int) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        wide = np.asarray(image)
        narrow = eight_bits(wide)
        if isinstance(clear := image.info.get("transparency"), int):
            narrow = np.where(wide == clear, np.uint8(255), narrow)
        image = Image.fromarray(narrow)
    elif image.has_transparency_data:
        overlay = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", overlay.size, "white"), overlay)
    return image.convert("RGB").convert(mode)


def _own_bands(image: Image.Image, channels: int) -> np.ndarray:
    if image.mode in ("P", "PA"):
        raise InputError(f"colours of a palette are no bands; the network takes {channels}")
    return _checked(to_array(eight_bits(np.asarray(image))), channels)


def _checked(bands: np.ndarray, channels: int) -> np.ndarray:
    if bands.shape[2] != channels:
        raise _misfit(bands.shape[2], channels)
    return bands


def _misfit(found: int, channels: int) -> InputError:
    have = f"{found} channel{'s' * (found != 1)}"
    return InputError(
        f"the picture has {have} where the network takes {channels}: load the network with in_chans={found}"
    )
