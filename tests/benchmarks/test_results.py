"""What was measured is kept until the same is measured again, to the end."""

import json
import sys

import pytest
from benchmark_rows import entry_of, rates_of

from benchmarks import frozen_stages, results, run, train_step
from benchmarks.options import Options

OPTIONS = Options("full", gpu=False, cores=2)
HEADING = "a processor, 2 cores, full"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where results lie: two rows of one work, each 1 image a second."""
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    monkeypatch.setattr(run, "wait_for_quiet", lambda: 0.0)
    entry = entry_of(rates_of(0, [1.0], [1.0]), rates_of(1, [1.0], [1.0]))
    results.write(tmp_path, {HEADING: {"frozen_stages": entry}}, run.WORKS)
    return tmp_path


def found(folder):
    """The first rate of each row, by call and frozen stages."""
    (works,) = results.read(folder).values()
    return [
        {row["case"]["trains"]: row["rates"]["jaxtl"][0] for row in call["found"]["rows"]}
        for call in results.calls(works["frozen_stages"])
    ]


def measuring(monkeypatch, *rows, then=None):
    def measure(options, show):
        shown = {"rows": []}
        for row in rows:
            shown["rows"].append(row)
            show(shown)
        if then is not None:
            raise then
        return shown

    monkeypatch.setattr(frozen_stages, "measure", measure)


def test_rows_that_a_call_leaves_out_stay(folder, monkeypatch):
    measuring(monkeypatch, rates_of(1, [2.0], [2.0]))
    run._measure(frozen_stages, "frozen_stages", HEADING, OPTIONS)
    assert found(folder) == [{1: 2.0}, {0: 1.0}]
    page = (folder / "RESULTS.md").read_text()
    assert page.count("### Training step against") == 1
    assert page.count("\n| resnet18 ") == 2
    assert "2001-02-03" in page

    measuring(monkeypatch, rates_of(0, [3.0], [3.0]), rates_of(1, [3.0], [3.0]))
    run._measure(frozen_stages, "frozen_stages", HEADING, OPTIONS)
    assert found(folder) == [{0: 3.0, 1: 3.0}]


def test_a_call_that_is_stopped_keeps_what_it_and_those_before_found(folder, monkeypatch):
    measuring(monkeypatch, rates_of(0, [2.0], [2.0]), then=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run._measure(frozen_stages, "frozen_stages", HEADING, OPTIONS)
    assert found(folder) == [{0: 2.0}, {1: 1.0}]


def test_a_row_without_all_its_turns_takes_no_place(folder, monkeypatch):
    measuring(monkeypatch, {**rates_of(0, [2.0], [2.0]), "unfinished": True})
    run._measure(frozen_stages, "frozen_stages", HEADING, OPTIONS)
    assert found(folder) == [{0: 2.0}, {0: 1.0, 1: 1.0}]
    assert "Turns: 1, stopped before the last." in (folder / "RESULTS.md").read_text()


def test_toy_inputs_write_nothing(folder, monkeypatch):
    measuring(monkeypatch, rates_of(1, [2.0], [2.0]))
    run._measure(frozen_stages, "frozen_stages", HEADING, Options("quick", gpu=False, cores=2))
    assert found(folder) == [{0: 1.0, 1: 1.0}]


def test_nothing_is_written_where_no_page_can_be_made(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(IndexError):
        results.write(folder, {HEADING: {"frozen_stages": entry_of()}}, run.WORKS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_folders_are_written_without_their_place():
    options = Options("full", gpu=False, cores=2, data="/somewhere/flowers", weights="/somewhere/a.safetensors")
    case = {"task": {"data": "/somewhere/flowers", "weights": "/somewhere/a.safetensors", "trains": "head"}}
    task = {"data": "flowers", "weights": "a.safetensors", "trains": "head"}
    assert run._without_folders([case], options) == [{"task": task}]


def test_a_work_that_fails_ends_no_other(folder, monkeypatch, capsys):
    measuring(monkeypatch, rates_of(1, [2.0], [2.0]))
    monkeypatch.setattr(train_step, "measure", lambda options, show: 1 / 0)
    monkeypatch.setattr(run, "accelerator", lambda: "")
    monkeypatch.setattr(sys, "argv", ["run", "--full", "--only", "train_step", "frozen_stages"])
    with pytest.raises(SystemExit, match="not measured to the end: train_step;"):
        run.main()
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert any("frozen_stages" in works for works in json.loads((folder / "results.json").read_text()).values())


def test_an_unknown_network_is_refused_before_anything_is_measured(folder, monkeypatch):
    monkeypatch.setattr(run, "_measure", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(run, "accelerator", lambda: "")
    monkeypatch.setattr(sys, "argv", ["run", "--full", "--only", "train_step", "--networks", "resnet_50"])
    with pytest.raises(SystemExit, match=r"error: --networks resnet_50: .*did you mean 'resnet50'"):
        run.main()
