"""timm's loader over a folder of images, with the pixels that jaxtl's data gives."""

from __future__ import annotations

import warnings
from typing import Any

from benchmarks.task import Task
from benchmarks.torch_side import Guest


def preprocess(guest: Guest, task: Task) -> dict[str, Any]:
    """What belongs to the network's default weights, for the task's pixels, in timm's words."""
    known = guest.timm.get_pretrained_cfg(task.model).to_dict()
    return {
        "input_size": [3, task.size, task.size],
        "mean": list(known["mean"]),
        "std": list(known["std"]),
        "interpolation": known["interpolation"],
        "crop_pct": task.crop_pct,
        "crop_mode": known.get("crop_mode") or "center",
    }


def make_loader(guest: Guest, task: Task, split: str, *, augment: str, shuffle: bool, workers: int) -> Any:
    """Batches of normalised NCHW images and labels, on the device; images travel there as bytes.

    Args:
        guest: torch and timm.
        task: says which folder, pixels and batch size.
        split: "train" or "val".
        augment: "none" or "light".
        shuffle: and drop the last partial batch.
        workers: processes that read; they live as long as the loader.
    """
    config = preprocess(guest, task)
    geometry = {"input_size": task.size, "interpolation": config["interpolation"], "use_prefetcher": True}
    data = guest.timm.data
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores are meant
    loader = data.create_loader(
        data.ImageDataset(f"{task.data}/{split}"),
        input_size=(3, task.size, task.size),
        batch_size=task.batch_size if shuffle else task.eval_batch_size,
        is_training=shuffle,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        num_workers=workers,
        pin_memory=guest.gpu,
        device=guest.device,
        persistent_workers=workers > 0,
    )
    if augment == "light":
        light = {"scale": (0.35, 1.0), "ratio": (3 / 4, 4 / 3), "hflip": 0.5, "color_jitter": None}
        loader.dataset.transform = data.create_transform(**geometry, is_training=True, **light)
    else:
        loader.dataset.transform = data.create_transform(**geometry, crop_pct=config["crop_pct"])
    return loader
