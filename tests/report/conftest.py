from __future__ import annotations

import pytest

from jaxtl.report import drawing


@pytest.fixture
def drawn(monkeypatch):
    """The figure behind the PNG, so that what it shows can be asked for."""
    figures = []
    save = drawing.save

    def keep(figure, path):
        figures.append(figure)
        return save(figure, path)

    monkeypatch.setattr(drawing, "save", keep)
    return figures
