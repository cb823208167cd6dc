"""The error that means: what was asked for cannot be done as asked, and here is what to change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that jaxtl cannot use, said in one readable message.

    The command line prints the message without a traceback and exits with code 2.
    """


def printable(text: object) -> str:
    r"""The text, with bytes of file names that are no UTF-8 written out, so that it can be printed and saved.

    >>> printable("caf\udce9.jpg")
    'caf\\udce9.jpg'
    """
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """Names a near miss for an error message: ``"; did you mean 'a' or 'b'?"``, or nothing when none is close.

    >>> nearest("resnet5O", ["resnet50", "vgg16"])
    "; did you mean 'resnet50'?"
    >>> nearest("zzz", ["resnet50"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=most, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
