"""The images that a tuned model did not train on, as far as what was saved with it says which these are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jaxtl.data.dataset import Data
from jaxtl.data.open import open_data
from jaxtl.model import Model
from jaxtl.notices import say
from jaxtl.pretrained.config import CONFIG, read_config
from jaxtl.recipe import DataSection
from jaxtl.train.run import how_opened

SPLIT = ("val_fraction", "folds", "fold", "split_file")


def open_held_out(
    model: Model,
    folder: str | Path,
    source: str,
    *,
    val_fraction: float | None = None,
    split_file: str | Path | None = None,
    seed: int | None = None,
) -> Data:
    """Opens images for a model, split as in the training that its folder records; says which split that is.

    Where the model was trained on the same source, its columns, labels and split are taken from there. Otherwise they
    are ``open_data``'s defaults.

    Args:
        model: the network.
        folder: that it was loaded from; another name has no record.
        source: as for ``open_data``.
        val_fraction: hold out this part, in place of the recorded split.
        split_file: take the split from this file, in place of the recorded one.
        seed: of the split, in place of the recorded one.

    Raises:
        InputError: data that cannot be opened, or a ``config.json`` that is damaged.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1)
    >>> open_held_out(model, "cifar_resnet20", "digits", val_fraction=0.1).split
    '10% held out, seed 0'
    """
    training = _training(folder, source)
    how = _opened(training)
    if val_fraction is not None or split_file is not None:
        how = {name: value for name, value in how.items() if name not in SPLIT}
        given = {"val_fraction": val_fraction, "split_file": split_file}
        how |= {name: value for name, value in given.items() if value is not None}
    if seed is not None:
        how["seed"] = seed
    data = open_data(source, model, **how)
    then = (training.get("data") or {}).get("split")
    if split_file is not None:
        told = ""
    elif then is None:
        told = "; no training on them is recorded"
    else:
        told = (
            ", as in training" if then == data.split else f"; the model may have seen them: it was trained with {then}"
        )
    say(f"{len(data.val)} validation images of {source}: {data.split}{told}")
    return data


def _training(folder: str | Path, source: str) -> Mapping[str, Any]:
    """What is recorded of a training on this source; empty where that is nothing."""
    folder = Path(folder).expanduser()
    if not (folder / CONFIG).is_file():
        return {}
    training = (read_config(folder).get("jaxtl") or {}).get("training") or {}
    return training if _place((training.get("data") or {}).get("source", "")) == _place(source) else {}


def _opened(training: Mapping[str, Any]) -> dict[str, Any]:
    """How its images were opened, as keywords of ``open_data``."""
    recipe = training.get("recipe") or {}
    try:
        images = DataSection.model_validate(recipe.get("data"))
    except ValidationError:  # none, or that of another version
        return {}
    return {**how_opened(images, recipe.get("seed", 0)), "train_samples": None, "max_bad": images.max_bad}


def _place(source: str) -> tuple[str, str]:
    kind, _, path = source.partition(":")
    return kind, str(Path(path).expanduser().resolve()) if Path(path).exists() else path
