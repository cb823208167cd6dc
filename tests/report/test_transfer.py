from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from jaxtl.errors import InputError
from jaxtl.report.transfer import plot_transferability

ROWS = [
    {"frozen": 0, "stage": None, "mean": 0.8, "lowest": 0.75, "highest": 0.9},
    {"frozen": 1, "stage": "stem", "mean": 0.7, "lowest": 0.7, "highest": 0.7},
]
STAGES = [
    {"stage": "stem", "distance": 0.25, "similarity": 0.9},
    {"stage": "pool", "distance": None, "similarity": 0.5},
]


def test_shows_accuracies_distances_and_similarities(tmp_path, drawn) -> None:
    path = plot_transferability(ROWS, STAGES, tmp_path / "new" / "transferability.png")
    accuracy, moved, features = drawn[0].axes
    (line,) = accuracy.lines
    assert list(line.get_xdata()) == [0, 1]
    assert list(line.get_ydata()) == pytest.approx([80, 70])
    assert [label.get_text() for label in accuracy.get_xticklabels()] == ["none", "stem"]
    band = accuracy.collections[0].get_paths()[0].vertices
    assert {round(float(y), 6) for x, y in band if x == 0} == {75, 90}
    assert [bar.get_height() for bar in moved.patches] == [0.25, 0.0]
    assert [label.get_text() for label in moved.get_xticklabels()] == ["stem", "pool"]
    assert list(features.lines[0].get_ydata()) == [0.9, 0.5]
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


@pytest.mark.parametrize(
    ("measures", "title"),
    [
        ((None, "val_accuracy"), "Validation accuracy"),
        ((None, "val_mean_average_precision"), "Validation mean average precision"),
        ((None, None), "Validation accuracy"),
    ],
)
def test_names_what_runs_are_judged_by(measures, title, tmp_path, drawn) -> None:
    rows = [row | {"measure": measure} for row, measure in zip(ROWS, measures, strict=True)]
    plot_transferability(rows, STAGES, tmp_path / "named.png")
    assert drawn[0].axes[0].get_title("left") == title


def test_gaps_and_nothing(tmp_path, drawn) -> None:
    plot_transferability([{**ROWS[0], "mean": None}], [], tmp_path / "one.png")
    assert math.isnan(drawn[0].axes[0].lines[0].get_ydata()[0])
    with pytest.raises(InputError, match="no result to draw"):
        plot_transferability([], STAGES, tmp_path / "none.png")
