"""A whole piece of work, from image files to accuracy, as both sides get it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.torch_network import ALL, HEAD


@dataclass(frozen=True)
class Task:
    """Adapt a network to a folder of images, and measure it on the folder's validation images.

    Attributes:
        data: a folder with ``train/<class>`` and ``val/<class>``.
        weights: a file for the network; empty: random.
        trains: ALL, LAST or HEAD.
        epochs: how many.
        augment: "none", the evaluation's preprocessing, or "light", a random-resized crop and a flip.
        views: for cached features of augmented images: how many of each image, drawn once; null: as many as epochs.
        cached: whether features of the frozen front are kept.
        eval_every: epochs between two validations.
        slow: the body's rate.
        fast: the head's rate.
    """

    data: str
    weights: str
    trains: str
    epochs: int
    model: str = "resnet18"
    until: str | None = "layer3"
    size: int = 160
    crop_pct: float = 0.91
    batch_size: int = 32
    eval_batch_size: int = 64
    slow: float = 2e-4
    fast: float = 2e-3
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    warmup_epochs: float = 0.5
    final: float = 0.01
    augment: str = "none"
    views: int | None = None
    cached: bool = True
    eval_every: int = 1

    def recipe(self) -> dict[str, Any]:
        """The fields of jaxtl's recipe."""
        groups = {
            ALL: {"head": "fast", "*": "slow"},
            HEAD: {"head": "fast", "*": "frozen"},
        }.get(self.trains, {"head": "fast", str(self.until): "slow", "*": "frozen"})
        rates = {"slow": self.slow, "fast": self.fast}
        optimizer = {group: {"lr": rates[group], "weight_decay": self.weight_decay} for group in groups.values()
                     if group in rates}  # fmt: skip
        return {
            "model": {"name": self.model, "weights": self.weights or None, "until": self.until},
            "data": {
                "source": f"folder:{self.data}",
                "size": self.size,
                "crop_pct": self.crop_pct,
                "augment": self.augment,
            },
            "groups": groups,
            "optimizer": optimizer,
            "schedule": {"name": "cosine", "warmup_epochs": self.warmup_epochs, "final": self.final},
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "eval_batch_size": self.eval_batch_size,
            "label_smoothing": self.label_smoothing,
            "eval_every": self.eval_every,
            "feature_cache": self.cached,
            **({"views": self.views} if self.views is not None else {}),
        }

    def case(self, **more: Any) -> dict[str, Any]:
        """For a side: ``{"task": ...}`` and more."""
        return {"task": asdict(self), **more}
