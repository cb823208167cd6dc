"""What the benchmarks write is what was measured."""

import doctest
import importlib

import pytest
from benchmark_rows import ABOUT, entry_of, rates_of, run_of

from benchmarks import (
    feature_extraction,
    fine_tuning,
    first_step,
    frozen_stages,
    input_pipeline,
    number_of_images,
    train_step,
    whole_tasks,
)
from benchmarks.machine import machine
from benchmarks.options import Options
from benchmarks.report import _where, report
from benchmarks.run import WORKS, _parser


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "tables",
        "limits",
        "options",
        "report",
        "results",
        "turns",
        "utilisation",
        "whole_tasks",
        "torch_network",
        "torch_training",
    ],
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
        return {"case": {"trains": "head", "images": count}, "answers": runs, "about": {}}

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


def test_the_report_keeps_each_calls_own_date():
    entry = entry_of(rates_of(0, [8.0], [16.0]), commit="a99a270b01", note="The rows come from several calls.")
    older = entry_of(rates_of(1, [4.0], [8.0]), date="2004-05-06", load_before=2.0)
    text = report({"CPU, full": {"frozen_stages": {**entry, "older": [older]}}}, WORKS)
    new, old = text.split("2004-05-06")
    assert "2001-02-03, a processor, cores used: 2, 8 GB, device cpu" in new
    assert "jaxtl 1 (a99a270b01), torch 2. jaxtl: float32; PyTorch: float32. Turns: 1. Load" in new
    assert "The rows come from several calls." in new
    assert "| 1000.0 | 500.0 |" in new
    assert "Measure again" not in new
    assert "jaxtl 1, torch 2." in old
    assert "Measure again" in old
    assert "| 2000.0 | 1000.0 |" in old


def test_the_report_names_what_a_work_used():
    def used(case, setup="float32"):
        about = {"jaxtl": {**ABOUT["jaxtl"], "setup": setup}}
        row = {**rates_of(0, [8.0], [16.0]), "case": case, "about": about}
        return _where(entry_of(row))

    given = {"data": "flowers", "weights": "a.safetensors"}
    assert used({"trains": 0}).endswith("jaxtl: float32. Turns: 1.")
    assert used({"task": given, "what": "files"}).endswith("Turns: 1; data flowers; weights a.safetensors.")
    assert used({**given, "weights": ""}).endswith(
        "; data flowers; random weights, with which accuracies mean nothing."
    )
    assert used({"data": "flowers"}, setup="").endswith("jaxtl 1. Turns: 1; data flowers.")


def test_cached_steps_have_no_memory():
    device = {"flops": [1e10], "bytes": [1e9]}
    rows = [rates_of("head", [4.0], [2.0]), rates_of("head", [4.0], [2.0], cached=True)]
    plain, cached = train_step.tables({"device": device, "rows": rows}).splitlines()[-2:]
    assert cells(plain)[-2:] == ["1024", "1024"]
    assert cells(cached)[-2:] == ["-", "-"]


def test_whole_runs_have_a_table():
    runs = {"jaxtl": [run_of(2.0, [1.0], [(2.0, 0.5)])], "PyTorch": [run_of(3.0, [1.0], [(3.0, 0.6)])]}
    case = {"label": "head", "epochs": 1, "views": None, "data": "a", "weights": "b"}
    rows = {"rows": [{"case": case, "answers": runs, "about": ABOUT}]}
    assert cells(feature_extraction.tables(rows).splitlines()[-1])[:4] == ["head", "PyTorch", "3.0", "1.50"]
    assert cells(fine_tuning.tables(rows).splitlines()[-2])[-1] == "2.0"

    first = {"model": "resnet18", "size": 96, "batch_size": 8, "trains": "head"}
    found = first_step.tables({"rows": [{"case": first, "answers": runs, "about": ABOUT}]})
    header, _, ours, _ = found.splitlines()
    assert dict(zip(cells(header), cells(ours), strict=True))["both, s"] == "3.00"

    for found in runs.values():
        found[0].update(first=10.0, second=20.0)
    case = {"augment": "light", "workers": 2, "data": "a"}
    lines = input_pipeline.tables({"rows": [{"case": case, "answers": runs, "about": ABOUT}]}).splitlines()
    assert cells(lines[-1])[:4] == ["light", "second", "2", "20"]


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
