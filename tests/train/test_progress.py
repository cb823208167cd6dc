"""What a run prints for each epoch."""

from __future__ import annotations

import pytest

from jaxtl.train.progress import Progress

SHARED = {"epoch": 1, "train_loss": 0.5, "val_loss": 0.25, "images_per_second": 10.0, "seconds": 2.0}


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        (
            {"train_accuracy": 0.5, "val_accuracy": 0.75},
            "epoch 1/3  train: loss 0.500, accuracy 50.00 %  val: loss 0.250, accuracy 75.00 %  10 images/s, 2 s",
        ),
        (
            {"train_accuracy": 0.96, "val_accuracy": 0.97, "val_mean_average_precision": 0.4},
            "epoch 1/3  train: loss 0.500, accuracy 96.00 %  val: loss 0.250, mean average precision 40.00 %  "
            "10 images/s, 2 s",
        ),
        ({"val_mae": 0.3}, "epoch 1/3  train: loss 0.500  val: loss 0.250  10 images/s, 2 s"),
        (
            {"val_mae": 0.3, "val_r2": -0.25},
            "epoch 1/3  train: loss 0.500  val: loss 0.250, r2 -0.250  10 images/s, 2 s",
        ),
    ],
)
def test_an_epochs_line_tells_what_it_is_judged_by(numbers, line, capsys) -> None:
    Progress(steps=3, done=0, batch_size=1, shown=True).record({**SHARED, **numbers}, epochs=3)
    assert capsys.readouterr().err == f"{line}\n"
