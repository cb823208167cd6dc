"""Transfer learning for vision on JAX and Flax: pretrained PyTorch networks in, tuned models out.

The public names. Each is imported when it is first used, so ``import jaxtl`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "load": "pretrained.load",
    "from_torch": "pretrained.load",
    "save": "pretrained.save",
    "export": "pretrained.export",
    "list_models": "pretrained.tags",
    "Model": "model",
    "InputError": "errors",
    "normalise": "data.preprocess",
    "Preprocess": "data.preprocess",
    "open_data": "data.open",
    "multi_transform": "finetune.optimizer",
    "training_modes": "finetune.batch_norm",
    "explain": "finetune.explain",
    "Recipe": "recipe",
    "TrainState": "train.state",
    "make_train_step": "train.step",
    "make_eval_step": "train.step",
    "fine_tune": "train.fine_tune",
    "evaluate": "train.evaluate",
    "predict": "train.predict",
    "recalibrate": "train.recalibrate",
}

_MODULES = ("labels",)

__all__ = sorted([*_HOMES, *_MODULES])

if TYPE_CHECKING:
    from jaxtl import labels as labels
    from jaxtl.data.open import open_data as open_data
    from jaxtl.data.preprocess import Preprocess as Preprocess
    from jaxtl.data.preprocess import normalise as normalise
    from jaxtl.errors import InputError as InputError
    from jaxtl.finetune.batch_norm import training_modes as training_modes
    from jaxtl.finetune.explain import explain as explain
    from jaxtl.finetune.optimizer import multi_transform as multi_transform
    from jaxtl.model import Model as Model
    from jaxtl.pretrained.export import export as export
    from jaxtl.pretrained.load import from_torch as from_torch
    from jaxtl.pretrained.load import load as load
    from jaxtl.pretrained.save import save as save
    from jaxtl.pretrained.tags import list_models as list_models
    from jaxtl.recipe import Recipe as Recipe
    from jaxtl.train.evaluate import evaluate as evaluate
    from jaxtl.train.fine_tune import fine_tune as fine_tune
    from jaxtl.train.predict import predict as predict
    from jaxtl.train.recalibrate import recalibrate as recalibrate
    from jaxtl.train.state import TrainState as TrainState
    from jaxtl.train.step import make_eval_step as make_eval_step
    from jaxtl.train.step import make_train_step as make_train_step


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"jaxtl.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxtl' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"jaxtl.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
