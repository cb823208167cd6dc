"""Names of the chunks in a PNG file, which Pillow tells of only when it has decoded the pixels."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from jaxtl.errors import InputError

_SIGNATURE = 8
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})  # some programs write EXIF and XMP into these


def may_have_exif(png: Path | io.BytesIO) -> bool:
    """Whether a PNG file has a chunk that may say which way is up; pixels are passed over.

    Raises:
        InputError: the file ends in the middle of a chunk.

    >>> import tempfile
    >>> from PIL import Image
    >>> path = Path(tempfile.mkdtemp(), "a.png")
    >>> Image.new("L", (4, 3)).save(path)
    >>> may_have_exif(path)
    False
    """
    with png.open("rb") if isinstance(png, Path) else io.BytesIO(png.getbuffer()) as file:
        whole = file.seek(0, io.SEEK_END)
        file.seek(_SIGNATURE)
        while len(start := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", start)
            if name == b"eXIf" or name in _TEXTS:
                return True
            if name == b"IEND":
                return False
            if file.seek(length + 4, 1) > whole:
                break
    raise InputError("the file is truncated: replace it or delete it")
