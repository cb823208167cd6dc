"""Why an image file cannot be read, in one sentence."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from jaxtl.errors import InputError, printable

_THE_MACHINES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_FOREIGN = (
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "XML text"),
    (b"%pdf", "a PDF document"),
    (b"version https://git-lfs", "a pointer of Git LFS, fetch it with 'git lfs pull'"),
    (b"\x93numpy", "a NumPy array, which is read as .npy for other numbers of channels than 1 and 3"),
    (b"pk\x03\x04", "a zip archive"),
)


def check_size(size: tuple[int, ...]) -> None:
    """Raises `InputError` for more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``, above which Pillow warns of a bomb: a
    small file that fills the memory when it is decoded.

    >>> check_size((100_000, 100_000))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    jaxtl.errors.InputError: it has 10000 megapixels, more than the 89 that are read: make it smaller, ...
    """
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and size[0] * size[1] > most:
        raise InputError(_too_many(size[0] * size[1], most))


def unreadable(path: Path, error: Exception) -> Exception:
    """The `InputError` that says what an error means which came up while an image file was read.

    What is the machine's fault and not the file's, no memory or too many open files, is given back as it is.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _THE_MACHINES):
        return error
    name = printable(path)
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return InputError(f"image file '{name}' is a link to a file that does not exist: delete it")
        return InputError(f"image file '{name}' does not exist")
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return InputError(f"image file '{name}' is a link that leads back to itself: delete it")
    if isinstance(error, PermissionError):
        return InputError(f"cannot read image file '{name}' (permission denied): allow reading it")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        most = Image.MAX_IMAGE_PIXELS or 0
        said = re.search(r"(\d+) pixels", str(error))
        return InputError(f"image file '{name}': {_too_many(int(said[1]) if said else most + 1, most)}")
    return InputError(f"cannot read image file '{name}' ({_reason(path, error)}): replace it or delete it")


def _too_many(pixels: int, most: int) -> str:
    return (
        f"it has {pixels / 1e6:.0f} megapixels, more than the {most / 1e6:.0f} that are read: make it smaller, or "
        "raise PIL.Image.MAX_IMAGE_PIXELS"
    )


def _reason(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "it is a folder"
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return _foreign(path)
    return str(error).strip() or type(error).__name__


def _foreign(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    for letters, what in _FOREIGN:
        if start.startswith(letters):
            return f"cannot identify it as an image: it holds {what}"
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "cannot identify it as an image: it holds a HEIC image, save it as JPEG"
    return "cannot identify it as an image"
