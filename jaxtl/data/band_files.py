"""Files of pictures with many channels: NumPy's ``.npy``, and TIFF files with several pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from jaxtl.data.as_seen import zero_is_white
from jaxtl.data.bands import to_array
from jaxtl.data.unreadable import check_size
from jaxtl.errors import InputError


def read_npy(path: Path, channels: int) -> np.ndarray:
    """The array in a ``.npy`` file, its channels last; its type is the file's.

    Raises:
        InputError: it is no (height, width, channels), (channels, height, width) or, for one channel, (height, width).

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.npy")
    >>> np.save(path, np.zeros((6, 20, 30), np.uint8))
    >>> read_npy(path, 6).shape
    (20, 30, 6)
    """
    return np.array(_mapped(path, channels))


def npy_size(path: Path, channels: int) -> tuple[int, int]:
    """Width and height, from the file's header; errors as `read_npy`."""
    height, width, _ = _mapped(path, channels).shape
    return width, height


def read_pages(image: Image.Image, channels: int) -> np.ndarray:
    """The bands of all pages of an open TIFF file, one behind the other: (height, width, bands).

    Raises:
        InputError: another number of bands in all, pages of several sizes, colours of a palette, or 16 bits
            whose 0 is white.
    """
    found: list[np.ndarray] = []
    for page in range(getattr(image, "n_frames", 1)):
        image.seek(page)
        check_size(image.size)
        if image.mode in ("P", "PA"):
            raise InputError(f"its page {page + 1} has colours of a palette, which are no bands")
        if zero_is_white(image):
            raise InputError(f"its page {page + 1} has 16-bit values of which 0 is white: save it with 0 as black")
        pixels = to_array(np.asarray(image))
        if found and pixels.shape[:2] != found[0].shape[:2]:
            raise InputError(
                f"its page {page + 1} has {pixels.shape[1]}x{pixels.shape[0]} pixels and the first "
                f"{found[0].shape[1]}x{found[0].shape[0]}: bands must have one size"
            )
        found.append(pixels)
        if sum(part.shape[2] for part in found) > channels:
            break
    return np.concatenate(found, axis=2)


def _mapped(path: Path, channels: int) -> np.ndarray:
    """The array in the file, not yet read, as (height, width, bands)."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if mapped.ndim == 2:
        mapped = mapped[:, :, None]
    if mapped.ndim != 3 or 0 in mapped.shape:
        raise InputError(f"it holds an array {mapped.shape}, not (height, width, channels)")
    if mapped.shape[2] != channels and mapped.shape[0] == channels:
        mapped = np.moveaxis(mapped, 0, 2)
    check_size(mapped.shape[1::-1])
    return mapped
