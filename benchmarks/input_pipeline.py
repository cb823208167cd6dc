"""The input pipeline alone: augmented training batches of bytes, first and second epoch."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.options import Options
from benchmarks.side import Side
from benchmarks.tables import megabytes, ratios, spread, table
from benchmarks.task import Task
from benchmarks.torch_network import ALL
from benchmarks.turns import SIDES as NAMES
from benchmarks.turns import Variant, whole_runs

TITLE = "Input pipeline alone"
NEEDS_DATA = True
ABOUT = (
    "Shuffled training batches of 32 images of 160 pixels as bytes, from files, with light augmentation "
    "(random-resized crop, flip) or none (the evaluation's preprocessing): jaxtl's `data.train_batches`, against "
    "timm's loader before it normalises, with persistent workers. Each turn is a new process; the first epoch "
    "includes the start of threads or workers. Files are in the system's cache after the first turn. The crops are "
    "drawn alike, their pixels made otherwise: jaxtl's by libjpeg-turbo and OpenCV, which resizes without "
    "antialiasing where a crop hardly shrinks, timm's by Pillow, with it."
)


def measure(options: Options, show: Any) -> dict[str, Any]:
    toy = {"size": 32, "batch_size": 8} if options.size == "quick" else {}
    found: dict[str, Any] = {"rows": []}
    for augment in ("light", "none"):
        task = Task(options.data, "", ALL, epochs=1, augment=augment, **toy)
        variants = [Variant(side, side, task.case(workers=options.workers)) for side in NAMES]
        case = {"augment": augment, "data": options.data, "workers": options.workers}
        found["rows"].append(row := {"case": case})
        for runs in whole_runs(__name__, variants, options.turns):
            row |= runs
            show(found)
    return found


def tables(found: dict[str, Any]) -> str:
    lines = []
    for row in found["rows"]:
        case, answers = row["case"], row["answers"]
        for epoch in ("first", "second"):
            ours, theirs = ([run[epoch] for run in answers[side]] for side in NAMES)
            memories = [megabytes([run["memory"] for run in answers[side]], "host") for side in NAMES]
            cells = [spread(ours, ".0f"), spread(theirs, ".0f"), spread(ratios(ours, theirs), ".2f"), *memories]
            lines.append([case["augment"], epoch, case["workers"], *cells])
    header = ["augmentation", "epoch", "PyTorch's workers", "jaxtl, images/s", "PyTorch, images/s"]
    return table([*header, "jaxtl / PyTorch", *(f"host memory of {side}, MB" for side in NAMES)], lines)


def jaxtl_side(case: dict[str, Any]) -> Side:
    import grain  # noqa: F401

    import jaxtl
    from benchmarks import jax_side

    task = Task(**case["task"])
    model = jax_side.random_model(task.model, task.size, until=task.until)
    preprocess = model.preprocess.replace(crop_pct=task.crop_pct)

    def run(_: Any) -> dict[str, Any]:
        begun = time.perf_counter()
        data = jaxtl.open_data(f"folder:{task.data}", preprocess, augment=task.augment)
        steps = data.steps_per_epoch(task.batch_size)
        batches = data.train_batches(task.batch_size)
        ends = [begun]
        for _ in range(2):
            for _ in range(steps):
                next(batches)
            ends.append(time.perf_counter())
        batches.close()
        return _answer(ends, steps * task.batch_size, preprocess.to_dict())

    return Side(run, setup="", **jax_side.about())


def torch_side(case: dict[str, Any]) -> Side:
    from benchmarks.torch_data import make_loader, preprocess
    from benchmarks.torch_side import guest

    made, task = guest(), Task(**case["task"])

    def run(_: Any) -> dict[str, Any]:
        ends = [time.perf_counter()]
        loader = make_loader(made, task, "train", augment=task.augment, shuffle=True, workers=case["workers"])
        for _ in range(2):
            images = sum(len(labels) for _, labels in loader.loader)
            ends.append(time.perf_counter())
        return _answer(ends, images, preprocess(made, task))

    return Side(run, **{**made.about(False), "setup": ""})


SIDES = {"jaxtl": jaxtl_side, "PyTorch": torch_side}


def _answer(ends: list[float], images: int, preprocess: dict[str, Any]) -> dict[str, Any]:
    return {
        "seconds": ends[2] - ends[0],
        "first": images / (ends[1] - ends[0]),
        "second": images / (ends[2] - ends[1]),
        "same": {"images": images, "preprocess": preprocess},
    }
