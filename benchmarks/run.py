"""Runs the works that are asked for, and writes ``results.json`` and ``RESULTS.md`` beside itself."""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import results
from benchmarks.images import make_folder
from benchmarks.inputs import check_files, to_measure
from benchmarks.machine import accelerator, commit, machine
from benchmarks.options import Options
from benchmarks.precision import ask_for_bfloat16
from benchmarks.quiet import wait_for_quiet
from jaxtl.errors import InputError
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
    _end_with_the_sides()
    with tempfile.TemporaryDirectory() as folder:
        try:
            device, options = _asked_for(arguments, Path(folder))
            names = arguments.only or (SMALL if options.size == "small" else WORKS)
            works = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
            chosen = list(to_measure(works, options))
        except InputError as error:
            raise SystemExit(f"error: {error}") from error
        if arguments.bfloat16:
            ask_for_bfloat16()
        heading = setting(device, options, bfloat16=arguments.bfloat16)
        failed = [name for name in chosen if not _measured(works[name], name, heading, options)]
    if failed:
        raise SystemExit(f"error: not measured to the end: {', '.join(failed)}; the messages are above")


def setting(device: str, options: Options, *, bfloat16: bool) -> str:
    """The heading under which a work's results stand, and where the next ones in the same setting come.

    >>> setting("NVIDIA H200", Options("full", True, 16), bfloat16=True)
    'NVIDIA H200, 16 cores, full'
    """
    cores = f"{options.cores} core{'s' * (options.cores > 1)}"
    computing = ", bfloat16" if bfloat16 and not options.gpu else ""
    return f"{device or machine()['cpu']}, {cores}, {options.size}{computing}"


def _asked_for(arguments: argparse.Namespace, folder: Path) -> tuple[str, Options]:
    """The device, and what to measure; images that are made for it come into the folder."""
    check_files(arguments.data, arguments.weights)
    device = accelerator()
    size = "quick" if arguments.quick else "full" if arguments.full else "small"
    data = str(arguments.data.resolve()) if arguments.data else ""
    if not data and size == "quick":
        data = make_folder(folder / "images", train=40, val=16, pixels=48)
    return device, Options(
        size=size,
        gpu=bool(device),
        cores=len(os.sched_getaffinity(0)),
        data=data,
        weights=str(arguments.weights.resolve()) if arguments.weights else "",
        given_turns=arguments.turns,
        networks=tuple(arguments.networks or ()),
    )


def _measured(work: ModuleType, name: str, setting: str, options: Options) -> bool:
    """Measures one work, and says whether it came to its end; others may where it did not."""
    print(f"\n### {work.TITLE}\n", flush=True)
    try:
        _measure(work, name, setting, options)
    except Exception:
        traceback.print_exc()
        return False
    return True


def _measure(work: ModuleType, name: str, setting: str, options: Options) -> None:
    """Measures one work; what is found is written after every row and every turn of whole runs."""
    quick = options.size == "quick"
    earlier = results.read(FOLDER).get(setting, {}).get(name)
    entry: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "load_before": os.getloadavg()[0] if quick else wait_for_quiet(),
    }

    def keep(found: Any) -> None:
        print(work.tables(found).splitlines()[-1], flush=True)
        if not quick:
            now = {**entry, "load_after": os.getloadavg()[0], "found": _without_folders(found, options)}
            runs = results.read(FOLDER)
            runs.setdefault(setting, {})[name] = results.together(earlier, now)
            results.write(FOLDER, runs, WORKS)

    print(f"\n{work.tables(work.measure(options, keep))}\n", flush=True)
    print("toy inputs: nothing is written" if quick else f"written: {FOLDER / 'RESULTS.md'}", flush=True)


def _without_folders(found: Any, options: Options) -> Any:
    """The same with the last part of the paths that were given, which are this machine's."""
    if isinstance(found, dict):
        return {key: _without_folders(value, options) for key, value in found.items()}
    if isinstance(found, list):
        return [_without_folders(value, options) for value in found]
    return Path(found).name if isinstance(found, str) and found in (options.data, options.weights) else found


def _end_with_the_sides() -> None:
    """Has a signal that ends this process end the sides first, as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def _turns(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="jaxtl beside PyTorch.")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--full", action="store_true", help="the sizes people use; hours on a CPU for all works")
    sizes.add_argument("--quick", action="store_true", help="toy inputs, to see that it runs; writes nothing")
    parser.add_argument("--only", nargs="+", choices=WORKS, metavar="WORK", help=f"of {', '.join(WORKS)}")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="of the works that measure several, only these")
    parser.add_argument("--turns", type=_turns, metavar="N", help="how often everything is measured, from 1 on")
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="on a CPU too, as always on a GPU; both sides, but for evaluation, where jaxtl's is float32",
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="images: train/<class> and val/<class>")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of ResNet-18 until layer3, safetensors")
    return parser


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
