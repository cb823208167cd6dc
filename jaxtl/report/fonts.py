"""Text in any script: other fonts where the usual one lacks characters, and escapes where no font has them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontEntry


def drawable(text: str) -> str:
    r"""The text, with escapes for characters that no font on this machine has.

    >>> drawable("café \U0010fffd")
    'café \\U0010fffd'
    """
    return "".join(
        character if _family_of(character) else character.encode("unicode_escape").decode() for character in text
    )


def fit_fonts(figure: Figure) -> None:
    """Makes all of a figure's text drawable, and gives it the fonts that have its characters."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        words = drawable(text.get_text())
        text.set_text(words)
        others = {family for family in map(_family_of, words) if family not in (None, _usual())}
        if others:
            text.set_fontfamily([_usual(), *sorted(others)])


@functools.cache
def _family_of(character: str) -> str | None:
    """The first font that has a character."""
    if character == "\n":  # is not drawn
        return _usual()
    return next((family for family, file in _files().items() if _has(file, character)), None)


def _has(file: str, character: str) -> bool:
    from matplotlib.font_manager import get_font

    try:
        return get_font(file).get_char_index(ord(character)) > 0
    except (OSError, RuntimeError):  # a file that is no longer there, or is broken
        return False


@functools.cache
def _files() -> dict[str, str]:
    """Of each font its file: the usual one, then the upright ones, those without serifs before the others."""
    from matplotlib.font_manager import fontManager, weight_dict

    def rank(entry: FontEntry) -> tuple[bool, bool, bool, int, str]:
        boldness = weight_dict[entry.weight] if isinstance(entry.weight, str) else entry.weight
        return (
            entry.name != _usual(),
            entry.style != "normal",
            "Sans" not in entry.name,
            abs(boldness - 400),
            entry.name,
        )

    files: dict[str, str] = {}
    for entry in sorted(fontManager.ttflist, key=rank):
        if "Last Resort" not in entry.name:  # draws boxes for all characters
            files.setdefault(entry.name, entry.fname)
    return files


@functools.cache
def _usual() -> str:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties())).family_name
