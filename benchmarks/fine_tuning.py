"""Fine-tuning the whole network from image files to accuracy, and the time to the same accuracy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.end_to_end import __name__ as SIDES_IN
from benchmarks.end_to_end import jaxtl_variant, torch_variants
from benchmarks.options import Options
from benchmarks.tables import spread, table
from benchmarks.task import Task
from benchmarks.torch_network import ALL
from benchmarks.turns import whole_runs
from benchmarks.whole_tasks import HEADER, Answers, common_accuracy, row, seconds_to

TITLE = "Fine-tuning, from image files to accuracy"
NEEDS_DATA = True
ABOUT = (
    "All of ResNet-18 cut after `layer3`, 160 pixels, batches of 32, light augmentation (random-resized crop of "
    "0.35 to 1 of the area, flip), AdamW, a cosine after half an epoch of warm-up, the head at ten times the body's "
    "rate, label smoothing; validated after every epoch, which counts in its seconds. The same recipe on both sides, "
    "another seed in every turn. "
    "Seconds count from after the imports, jaxtl's compilation included. On a GPU: ResNet-50 with random weights, "
    '224 pixels, batches of 256; "busy" is what `nvidia-smi` says.'
)


def measure(options: Options, show: Any) -> dict[str, Any]:
    quick = options.size == "quick"
    task = Task(
        data=options.data,
        weights=options.weights,
        trains=ALL,
        epochs=2 if quick else 5,
        augment="light",
        cached=False,
    )
    if quick:
        task = replace(task, size=32, batch_size=8)
    elif options.gpu:
        task = replace(task, model="resnet50", until=None, weights="", size=224, batch_size=256, eval_batch_size=256)
    variants = [
        jaxtl_variant("jaxtl", task),
        *torch_variants("PyTorch", task, workers=options.workers, gpu=options.gpu),
    ]
    case = {name: vars(task)[name] for name in ("model", "epochs", "data", "weights")}
    found = {"rows": [{"case": case}]}
    for runs in whole_runs(SIDES_IN, variants, options.turns):
        found["rows"][0] |= runs
        show(found)
    return found


def tables(found: dict[str, Any]) -> str:
    return "\n\n".join(_table(part["answers"], part["case"]["epochs"]) for part in found["rows"])


def _table(answers: Answers, epochs: int) -> str:
    target = common_accuracy(answers)
    lines = [
        [*row(label, answers, "jaxtl", epochs), spread([seconds_to(run, target) for run in runs])]
        for label, runs in answers.items()
    ]
    return table([*HEADER, f"seconds to {100 * target:.2f} %, which every run reached"], lines)
