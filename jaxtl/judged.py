"""What a record of a run is judged by: which number of it is better when it is higher, or for losses lower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHARES = ("val_mean_average_precision", "val_accuracy")
"""What is judged by from 0 to 1, the first that a record has."""


def judged_by(record: Mapping[str, Any]) -> str:
    """The name of what says which record is better: for several answers an image the mean average precision, since of
    many labels nearly all are a no, which is right without looking; for classes the accuracy; for numbers the loss.

    >>> judged_by({"val_loss": 0.1, "val_accuracy": 0.9, "val_macro_f1": 0.0, "val_mean_average_precision": 0.3})
    'val_mean_average_precision'
    """
    return next((name for name in SHARES if name in record), "val_loss")


def score(record: Mapping[str, Any]) -> float:
    """What makes one record better than another: what it is judged by, the loss negated."""
    name = judged_by(record)
    return record[name] if name in SHARES else -record[name]


def in_words(name: str) -> str:
    """
    >>> in_words("val_mean_average_precision")
    'mean average precision'
    """
    return name.removeprefix("val_").replace("_", " ")


def said(record: Mapping[str, Any], decimals: int = 2) -> str:
    """What a record is judged by, and how much of it there is.

    >>> said({"val_loss": 0.25, "val_accuracy": 0.75}), said({"val_loss": 0.25})
    ('accuracy 75.00 %', 'loss 0.2500')
    """
    name = judged_by(record)
    number = f"{100 * record[name]:.{decimals}f} %" if name in SHARES else f"{record[name]:.4f}"
    return f"{in_words(name)} {number}"
