from __future__ import annotations

import numpy as np
from PIL import Image

from jaxtl.report.contact_sheet import contact_sheet


def test_captions_and_titles_that_are_no_utf8(tmp_path):
    path = contact_sheet(
        np.zeros((2, 8, 8, 3), np.uint8), ["caf\udce9", "tea"], tmp_path / "sheet.png", "folder:\udce9"
    )
    with Image.open(path) as image:
        assert image.format == "PNG"
