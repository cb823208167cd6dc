"""Sides take turns, do the same, and end with the process that asks them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.machine import ROOT
from benchmarks.turns import SideError, Variant, Worker, _in_order, ask_once, rates, whole_runs

TOY = "toy_sides"


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(ROOT)]))


def test_every_other_turn_goes_backwards():
    assert [_in_order(("a", "b"), turn) for turn in range(3)] == [("a", "b"), ("b", "a"), ("a", "b")]


def test_rates_are_of_all_turns_and_memory_is_that_of_the_work(monkeypatch):
    asked, ask = [], Worker.ask
    monkeypatch.setattr(Worker, "ask", lambda worker, question: asked.append(question) or ask(worker, question))
    row = rates(TOY, {"name": "a"}, turns=3, seconds=0.01)
    assert row["case"] == {"name": "a"}
    assert row["rates"] == {side: pytest.approx([2000.0] * 3) for side in ("jaxtl", "PyTorch")}
    assert row["about"]["jaxtl"]["more"] == {"images": 2, "cost": 3}
    assert row["memory"]["jaxtl"]["host"] > 2**20
    assert asked[-4:] == ["memory", "memory", "afterwards", "afterwards"]


def test_whole_runs_are_told_turn_by_turn():
    variants = [Variant("one", "jaxtl", {"same": {}}, again="one, again"), Variant("two", "PyTorch", {"same": {}})]
    told = [
        ({label: len(runs) for label, runs in found["answers"].items()}, found["unfinished"])
        for found in whole_runs(TOY, variants, turns=2)
    ]
    assert told == [({"one": 1, "one, again": 1, "two": 1}, True), ({"one": 2, "one, again": 2, "two": 2}, False)]


@pytest.mark.parametrize("other", [{"trained": 4}, {}, {"trained": 3, "steps": 1}])
def test_sides_that_do_different_work_are_refused_after_their_first_answers(other, tmp_path):
    third = {"same": {"trained": 3}, "log": str(tmp_path / "log")}
    variants = [
        Variant("one", "jaxtl", {"same": {"trained": 3}}),
        Variant("two", "PyTorch", {"same": other}),
        Variant("three", "PyTorch", third),
    ]
    with pytest.raises(SideError, match=r"do not do the same: (trained|steps) is"):
        next(whole_runs(TOY, variants, turns=5))
    assert not (tmp_path / "log").exists()


def test_a_side_that_ends_early_says_how():
    with pytest.raises(SideError, match="jaxtl of toy_sides ended with code 1; its message is above"):
        ask_once(TOY, "jaxtl", {"dies": "at first"}, 1)
    with pytest.raises(SideError, match="was ended by SIGKILL, as Linux does"):
        ask_once(TOY, "jaxtl", {"dies": "asked"}, 1)


def test_a_side_that_has_ended_between_two_questions_says_how(tmp_path):
    log = tmp_path / "log"
    with Worker(TOY, "jaxtl", {"log": str(log)}, str(tmp_path)) as worker:
        os.kill(int(log.read_text().split()[0]), signal.SIGKILL)
        worker._process.wait()
        with pytest.raises(SideError, match="SIGKILL"):
            worker.ask(1)


def test_a_signal_that_ends_the_process_ends_the_sides_and_removes_their_caches(tmp_path):
    log = tmp_path / "log"
    case = {"log": str(log), "seconds": 60}
    program = (
        "from benchmarks import run, turns; run._end_with_the_sides(); print('ready', flush=True); "
        f"turns.ask_once('{TOY}', 'jaxtl', {case}, 1)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        begun = time.monotonic()
        while not (log.exists() and log.read_text()):
            assert time.monotonic() - begun < 30
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    side, cache = log.read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(side), 0)
    assert not Path(cache).parent.exists()
