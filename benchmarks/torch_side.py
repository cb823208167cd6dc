"""What PyTorch's sides share: the guests set up for speed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from benchmarks.precision import bfloat16


@dataclass(frozen=True)
class Guest:
    """torch and timm, imported and set up."""

    torch: Any
    timm: Any
    gpu: bool

    @property
    def device(self) -> Any:
        return self.torch.device("cuda" if self.gpu else "cpu")

    def autocast(self) -> Any:
        """bfloat16 where both sides compute in it; a context."""
        return self.torch.autocast(self.device.type, self.torch.bfloat16, enabled=bfloat16(self.gpu))

    def compiled(self, function: Callable[..., Any], wanted: bool) -> Callable[..., Any]:
        return self.torch.compile(function) if wanted else function

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.gpu:
            self.torch.cuda.synchronize()

    def about(self, compiled: bool) -> dict[str, Any]:
        """Device, setup and versions."""
        how = "compiled" if compiled else "eager"
        return {
            "device": self.torch.cuda.get_device_name() if self.gpu else "cpu",
            "setup": f"bfloat16 autocast, {how}" if bfloat16(self.gpu) else f"float32, {how}",
            "versions": {name: version(name) for name in ("torch", "torchvision", "timm")},
        }


def guest() -> Guest:
    """The guests with all cores that may be used, fast convolutions chosen by trial, and TF32 where there is any."""
    from jaxtl.pretrained.guests import import_timm

    timm = import_timm()
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    return Guest(torch, timm, torch.cuda.is_available())
