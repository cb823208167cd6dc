"""timm and torch, the guests that parity tests compare with."""

from __future__ import annotations

import importlib.util
import warnings
from types import ModuleType

import pytest

_MISSING_OPERATORS = ("nms", "qnms")
_declared = []  # a torch Library takes its operators back when it is collected


def import_timm() -> ModuleType:
    """timm, ready to use; skips the test, saying why, where torch or timm is not installed.

    A CUDA build of torchvision does not import beside a CPU build of torch, because two of its operators are never
    declared. No test calls them, so declaring them is enough.
    """
    for guest in ("torch", "torchvision", "timm"):
        if importlib.util.find_spec(guest) is None:
            pytest.skip(f"needs {guest}: pip install 'jaxtl[timm]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the guests warn about while they are imported is not ours to mend
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::nms does not exist" not in str(error):
                raise
            _declare_missing_operators()
        importlib.import_module("torchvision")
        return importlib.import_module("timm")


def _declare_missing_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in _MISSING_OPERATORS:
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
