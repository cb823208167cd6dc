"""What freezing more and more of the front saves in a training step."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks import train_step
from benchmarks.options import Options
from benchmarks.tables import ratios, spread, table
from benchmarks.turns import SIDES as NAMES
from benchmarks.turns import rates

TITLE = "Training step against the number of frozen stages"
NEEDS_DATA = False
ABOUT = (
    'The training step as above, with the first stages frozen: none, one, ..., all but the head. "Saved by this '
    'stage" is how much shorter the step is than in the row before; it is largest where the line bends.'
)
SIDES = {**train_step.SIDES, "jaxtl": partial(train_step.jaxtl_side, counted=False)}


def networks(options: Options) -> Sequence[tuple[str, int, int, Sequence[int]]]:
    """Names, pixels, batch sizes and numbers of frozen stages."""
    return options.pick(
        quick=(("mobilenetv2_035", 32, 2, (8, 9)),),
        small=(("resnet18", 96, 8, range(6)),),
        full=(("resnet18", 224, 16, range(6)), ("mobilenetv2_100", 224, 16, range(10))),
    )


def measure(options: Options, show: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": []}
    for model, size, batch_size, counts in options.among(networks(options)):
        for count in counts:
            case = {"model": model, "size": size, "batch_size": batch_size * (8 if options.gpu else 1), "trains": count}
            found["rows"].append(rates(__name__, case, options.turns, options.seconds))
            show(found)
    return found


def tables(found: dict[str, Any]) -> str:
    rows, last = [], {}
    for row in found["rows"]:
        case = row["case"]
        seconds = {side: [case["batch_size"] / rate for rate in row["rates"][side]] for side in NAMES}
        known = last.get("model") == case["model"]
        saved = [
            f"{1000 * (statistics.median(last[side]) - statistics.median(seconds[side])):.1f}" if known else "-"
            for side in NAMES
        ]
        last = {"model": case["model"], **seconds}
        stages = row["about"]["jaxtl"]["same"]["stages"]
        rows.append(
            [case["model"], case["size"], case["batch_size"], case["trains"], stages[case["trains"]]]
            + [spread(seconds[side], ".1f", 1000) for side in NAMES]
            + [spread(ratios(row["rates"]["jaxtl"], row["rates"]["PyTorch"]), ".2f"), *saved]
        )
    header = ["network", "pixels", "batch", "frozen stages", "first that trains", "jaxtl, ms a step"]
    header += ["PyTorch, ms a step", "rate of jaxtl / PyTorch"]
    return table([*header, *(f"saved by this stage, {side}, ms" for side in NAMES)], rows)
