"""What the benchmarks write is what was measured."""

import doctest
import importlib

import pytest

from benchmarks import frozen_stages, number_of_images, train_step, whole_tasks
from benchmarks.machine import machine
from benchmarks.options import Options
from benchmarks.report import report
from benchmarks.run import WORKS, _parser
from benchmarks.turns import _check_same, _in_order

SIDE = {"device": "cpu", "setup": "float32", "same": {}, "more": {}}
ABOUT = {
    "jaxtl": {**SIDE, "versions": {"jaxtl": "1"}, "more": {"cost": {"flops": 4e9, "bytes": 1e9}}},
    "PyTorch": {**SIDE, "versions": {"torch": "2"}},
}
MEMORY = {"host": 2**30, "device": None}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def rates_of(trains, ours, theirs):
    about = {side: {**said, "same": {"stages": ["stem", "layer1", "fc"]}} for side, said in ABOUT.items()}
    return {
        "case": {"model": "resnet18", "size": 96, "batch_size": 8, "trains": trains, "cached": False},
        "rates": {"jaxtl": ours, "PyTorch": theirs},
        "memory": {"jaxtl": MEMORY, "PyTorch": MEMORY},
        "about": about,
    }


def run_of(seconds, epochs, curve, extrapolated=0):
    accuracy = None if extrapolated else curve[-1][1]
    return {
        "seconds": seconds,
        "epochs": epochs,
        "curve": curve,
        "accuracy": accuracy,
        "extrapolated": extrapolated,
        "started": 1.0,
        "memory": MEMORY,
    }


@pytest.mark.parametrize(
    "name", ["run", "tables", "limits", "options", "utilisation", "whole_tasks", "torch_network", "torch_training"]
)
def test_doctests(name):
    found = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_train_step_shows_the_lower_limit_and_no_empty_column():
    device = {"flops": [1e10, 2e10, 3e10], "bytes": [1e9, 1e9, 1e9]}
    text = train_step.tables({"device": device, "rows": [rates_of("head", [4.0, 2.0, 3.0], [2.0, 2.0, 2.0])]})
    header, _, row = text.splitlines()[-3:]
    found = dict(zip(cells(header), cells(row), strict=True))
    assert found["jaxtl, images/s"] == "3.0 (2.0 to 4.0)"
    assert found["jaxtl / PyTorch"] == "1.50 (1.00 to 2.00)"
    assert found["limit by arithmetic, images/s"] == "40.0"  # 8 images of 4 GFLOP in all, at 20 GFLOP/s
    assert found["limit by traffic, images/s"] == "8.0"
    assert found["of the limit"] == "0.38 (0.25 to 0.50)"
    assert not any("device memory" in name for name in found)


def test_frozen_stages_shows_what_each_stage_saves():
    rows = [rates_of(0, [8.0], [16.0]), rates_of(1, [16.0], [32.0])]
    first, second = frozen_stages.tables({"rows": rows}).splitlines()[-2:]
    assert cells(first)[-2:] == ["-", "-"]
    assert cells(second)[-2:] == ["500.0", "250.0"]
    assert cells(second)[4] == "layer1"


def test_number_of_images_finds_the_bend():
    def row(count, first, later):
        runs = {"jaxtl": [run_of(first + 2 * later, [first, later, later], [(first, 0.5)])]}
        return {"trains": "head", "images": count, "answers": runs, "about": {}}

    rows = [row(1000, 1.0, 0.1), row(2000, 2.0, 0.2), row(3000, 3.0, 0.3), row(4000, 9.0, 0.4)]
    text = number_of_images.tables({"rows": rows})
    assert "- head, jaxtl, first epochs: the slope bends at 3,000 images." in text
    assert "later epochs: no bend." in text
    assert [cells(line)[4] for line in text.splitlines()[3:6]] == ["1000", "1000", "6000"]


def test_an_extrapolated_run_has_no_accuracy_and_says_so():
    answers = {
        "jaxtl": [run_of(10.0, [1.0, 1.0], [(10.0, 0.9)])],
        "PyTorch": [run_of(40.0, [4.0, 4.0], [(9.0, 0.8)], extrapolated=8)],
    }
    found = dict(zip(whole_tasks.HEADER, whole_tasks.row("PyTorch", answers, "jaxtl", 10), strict=True))
    assert found["PyTorch's time / jaxtl's"] == "4.00"
    assert found["epochs run of"] == "2 of 10, rest extrapolated"
    assert found["accuracy, %"] == "-"


def test_sides_that_do_different_work_are_refused():
    with pytest.raises(SystemExit, match="trained is 3 and 4"):
        _check_same("here", [{"same": {"trained": 3}}, {"same": {"trained": 4}}])


def test_every_other_turn_goes_backwards():
    assert [_in_order(("a", "b"), turn) for turn in range(3)] == [("a", "b"), ("b", "a"), ("a", "b")]


def test_the_report_keeps_each_works_own_date():
    entry = {
        "date": "2001-02-03",
        "machine": {"cpu": "a processor", "cores": 2, "memory_gb": 8, "python": "3.11"},
        "load_before": 0.0,
        "load_after": 1.0,
        "turns": 5,
        "weights": "",
        "data": "",
        "found": {"rows": [rates_of(0, [8.0], [16.0])]},
    }
    other = {**entry, "date": "2004-05-06", "load_before": 2.0}
    text = report({"CPU, full": {"frozen_stages": entry}, "CPU, small": {"frozen_stages": other}}, WORKS)
    quiet, busy = text.split("## CPU, small")
    assert "2001-02-03, a processor, cores used: 2, 8 GB, device cpu" in quiet
    assert "jaxtl 1, torch 2" in quiet
    assert "Measure again" not in quiet
    assert "2004-05-06" in busy
    assert "Measure again" in busy


@pytest.mark.parametrize("name", WORKS)
def test_every_work_says_what_it_is(name):
    work = importlib.import_module(f"benchmarks.{name}")
    assert work.TITLE
    assert len(work.ABOUT) > 100
    assert isinstance(work.NEEDS_DATA, bool)
    assert _parser().parse_args(["--only", name]).only == [name]


def test_turns_by_size():
    assert Options("full", gpu=False, cores=2).turns == 5
    assert Options("full", gpu=False, cores=2, given_turns=3).turns == 3


@pytest.mark.parametrize(("told", "expected"), [("glibc.malloc.hugetlb=1", True), ("glibc.malloc.hugetlb=0", False)])
def test_whether_memory_was_in_huge_pages_is_written_down(monkeypatch, told, expected):
    monkeypatch.setenv("GLIBC_TUNABLES", told)
    assert machine()["huge_pages"] is expected
