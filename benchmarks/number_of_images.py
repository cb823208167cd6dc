"""What a run with cached features costs against the number of images."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.end_to_end import __name__ as SIDES_IN
from benchmarks.end_to_end import jaxtl_variant, torch_variants
from benchmarks.images import make_folder
from benchmarks.options import Options
from benchmarks.tables import bends, megabytes, slopes, spread, table
from benchmarks.task import Task
from benchmarks.torch_network import HEAD, LAST
from benchmarks.turns import whole_runs

TITLE = "Cached features against the number of images"
NEEDS_DATA = False
ABOUT = (
    "ResNet-18 cut after `layer3` with random weights, synthetic JPEGs (64 distinct ones to train on, under so many "
    "names), 32 pixels: the head on pooled features, and `layer3` with the head on maps of `layer2`. The first epoch "
    "holds all that comes before the second: reading, extraction, compilation. A later epoch runs on the cache; its "
    'figure is the median of a run\'s later epochs, over the turns. "A further image" is the slope from the row '
    "before; a bend is where it changes by more than a quarter."
)
_EPOCHS = 6


def measure(options: Options, show: Any) -> dict[str, Any]:
    small = (1_000, 3_000, 10_000)
    counts = options.pick(quick=(32, 64), small=small, full=(*small, 30_000, 100_000))
    turns = options.given_turns or 1  # the later epochs of a run are repetitions already
    found: dict[str, Any] = {"rows": []}
    for trains in options.pick(quick=(HEAD,), small=(HEAD, LAST), full=(HEAD, LAST)):
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                data = make_folder(Path(folder, "images"), train=count, val=64, pixels=32)
                task = Task(data=data, weights="", trains=trains, epochs=_EPOCHS, size=32, crop_pct=1.0)
                ways = torch_variants("PyTorch", task, workers=options.workers, gpu=options.gpu)
                found["rows"].append(row := {"case": {"trains": trains, "images": count}})
                for runs in whole_runs(SIDES_IN, [jaxtl_variant("jaxtl", task), *ways], turns):
                    row |= runs
                    show(found)
    return found


def tables(found: dict[str, Any]) -> str:
    lines, sentences = [], []
    for trains, label, rows in _lines(found["rows"]):
        counts = [row["case"]["images"] for row in rows]
        first, later = [], []
        for row in rows:
            runs = row["answers"][label]
            later.append([statistics.median(run["epochs"][1:]) for run in runs])
            first.append([run["seconds"] - sum(run["epochs"][1:]) for run in runs])
        middles = {name: [statistics.median(values) for values in found] for name, found in
                   (("first", first), ("later", later))}  # fmt: skip
        grown = {name: ["-", *(f"{1e6 * slope:.0f}" for slope in slopes(counts, ys))] for name, ys in middles.items()}
        for place, row in enumerate(rows):
            memories = [run["memory"] for run in row["answers"][label]]
            lines.append(
                [trains, label, counts[place], spread(first[place]), grown["first"][place]]
                + [spread(later[place], ".3f"), grown["later"][place]]
                + [megabytes(memories, where) for where in ("host", "device")]
            )
        for name, ys in middles.items():
            places = ", ".join(f"{count:,} images" for count in bends(counts, ys))
            said = f"the slope bends at {places}" if places else "no bend"
            sentences.append(f"- {trains}, {label}, {name} epochs: {said}.")
    header = ["trains", "side", "images", "first epoch, s", "a further image, µs", "a later epoch, s"]
    header += ["a further image, µs", "host memory, MB", "device memory, MB"]
    return table(header, lines) + "\n\n" + "\n".join(sentences)


def _lines(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Trained part, variant, and its rows by number of images."""
    for trains in dict.fromkeys(row["case"]["trains"] for row in rows):
        members = [row for row in rows if row["case"]["trains"] == trains]
        yield from ((trains, label, members) for label in members[0]["answers"])
