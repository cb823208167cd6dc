"""The two sides of a whole task, from image files to accuracy: ``jaxtl.fine_tune`` and PyTorch's loop.

A side imports its libraries first, then does the task once when it is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.side import Side
from benchmarks.task import Task
from benchmarks.turns import Variant
from benchmarks.utilisation import SETTLED, Utilisation, mean_between


def jaxtl_side(case: dict[str, Any]) -> Side:
    import grain  # noqa: F401
    import jax

    import jaxtl.train.fine_tune
    import jaxtl.trees
    from benchmarks import jax_side
    from jaxtl.notices import quiet
    from jaxtl.train.run import prepare

    task = Task(**case["task"])
    recipe = jaxtl.Recipe(**task.recipe(), precision=jax_side.precision())

    def run(seed: int) -> dict[str, Any]:
        begun = time.perf_counter()
        with quiet():
            prepared = prepare(recipe.replace(seed=seed))
            result = jaxtl.fine_tune(prepared.model, prepared.data, prepared.recipe, progress=False)
        jax.block_until_ready(result.model.params)
        seconds = time.perf_counter() - begun
        now = seconds - sum(record["seconds"] for record in result.history)
        curve = []
        for record in result.history:
            now += record["seconds"]
            curve.append((now, record["val_accuracy"]))
        groups = prepared.optimizers[0].groups(prepared.model.params)
        leaves = jaxtl.trees.flatten(prepared.model.params)
        return {
            "seconds": seconds,
            "epochs": [record["seconds"] for record in result.history],
            "curve": curve,
            "accuracy": curve[-1][1],
            "extrapolated": 0,
            "warm": curve[0][0] if task.eval_every == 1 < task.epochs else None,
            "same": {
                "images": [len(prepared.data.train), len(prepared.data.val)],
                "classes": len(prepared.data.classes),
                "steps": result.history[-1]["step"],
                "preprocess": prepared.model.preprocess.to_dict(),
                "trained": sum(leaf.size for path, leaf in leaves.items() if groups[path] != "frozen"),
            },
        }

    return Side(_watched(run), setup=jax_side.setup(), **jax_side.about())


def torch_side(case: dict[str, Any]) -> Side:
    from benchmarks.torch_side import guest
    from benchmarks.torch_training import train

    torch = guest()
    task = Task(**case["task"])
    how = {name: case[name] for name in ("workers", "compiled", "timed")}
    return Side(_watched(lambda seed: train(torch, task, seed=seed, **how)), **torch.about(case["compiled"]))


def _watched(run: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    """Adds ``busy`` to the answer: the percent of the time in which a GPU computed, from a second after ``warm`` on,
    the seconds until its first epoch ended."""

    def watched(question: Any) -> dict[str, Any]:
        with Utilisation() as used:
            begun = time.perf_counter()
            answer = run(question)
            ended = time.perf_counter()
        warm = answer["warm"]
        busy = None if warm is None else mean_between(used.samples, begun + warm + SETTLED, ended)
        return {**answer, "busy": busy}

    return watched


SIDES = {"jaxtl": jaxtl_side, "PyTorch": torch_side}


def jaxtl_variant(label: str, task: Task, *, again: str | None = None) -> Variant:
    """jaxtl's way to do a task; ``again`` labels a second run that finds the cached features."""
    return Variant(label, "jaxtl", task.case(), again)


def torch_variants(label: str, task: Task, *, workers: int, gpu: bool, timed: int | None = None) -> Iterator[Variant]:
    """PyTorch's ways to do a task: eager, and on a GPU also compiled, which a short run may not earn back."""
    for compiled in (False, True) if gpu else (False,):
        name = f"{label}, compiled" if compiled else label
        yield Variant(name, "PyTorch", task.case(workers=workers, compiled=compiled, timed=timed))
