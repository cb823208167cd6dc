"""What a training script wrote into a checkpoint beside the weights: of which network, and how it saw images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxtl.errors import InputError
from jaxtl.models import registry


class Checkpoint(dict[str, np.ndarray]):
    """Arrays by torch name.

    Attributes:
        architecture: timm's name as the checkpoint says it (``arch``, or ``args.model``), without a tag; ``None``: it
            says none.
        settings: the script's own (``args``) by name.
    """

    architecture: str | None = None
    settings: Mapping[str, Any] = {}

    def tell(self, content: Mapping[Any, Any]) -> Checkpoint:
        """Reads both from what lies beside the weights."""
        settings = content.get("args")
        self.settings = settings if isinstance(settings, Mapping) else getattr(settings, "__dict__", {})
        said = content.get("arch") or self.settings.get("model")
        self.architecture = said.partition(".")[0] if isinstance(said, str) else None
        return self


def check_architecture(arrays: Any, architecture: str, where: str) -> None:
    """Raises ``InputError`` where a checkpoint says that it is of another network that jaxtl has."""
    said = arrays.architecture if isinstance(arrays, Checkpoint) else None
    if said in registry.names() and not registry.differ_in_size_alone(said, architecture):
        raise InputError(
            f"{where} holds weights of {said}, as it says itself, and not of {architecture}: load them as {said!r}, or "
            "hand its state dict to jaxtl.from_torch to take them all the same"
        )


def notes_on(arrays: Any, preprocess: Mapping[str, Any], architecture: str) -> tuple[str, ...]:
    """What its settings say otherwise than what is taken."""
    if not isinstance(arrays, Checkpoint):
        return ()
    taken = {**preprocess, "img_size": preprocess["input_size"][-1], "gp": "avg"}
    compared = ["img_size", "mean", "std"]
    if "global_pool" not in registry.option_names(architecture):  # where there is a choice, the names of norms tell it
        compared.append("gp")
    said = {key: value for key in compared if (value := arrays.settings.get(key))}
    other = {key: value for key, value in said.items() if _plain(value) != _plain(taken[key])}
    if not other:
        return ()
    settings = ", ".join(f"{key}={value!r}" for key, value in other.items())
    return (f"the checkpoint was trained with {settings}; {architecture} has {_taken(other, taken)}",)


def _taken(other: Mapping[str, Any], taken: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_plain(taken[key])!r}" for key in other)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
