"""Evaluation: from image files to accuracy, and the forward pass alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.options import Options
from benchmarks.side import Side
from benchmarks.tables import megabytes, ratios, spread, table
from benchmarks.task import Task
from benchmarks.torch_network import ALL
from benchmarks.turns import SIDES as NAMES
from benchmarks.turns import rates

TITLE = "Evaluation"
NEEDS_DATA = False
ABOUT = (
    '"Files": the folder\'s validation images from their files to the accuracy, `jaxtl.evaluate` on data opened anew '
    'against timm\'s loader, whose workers live on, with the network; "files, again": the same a second time, where '
    'jaxtl still has the pixels and PyTorch\'s loader reads them again. "Forward": the network alone, on normalised '
    "images on the device; of PyTorch under `inference_mode`."
)


def networks(options: Options) -> Sequence[tuple[str, int]]:
    """Names and pixels."""
    return options.pick(
        quick=(("resnet18", 32),),
        small=(("resnet18", 96),),
        full=tuple((name, 224) for name in ("resnet18", "resnet50", "mobilenetv2_100", "vit_small_patch16_224")),
    )


def measure(options: Options, show: Any) -> dict[str, Any]:
    cases: list[dict[str, Any]] = []
    task = Task(options.data, options.weights, ALL, epochs=1, size=32 if options.size == "quick" else 160)
    if options.data and options.among([(task.model,)]):
        cases += [task.case(what=what, workers=options.workers) for what in ("files", "files, again")]
    batch_size = 128 if options.gpu else options.pick(quick=2, small=16, full=32)
    cases += [
        {"what": "forward", "model": name, "size": size, "batch_size": batch_size}
        for name, size in options.among(networks(options))
    ]
    found: dict[str, Any] = {"rows": []}
    for case in cases:
        found["rows"].append(rates(__name__, case, options.turns, options.seconds))
        show(found)
    return found


def tables(found: dict[str, Any]) -> str:
    rows = []
    for row in found["rows"]:
        case, (ours, theirs) = row["case"], (row["rates"][side] for side in NAMES)
        task = case.get("task", {})
        network = f"{task['model']} until {task['until']}" if task else case["model"]
        size, batch_size = task.get("size", case.get("size")), task.get("eval_batch_size", case.get("batch_size"))
        rows.append(
            [case["what"], network, size, batch_size, spread(ours), spread(theirs), spread(ratios(ours, theirs), ".2f")]
            + [megabytes(row["memory"][side], where) for where in ("host", "device") for side in NAMES]
        )
    header = ["what", "network", "pixels", "batch", "jaxtl, images/s", "PyTorch, images/s", "jaxtl / PyTorch"]
    return table([*header, *(f"{where} memory of {side}, MB" for where in ("host", "device") for side in NAMES)], rows)


def jaxtl_side(case: dict[str, Any]) -> Side:
    return _jaxtl_forward(case) if case["what"] == "forward" else _jaxtl_files(case)


def torch_side(case: dict[str, Any]) -> Side:
    return _torch_forward(case) if case["what"] == "forward" else _torch_files(case)


SIDES = {"jaxtl": jaxtl_side, "PyTorch": torch_side}


def _jaxtl_forward(case: dict[str, Any]) -> Side:
    import jax

    from benchmarks import jax_side

    model = jax_side.random_model(case["model"], case["size"])
    images = jax.device_put(_images(case))

    def run(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            logits = model(images)
        logits.block_until_ready()
        return time.perf_counter() - begun

    return Side(run, setup="float32", more={"images": case["batch_size"]}, **jax_side.about())


def _torch_forward(case: dict[str, Any]) -> Side:
    from benchmarks.torch_network import Network
    from benchmarks.torch_side import guest

    made = guest()
    network = Network(made, case["model"], ALL, classes=5, size=case["size"], compiled=made.gpu)
    network.train(False)
    images = made.torch.from_numpy(_images(case)).permute(0, 3, 1, 2).to(made.device)

    def run(count: int) -> float:
        begun = time.perf_counter()
        with made.torch.inference_mode(), made.autocast():
            for _ in range(count):
                logits = network.suffix(images)
        made.wait()
        del logits
        return time.perf_counter() - begun

    return Side(run, more={"images": case["batch_size"]}, **made.about(made.gpu))


def _jaxtl_files(case: dict[str, Any]) -> Side:
    import jaxtl
    from benchmarks import jax_side
    from jaxtl.notices import quiet
    from jaxtl.train.run import prepare

    task = Task(**case["task"])
    with quiet():
        prepared = prepare(jaxtl.Recipe(**task.recipe()))
    model, again = prepared.model, case["what"] != "files"

    def run(count: int) -> float:
        data = prepared.data
        begun = time.perf_counter()
        for _ in range(count):
            if not again:
                data = jaxtl.open_data(f"folder:{task.data}", model)
            jaxtl.evaluate(model, data, batch_size=task.eval_batch_size)
        return time.perf_counter() - begun

    images = len(prepared.data.val)
    same = {"preprocess": model.preprocess.to_dict(), "images": images}
    return Side(run, setup="float32", same=same, more={"images": images}, **jax_side.about())


def _torch_files(case: dict[str, Any]) -> Side:
    import os

    from benchmarks.torch_data import make_loader, preprocess
    from benchmarks.torch_network import Network
    from benchmarks.torch_side import guest

    made, task = guest(), Task(**case["task"])
    classes = sum(entry.is_dir() for entry in os.scandir(f"{task.data}/train"))
    options = {"classes": classes, "size": task.size, "until": task.until, "weights": task.weights}
    network = Network(made, task.model, ALL, **options, compiled=made.gpu)
    network.train(False)
    loader = make_loader(made, task, "val", augment="none", shuffle=False, workers=case["workers"])

    def run(count: int) -> float:
        begun = time.perf_counter()
        with made.torch.inference_mode(), made.autocast():
            for _ in range(count):
                correct = 0
                for images, labels in loader:
                    batch = images.contiguous(memory_format=made.torch.channels_last)
                    correct = correct + (network.suffix(batch).argmax(1) == labels).sum()
                int(correct)
        return time.perf_counter() - begun

    images = len(loader.dataset)
    same = {"preprocess": preprocess(made, task), "images": images}
    return Side(run, same=same, more={"images": images}, **made.about(made.gpu))


def _images(case: dict[str, Any]) -> np.ndarray:
    shape = (case["batch_size"], case["size"], case["size"], 3)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
