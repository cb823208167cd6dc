from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jaxtl.report.contact_sheet import contact_sheet


def test_captions_and_titles_that_are_no_utf8(tmp_path):
    path = contact_sheet(
        np.zeros((2, 8, 8, 3), np.uint8), ["caf\udce9", "tea"], tmp_path / "sheet.png", "folder:\udce9"
    )
    with Image.open(path) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize("count", [1, 4, 16])
def test_a_long_title_is_whole_and_inside(tmp_path, drawn, count):
    title = "folder:/home/somebody/datasets/oxford_flowers/images_by_class, augmentation light, epoch 0, seed 0"
    contact_sheet(np.zeros((count, 8, 8, 3), np.uint8), ["tea"] * count, tmp_path / "sheet.png", title)
    (figure,) = drawn
    shown = figure.get_suptitle()
    assert "".join(shown.split()) == "".join(title.split())
    box, inside = figure._suptitle.get_window_extent(), figure.get_window_extent()
    assert inside.x0 <= box.x0
    assert box.x1 <= inside.x1
    assert box.y1 <= inside.y1
    assert box.y0 >= max(axes.get_window_extent().y1 for axes in figure.axes)


def test_long_captions_keep_both_ends(tmp_path, drawn):
    captions = ["a common beginning, and cats", "a common beginning, and many dogs"]
    contact_sheet(np.zeros((2, 8, 8, 3), np.uint8), captions, tmp_path / "sheet.png")
    assert [axes.get_title() for axes in drawn[0].axes] == [captions[0], "a common begin…and many dogs"]
