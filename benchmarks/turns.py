"""Sides that take turns, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.machine import ROOT

SIDES = ("jaxtl", "PyTorch")
Case = Mapping[str, Any]


class SideError(RuntimeError):
    """A side that ended before its work was done, or that does not do what the other does."""


class Worker:
    """One side, that works only when it is asked to; a context manager that ends it, at once where an error ends it.

    Attributes:
        about: what it says of itself.
        started: the seconds from its start to that, imports included.
    """

    def __init__(self, module: str, side: str, case: Case, cache: str, environment: Mapping[str, str] | None = None):
        self._name = f"{side} of {module}"
        inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side", module, side, json.dumps(case)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **inherited,
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # that of nvidia-smi
                "JAXTL_CACHE": f"{cache}/jaxtl",
                "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
                **(environment or {}),
            },
        )
        try:
            self.about = self._answer()
        except BaseException:
            self._end_at_once()
            raise
        self.started = time.perf_counter() - begun

    def ask(self, question: Any) -> Any:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which no answer says
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self._process.communicate()
        else:
            self._end_at_once()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SideError(f"{self._name} {_end_of(self._process.wait())}")
        return json.loads(line)

    def _end_at_once(self) -> None:
        self._process.terminate()
        self._process.communicate()


def _end_of(code: int) -> str:
    """How a process ended, for people.

    >>> _end_of(1)
    'ended with code 1; its message is above'
    >>> _end_of(-9)
    'was ended by SIGKILL, as Linux does to a process when memory runs out'
    """
    if code >= 0:
        return f"ended with code {code}; its message is above"
    name = signal.Signals(-code).name
    return f"was ended by {name}" + ", as Linux does to a process when memory runs out" * (name == "SIGKILL")


def ask_once(module: str, side: str, case: Case, question: Any) -> Any:
    """The answer of a side that lives for one question."""
    with tempfile.TemporaryDirectory() as cache, Worker(module, side, case, cache) as worker:
        return worker.ask(question)


def rates(module: str, case: Case, turns: int, seconds: float, *, warm_up: int = 3) -> dict[str, Any]:
    """Images per second of both sides of a case, one figure a turn.

    A side is asked for so many repetitions and answers with the seconds they took; ``more["images"]`` is how many
    images one repetition is. Each turn begins with one that does not count: a hypervisor may have taken the memory that
    a side gave back before the other's turn, and a step of a large network takes a third longer until it has it again.
    """
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        workers = {side: stack.enter_context(Worker(module, side, case, cache)) for side in SIDES}
        ours, theirs = (workers[side].about["same"] for side in SIDES)
        _check_same(module, ours, theirs)
        found: dict[str, list[float]] = {side: [] for side in SIDES}
        repetitions = {}
        for side, worker in workers.items():
            worker.ask(warm_up)
            repetitions[side] = max(1, round(seconds / worker.ask(1)))
        for turn in range(turns):
            for side in _in_order(SIDES, turn):
                workers[side].ask(1)
                images = repetitions[side] * workers[side].about["more"]["images"]
                found[side].append(images / workers[side].ask(repetitions[side]))
        memory = {side: worker.ask("memory") for side, worker in workers.items()}
        for worker in workers.values():
            worker.about["more"] |= worker.ask("afterwards")
        about = {side: worker.about for side, worker in workers.items()}
        return {"case": dict(case), "rates": found, "memory": memory, "about": about}


@dataclass(frozen=True)
class Variant:
    """A way to do a whole run.

    Attributes:
        label: for people.
        side: of the module.
        case: what the side gets.
        again: the label of a second run in another process, which finds the caches that the first one left.
        environment: variables of the process; ``{cache}`` stands for its folder of caches.
    """

    label: str
    side: str
    case: Case
    again: str | None = None
    environment: Mapping[str, str] | None = None


def whole_runs(module: str, variants: Sequence[Variant], turns: int) -> Iterator[dict[str, Any]]:
    """After each turn the ``answers`` of each variant until then, by label, one a turn, each from a fresh process;
    ``unfinished`` is whether a turn is to come.

    A side is asked for the number of the turn, which is a seed.
    To an answer are added ``started``, the seconds until the process had its imports, and its ``memory``.

    Raises:
        SideError: a side ended, or its first answer says that it does not do the same as those before.
    """
    labels = [label for variant in variants for label in (variant.label, variant.again) if label is not None]
    answers: dict[str, list[Any]] = {label: [] for label in labels}
    about: dict[str, Any] = {}
    same: Mapping[str, Any] | None = None
    for turn in range(turns):
        for variant in _in_order(variants, turn):
            with tempfile.TemporaryDirectory() as cache:
                environment = {name: text.format(cache=cache) for name, text in (variant.environment or {}).items()}
                for label in filter(None, (variant.label, variant.again)):
                    with Worker(module, variant.side, variant.case, cache, environment) as worker:
                        answer = worker.ask(turn)
                        memory = worker.ask("memory")
                        about[label] = worker.about
                    same = same or answer["same"]
                    _check_same(module, same, answer["same"])
                    answers[label].append({**answer, "started": worker.started, "memory": memory})
                    say = f"turn {turn + 1} of {turns}: {label}: {answer['seconds']:.1f} s"
                    print(f"  {say}", file=sys.stderr, flush=True)
        yield {"answers": answers, "about": about, "unfinished": turn + 1 < turns}


def _in_order(things: Sequence[Any], turn: int) -> Sequence[Any]:
    return things if turn % 2 == 0 else things[::-1]


def _check_same(module: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for name in one | other:
        first, second = (side.get(name, "not told") for side in (one, other))
        if first != second:
            raise SideError(f"the sides of {module} do not do the same: {name} is {first} and {second}")
