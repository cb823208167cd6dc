"""How long it takes until the first training step is done: cold, and with what an earlier process compiled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks import train_step
from benchmarks.options import Options
from benchmarks.side import Side
from benchmarks.tables import megabytes, spread, table
from benchmarks.torch_network import ALL, HEAD
from benchmarks.turns import Variant, whole_runs

TITLE = "Time to the first step"
NEEDS_DATA = False
ABOUT = (
    'Each turn is a fresh process: "imports" is from its start until its libraries are there, "to the first step" '
    'from then on: the network is built, with random weights, and one training step is compiled and done. "Warm" is '
    "the same in a second process that finds what the first one compiled, in a folder of this turn's own: JAX's "
    "persistent compilation cache, or Inductor's. On a CPU JAX cannot keep programs with large convolutions, such "
    "as a ResNet's, which oneDNN computes: there warm is as slow as cold. PyTorch needs no compilation when it runs "
    "eagerly."
)
_CACHE = {
    "JAX_COMPILATION_CACHE_DIR": "{cache}/jaxtl/compiled",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def networks(options: Options) -> Sequence[tuple[str, int, int]]:
    """Names, pixels and batch sizes."""
    return options.pick(
        quick=(("mobilenetv2_035", 32, 2),),
        small=(("resnet18", 96, 8),),
        full=tuple((name, 224, 16) for name in ("resnet18", "resnet50", "mobilenetv2_100", "vit_small_patch16_224")),
    )


def measure(options: Options, show: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": []}
    for model, size, batch_size in options.among(networks(options)):
        for trains in options.pick(quick=(HEAD,), small=(ALL, HEAD), full=(ALL, HEAD)):
            case = {"model": model, "size": size, "batch_size": batch_size, "trains": trains}
            variants = [
                Variant("jaxtl, cold", "jaxtl", case, "jaxtl, warm", _CACHE),
                Variant("PyTorch, eager", "PyTorch", {**case, "compiled": False}),
            ]
            if options.gpu:
                compiled = {**case, "compiled": True}
                variants.append(Variant("PyTorch, compiled, cold", "PyTorch", compiled, "PyTorch, compiled, warm"))
            found["rows"].append(row := {"case": case})
            for runs in whole_runs(__name__, variants, options.turns):
                row |= runs
                show(found)
    return found


def tables(found: dict[str, Any]) -> str:
    lines = []
    for row in found["rows"]:
        for label, runs in row["answers"].items():
            seconds = [spread([run[name] for run in runs], ".2f") for name in ("started", "seconds")]
            seconds.append(spread([run["started"] + run["seconds"] for run in runs], ".2f"))
            memories = [megabytes([run["memory"] for run in runs], where) for where in ("host", "device")]
            case = [row["case"][name] for name in ("model", "size", "batch_size", "trains")]
            lines.append([*case, label, *seconds, *memories])
    header = ["network", "pixels", "batch", "trains", "side", "imports, s", "to the first step, s", "both, s"]
    return table([*header, "host memory, MB", "device memory, MB"], lines)


def jaxtl_side(case: dict[str, Any]) -> Side:
    import jax  # noqa: F401
    import optax  # noqa: F401

    import jaxtl.train.step  # noqa: F401
    from benchmarks import jax_side

    make = partial(train_step.jaxtl_side, counted=False)
    return Side(lambda _: _first_step(make, case), setup=jax_side.setup(), **jax_side.about())


def torch_side(case: dict[str, Any]) -> Side:
    from benchmarks.torch_side import guest

    return Side(lambda _: _first_step(train_step.torch_side, case), **guest().about(case["compiled"]))


SIDES = {"jaxtl": jaxtl_side, "PyTorch": torch_side}


def _first_step(make: Any, case: dict[str, Any]) -> dict[str, Any]:
    begun = time.perf_counter()
    built = make(case)
    built.answer(1)
    return {"seconds": time.perf_counter() - begun, "same": built.same}
