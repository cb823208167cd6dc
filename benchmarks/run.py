"""Runs the comparisons, and writes ``results.json`` and ``RESULTS.md`` beside itself."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.train_step import SIDES, Case, command

FOLDER = Path(__file__).parent
TURNS = 7
SECONDS_A_TURN = 1.5
STRATEGIES = {"all of it": (), "layer4 and head": ("layer4", "fc"), "head": ("fc",)}


def cases(full: bool, gpu: bool) -> list[Case]:
    if not full:
        return [Case("resnet18", 96, 8, trains) for trains in STRATEGIES.values()]
    batch_size = 128 if gpu else 32
    return [
        Case(model, 224, batch_size, trains) for model in ("resnet18", "resnet50") for trains in STRATEGIES.values()
    ]


class Worker:
    """One side in a process of its own, that works only when it is asked to."""

    def __init__(self, side: str, case: Case) -> None:
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2"}
        self._side = side
        self._process = subprocess.Popen(
            command(side, case),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=FOLDER.parent,
            env=environment,
        )
        self.about = self._answer()

    def seconds(self, steps: int) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self._side} ended with code {self._process.wait()}; its message is above")
        return json.loads(line)


def measure(case: Case) -> dict[str, Any]:
    """Both sides in turns: images per second of every turn, and what each side is."""
    with contextlib.ExitStack() as stack:
        workers = {}
        for side in SIDES:
            workers[side] = Worker(side, case)
            stack.callback(workers[side].close)
        trained = {side: worker.about["trained"] for side, worker in workers.items()}
        if len(set(trained.values())) > 1:
            raise SystemExit(f"error: the sides do not train the same number of parameters: {trained}")
        steps = {side: max(1, round(SECONDS_A_TURN / worker.seconds(1))) for side, worker in workers.items()}
        rates: dict[str, list[float]] = {side: [] for side in workers}
        for _ in range(TURNS):
            for side, worker in workers.items():
                rates[side].append(steps[side] * case.batch_size / worker.seconds(steps[side]))
        about = {side: worker.about for side, worker in workers.items()}
    return {**vars(case), "images_per_second": rates, "about": about}


def machine() -> dict[str, Any]:
    model = next(_lines("/proc/cpuinfo", "model name"), platform.processor())
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


def _lines(path: str, key: str) -> Iterator[str]:
    with contextlib.suppress(OSError), open(path) as file:
        yield from (line.partition(":")[2].strip() for line in file if line.startswith(key))


def table(run: dict[str, Any]) -> str:
    """A run in markdown."""
    rows = [
        "| network | pixels | batch | trains | jaxtl, images/s | PyTorch, images/s | jaxtl / PyTorch |",
        "|---|---|---|---|---|---|---|",
    ]
    names = {trains: name for name, trains in STRATEGIES.items()}
    for case in run["cases"]:
        ours, theirs = case["images_per_second"]["jaxtl"], case["images_per_second"]["PyTorch"]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        cells = [case["model"], case["size"], case["batch_size"], names[tuple(case["trains"])]]
        cells += [_spread(ours, ".1f"), _spread(theirs, ".1f"), _spread(ratios, ".2f")]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def _spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def section(name: str, run: dict[str, Any]) -> str:
    about = run["cases"][0]["about"]
    versions = {**about["jaxtl"]["versions"], **about["PyTorch"]["versions"]}
    before, after, cores = run["load_before"], run["load_after"], run["machine"]["cores"]
    load = f"Load average {before:.1f} before and {after:.1f} after"
    if before > 0.3:
        load += ", so other work was running: "
        load += "compare within a row alone." if cores == 1 else "**measure again**, since it slows the two unequally."
    return "\n\n".join(
        [
            f"## {name}",
            f"{run['date']}, {run['machine']['cpu']}, cores used: {cores}, device {about['jaxtl']['device']}; Python "
            f"{run['machine']['python']}, {', '.join(f'{key} {value}' for key, value in versions.items())}. "
            f"jaxtl: {about['jaxtl']['setup']}; PyTorch: {about['PyTorch']['setup']}.",
            load,
            table(run),
        ]
    )


def report(runs: dict[str, Any]) -> str:
    head = (
        "# Training speed beside PyTorch\n\n"
        "Written by `python -m benchmarks.run`; how it measures stands in `benchmarks/__init__.py`. Each figure is "
        f"the median of {TURNS} turns, with the smallest and the largest in parentheses."
    )
    return "\n\n".join([head, *(section(name, run) for name, run in sorted(runs.items()))]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares jaxtl's training speed with PyTorch's.")
    parser.add_argument("--full", action="store_true", help="ResNet-18 and ResNet-50 at 224 pixels")
    full = parser.parse_args().full
    device = _default_backend()
    before = os.getloadavg()[0]
    found = []
    for case in cases(full, device != "cpu"):
        found.append(measure(case))
        print(table({"cases": found[-1:]}).splitlines()[-1], flush=True)
    run: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "load_before": before,
        "load_after": os.getloadavg()[0],
        "cases": found,
    }
    results = FOLDER / "results.json"
    runs = json.loads(results.read_text()) if results.is_file() else {}
    cores = run["machine"]["cores"]
    runs[f"{device.upper()}, {cores} core{'s' * (cores > 1)}, {'full' if full else 'small'}"] = run
    results.write_text(json.dumps(runs, indent=1) + "\n")
    (FOLDER / "RESULTS.md").write_text(report(runs))
    print(f"written: {FOLDER / 'RESULTS.md'}")


def _default_backend() -> str:
    """Asked in a process of its own, because the one that asks holds the device."""
    code = "import jax; print(jax.default_backend())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
