"""Names in any script."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtl.report import drawing, fonts
from jaxtl.report.contact_sheet import contact_sheet

NOBODY_HAS = "\U0010fffd\U0010fffc"  # private characters
STIX_HAS = "\u2329"  # and DejaVu Sans lacks it; both come with matplotlib


@pytest.mark.filterwarnings("error")
def test_names_that_no_font_can_draw_are_told_apart(tmp_path, drawn):
    title = f"folder:{NOBODY_HAS[0]}\t"
    contact_sheet(np.zeros((2, 8, 8, 3), np.uint8), [*NOBODY_HAS], tmp_path / "sheet.png", title)
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["\\U0010fffd", "\\U0010fffc"]
    assert figure.get_suptitle() == "folder:\\U0010fffd\\t"


@pytest.mark.filterwarnings("error")
def test_another_font_draws_what_the_usual_one_lacks(tmp_path):
    figure, (axes,) = drawing.figure(3.0, 3.0, 1)
    drawing.title(axes, f"cat {STIX_HAS}")
    axes.set_xlabel(f"dog {NOBODY_HAS[0]}\nand tea")
    drawing.save(figure, tmp_path / "plot.png")
    assert axes.title.get_text() == ""
    (left,) = [text for text in figure.findobj() if getattr(text, "get_text", str)() == f"cat {STIX_HAS}"]
    usual, other = left.get_fontfamily()
    assert usual == "DejaVu Sans"
    assert other != usual
    assert axes.get_xlabel() == "dog \\U0010fffd\nand tea"
    assert axes.xaxis.label.get_fontfamily() == ["sans-serif"]


def test_a_font_that_is_no_longer_there_is_passed_over(monkeypatch):
    monkeypatch.setattr(fonts, "_files", lambda: {"gone": "/nowhere/gone.ttf"})
    assert fonts.drawable("\U0010fff0") == "\\U0010fff0"
