"""Feature extraction from image files to accuracy: the head alone, and the last stage with the head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.end_to_end import __name__ as SIDES_IN
from benchmarks.end_to_end import jaxtl_variant, torch_variants
from benchmarks.options import Options
from benchmarks.tables import table
from benchmarks.task import Task
from benchmarks.torch_network import HEAD, LAST
from benchmarks.turns import whole_runs
from benchmarks.whole_tasks import HEADER, row

TITLE = "Feature extraction, from image files to accuracy"
NEEDS_DATA = True
ABOUT = (
    "ResNet-18 cut after `layer3`, 160 pixels, batches of 32, AdamW, a cosine after half an epoch of warm-up; "
    "validated once, at the end. jaxtl: `jaxtl.fine_tune` with a recipe, compilation included, and again in a new "
    "process that finds the features the first one cached. PyTorch without a cache decodes, runs the frozen front "
    "and trains in every epoch; all its epochs do the same work, so where the table says so some were timed and the "
    "rest taken to need the median of those. PyTorch with a cache keeps the frozen front's outputs in memory. "
    '"Fixed images": the evaluation\'s preprocessing. "Cached views": so many light augmentations of each image '
    '(random-resized crop, flip), drawn once and used in turn. Seconds count from after the imports. "Compiled": '
    "`torch.compile`. A later epoch is one after the first; the last that is run holds the validation as well."
)


def tasks(options: Options) -> Iterator[tuple[str, Task]]:
    quick = options.size == "quick"
    common = {"data": options.data, "weights": options.weights, **({"size": 32, "batch_size": 8} if quick else {})}
    for trains, epochs, fast in ((HEAD, 2 if quick else 20, 0.1), (LAST, 2 if quick else 10, 2e-3)):
        task = Task(**common, trains=trains, epochs=epochs, eval_every=epochs, fast=fast)
        yield f"{trains}, fixed images", task
        if trains == HEAD:
            yield f"{trains}, cached views", Task(**{**vars(task), "augment": "light", "views": 2})


def measure(options: Options, show: Any) -> dict[str, Any]:
    timed = None if options.gpu else options.pick(quick=1, small=2, full=3)
    found: dict[str, Any] = {"rows": []}
    for label, task in tasks(options):
        how = {"workers": options.workers, "gpu": options.gpu}
        uncached = Task(**{**vars(task), "cached": False, "views": None})
        variants = [
            jaxtl_variant("jaxtl", task, again="jaxtl, second run"),
            *torch_variants("PyTorch without a cache", uncached, **how, timed=timed),
            *torch_variants("PyTorch with a cache", task, **how),
        ]
        case = {"label": label, **{name: vars(task)[name] for name in ("epochs", "views", "data", "weights")}}
        found["rows"].append(part := {"case": case})
        for runs in whole_runs(SIDES_IN, variants, options.turns):
            part |= runs
            show(found)
    return found


def tables(found: dict[str, Any]) -> str:
    lines = []
    for part in found["rows"]:
        case, answers = part["case"], part["answers"]
        views = f" ({case['views']} views)" if case["views"] else ""
        lines += [[f"{case['label']}{views}", *row(label, answers, "jaxtl", case["epochs"])] for label in answers]
    return table(["trains", *HEADER], lines)
