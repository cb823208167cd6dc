"""One side of a comparison: builds a training step, then runs as many steps as it is told on standard input.

Its first line of output is JSON (what it is), then for each number of steps a line with the seconds they took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 3
CLASSES = 5
RATE = 1e-4


@dataclass(frozen=True)
class Case:
    """A network, square images of ``size`` pixels, and the top-level parts that train (none: all of it)."""

    model: str
    size: int
    batch_size: int
    trains: tuple[str, ...] = ()

    def is_trained(self, path: str) -> bool:
        return not self.trains or path.split(".")[0] in self.trains

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Normalised images, NHWC, and labels."""
        rng = np.random.default_rng(0)
        images = rng.standard_normal((self.batch_size, self.size, self.size, 3), dtype=np.float32)
        return images, rng.integers(0, CLASSES, self.batch_size)


@dataclass(frozen=True)
class Side:
    """A framework's training: ``run(steps)`` returns when the last step is done."""

    run: Callable[[int], None]
    trained: int  # parameters
    device: str
    setup: str
    versions: dict[str, str]


def jaxtl_side(case: Case) -> Side:
    import jax
    import optax

    import jaxtl
    from jaxtl.notices import quiet

    with quiet():
        model = jaxtl.load(case.model, weights=None, num_classes=CLASSES)
    optimizer = jaxtl.multi_transform(
        {"trained": optax.adamw(RATE)}, lambda path, leaf: "trained" if case.is_trained(path) else "frozen"
    )
    state = jaxtl.TrainState.create(model, optimizer)
    step = jaxtl.make_train_step(model, optimizer)
    images, labels = case.batch()
    batch = jax.device_put({"image": images, "label": labels.astype(np.int32)})

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return Side(
        run=run,
        trained=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        device=jax.devices()[0].device_kind,
        setup="float32",
        versions={name: version(name) for name in ("jaxtl", "jax", "jaxlib", "flax", "optax")},
    )


def torch_side(case: Case) -> Side:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from timm_guest import import_timm

    timm = import_timm()
    import torch

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    model = timm.create_model(case.model, num_classes=CLASSES).to(device, memory_format=torch.channels_last)
    model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(case.is_trained(name))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d) and not case.is_trained(name):
            module.eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, fused=True)
    network = torch.compile(model) if gpu else model
    images, labels = case.batch()
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)  # channels last already
    targets = torch.from_numpy(labels).to(device)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16, enabled=gpu):
                loss = torch.nn.functional.cross_entropy(network(inputs), targets)
            loss.backward()
            optimizer.step()
        loss.item()

    return Side(
        run=run,
        trained=sum(parameter.numel() for parameter in trained),
        device=torch.cuda.get_device_name() if gpu else "cpu",
        setup="bfloat16 autocast, compiled" if gpu else "float32, eager",
        versions={name: version(name) for name in ("torch", "timm")},
    )


SIDES = {"jaxtl": jaxtl_side, "PyTorch": torch_side}


def main(side: str, case: dict[str, Any]) -> None:
    built = SIDES[side](Case(**{**case, "trains": tuple(case["trains"])}))
    built.run(WARM_UP)
    _answer({key: value for key, value in vars(built).items() if key != "run"})
    for line in sys.stdin:
        begun = time.perf_counter()
        built.run(int(line))
        _answer(time.perf_counter() - begun)


def _answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


def command(side: str, case: Case) -> list[str]:
    """What starts one side in a process of its own."""
    return [sys.executable, "-m", __spec__.name, side, json.dumps(asdict(case))]


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
