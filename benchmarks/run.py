"""Runs the works that are asked for, and writes ``results.json`` and ``RESULTS.md`` beside itself."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.images import make_folder
from benchmarks.machine import accelerator, machine
from benchmarks.options import Options
from benchmarks.precision import ask_for_bfloat16
from benchmarks.report import report
from jaxtl.huge_pages import restart_with_huge_pages

FOLDER = Path(__file__).parent
WORKS = (
    "train_step",
    "frozen_stages",
    "feature_extraction",
    "fine_tuning",
    "evaluation",
    "input_pipeline",
    "first_step",
    "number_of_images",
)
SMALL = ("train_step",)


def main() -> None:
    arguments = _parser().parse_args()
    size = "quick" if arguments.quick else "full" if arguments.full else "small"
    names = arguments.only or (SMALL if size == "small" else WORKS)
    if arguments.bfloat16:
        ask_for_bfloat16()
    with tempfile.TemporaryDirectory() as folder:
        data = str(arguments.data.resolve()) if arguments.data else ""
        if not data and size == "quick":
            data = make_folder(Path(folder, "images"), train=40, val=16, pixels=48)
        device = accelerator()
        options = Options(
            size=size,
            gpu=bool(device),
            cores=len(os.sched_getaffinity(0)),
            data=data,
            weights=str(arguments.weights.resolve()) if arguments.weights else "",
            given_turns=arguments.turns,
            networks=tuple(arguments.networks or ()),
        )
        for name in names:
            work = importlib.import_module(f"benchmarks.{name}")
            print(f"\n### {work.TITLE}\n", flush=True)
            if work.NEEDS_DATA and not options.data:
                print("left out: it needs --data FOLDER with train/<class> and val/<class>")
                continue
            _keep(name, setting(device, options, bfloat16=arguments.bfloat16), options)


def setting(device: str, options: Options, *, bfloat16: bool) -> str:
    """The heading under which a work's results stand, and in whose place the next ones in the same setting come.

    >>> setting("NVIDIA H200", Options("full", True, 16), bfloat16=True)
    'NVIDIA H200, 16 cores, full'
    """
    cores = f"{options.cores} core{'s' * (options.cores > 1)}"
    computing = ", bfloat16" if bfloat16 and not options.gpu else ""
    return f"{device or machine()['cpu']}, {cores}, {options.size}{computing}"


def _keep(name: str, setting: str, options: Options) -> None:
    """Measures one work, and writes its results in place of its last ones in the same setting, after every row."""
    work = importlib.import_module(f"benchmarks.{name}")
    before = os.getloadavg()[0]

    def keep(found: Any) -> None:
        print(work.tables(found).splitlines()[-1], flush=True)
        if options.size != "quick":
            write(found)

    def write(found: Any) -> None:
        _write(name, setting, {**entry, "load_after": os.getloadavg()[0], "found": _without_folders(found, options)})

    entry: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "load_before": before,
        "turns": options.turns,
        "weights": Path(options.weights).name,
        "data": Path(options.data).name,
    }
    found = work.measure(options, keep)
    print(f"\n{work.tables(found)}\n", flush=True)
    if options.size == "quick":
        print("toy inputs: nothing is written")
        return
    write(found)
    print(f"written: {FOLDER / 'RESULTS.md'}", flush=True)


def _without_folders(found: Any, options: Options) -> Any:
    """The same with the last part of the paths that were given, which are this machine's."""
    if isinstance(found, dict):
        return {key: _without_folders(value, options) for key, value in found.items()}
    if isinstance(found, list):
        return [_without_folders(value, options) for value in found]
    return Path(found).name if isinstance(found, str) and found in (options.data, options.weights) else found


def _write(name: str, setting: str, entry: dict[str, Any]) -> None:
    results = FOLDER / "results.json"
    runs = json.loads(results.read_text()) if results.is_file() else {}
    runs.setdefault(setting, {})[name] = entry
    results.write_text(json.dumps(runs, indent=1, sort_keys=True) + "\n")
    (FOLDER / "RESULTS.md").write_text(report(runs, WORKS))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="jaxtl beside PyTorch.")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--full", action="store_true", help="the sizes people use; hours on a CPU for all works")
    sizes.add_argument("--quick", action="store_true", help="toy inputs, to see that it runs; writes nothing")
    parser.add_argument("--only", nargs="+", choices=WORKS, metavar="WORK", help=f"of {', '.join(WORKS)}")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="of the works that measure several, only these")
    parser.add_argument("--turns", type=int, metavar="N", help="how often everything is measured")
    parser.add_argument("--bfloat16", action="store_true", help="on a CPU too, both sides; a GPU always does")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="images: train/<class> and val/<class>")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of ResNet-18 until layer3, safetensors")
    return parser


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
