"""timm and torch, the guests: needed to compare with them and to convert live modules, never to train or predict."""

from __future__ import annotations

import importlib.util
import warnings
from types import ModuleType
from typing import Any

from jaxtl.errors import InputError

_MISSING_OPERATORS = ("nms", "qnms")
_declared: list[Any] = []  # a torch Library takes its operators back when it is collected


def import_timm() -> ModuleType:
    """timm, ready to use.

    A CUDA build of torchvision does not import beside a CPU build of torch, because two of its operators are never
    declared. Nothing here calls them, so declaring them is enough.

    Raises:
        InputError: where torch, torchvision or timm is not installed.
    """
    for guest in ("torch", "torchvision", "timm"):
        if importlib.util.find_spec(guest) is None:
            raise InputError(f"this needs {guest}: pip install 'jaxtl[timm]'")
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
