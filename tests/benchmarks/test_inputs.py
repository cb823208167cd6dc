"""What would stop a work is said before the first is measured."""

import importlib
import subprocess
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.images import make_folder
from benchmarks.inputs import check_files, to_measure
from benchmarks.options import Options
from benchmarks.quiet import wait_for_quiet
from benchmarks.run import WORKS, _parser
from jaxtl.errors import InputError


def chosen(options, *names):
    return list(to_measure({name: importlib.import_module(f"benchmarks.{name}") for name in names}, options))


def test_images_and_weights_are_there(tmp_path):
    images = Path(make_folder(tmp_path / "images", train=2, val=2, pixels=8))
    weights = tmp_path / "a.safetensors"
    weights.touch()
    check_files(None, None)
    check_files(images, weights)
    with pytest.raises(InputError, match="no such safetensors file"):
        check_files(images, tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="there is no train/<class>"):
        check_files(tmp_path, weights)
    (images / "val").rename(tmp_path / "val")
    with pytest.raises(InputError, match="there is no val/<class>"):
        check_files(images, weights)


def test_works_without_one_of_the_networks_or_images_are_left_out(capsys):
    options = Options("full", gpu=False, cores=2, networks=("resnet50",))
    assert chosen(options, "train_step", "frozen_stages", "fine_tuning", "number_of_images") == [
        "train_step",
        "number_of_images",
    ]
    said = capsys.readouterr().out
    assert "frozen_stages is left out: it measures none of --networks" in said
    assert "fine_tuning is left out: it needs --data" in said


def test_a_network_that_no_work_measures_is_refused():
    with pytest.raises(InputError, match=r"resnet_50: .*mobilenetv2_100, resnet18, .*did you mean 'resnet50'"):
        chosen(Options("full", gpu=False, cores=2, networks=("resnet50", "resnet_50")), *WORKS)
    with pytest.raises(InputError, match="they do not measure several"):
        chosen(Options("full", gpu=False, cores=2, networks=("resnet50",)), "number_of_images")


@pytest.mark.parametrize("turns", ["0", "2.5", "many"])
def test_turns_are_counted_from_one(turns, capsys):
    with pytest.raises(SystemExit):
        _parser().parse_args(["--turns", turns])
    assert f"argument --turns: {turns} is no number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize(("ours", "theirs"), [("", "NVIDIA H200"), ("TPU v4", "")])
def test_sides_on_different_devices_are_refused(ours, theirs, monkeypatch):
    monkeypatch.setattr(machine, "_answer", lambda framework, _: {"JAX": ours, "PyTorch": theirs}[framework])
    expected = f"JAX computes on {ours or 'the CPU'} and PyTorch on {theirs or 'the CPU'}"
    with pytest.raises(InputError, match=expected):
        machine.accelerator()


def test_a_framework_that_does_not_start_is_said_in_its_words():
    with pytest.raises(InputError, match="JAX does not start: RuntimeError: no such device"):
        machine._answer("JAX", "raise RuntimeError('no such device')")


def test_the_commit_is_told_and_whether_the_code_was_changed(tmp_path):
    assert machine.commit(tmp_path) == ""

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    (tmp_path / "benchmarks").mkdir()
    for name in ("code.py", "benchmarks/results.json"):
        (tmp_path / name).write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    name = git("rev-parse", "HEAD")[:10]
    (tmp_path / "benchmarks/results.json").write_text("2")
    assert machine.commit(tmp_path) == name
    (tmp_path / "code.py").write_text("2")
    assert machine.commit(tmp_path) == f"{name}, changed"


@pytest.mark.parametrize(
    ("loads", "found", "said"),
    [
        ([0.2], 0.2, ""),
        ([2.0, 1.0, 0.25], 0.25, "load average 0.2 after 10 seconds"),
        ([2.0] * 100, 2.0, "load average 2.0 after 180 seconds"),
    ],
)
def test_a_work_waits_for_a_quiet_machine(loads, found, said, monkeypatch, capsys):
    coming = iter(loads)
    monkeypatch.setattr("benchmarks.quiet.os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("benchmarks.quiet.os.getloadavg", lambda: (next(coming), 0.0, 0.0))
    monkeypatch.setattr("benchmarks.quiet.time.sleep", lambda _: None)
    assert wait_for_quiet() == found
    out = capsys.readouterr().out
    assert said in out
    assert ("waiting until it is 0.3" in out) == bool(said)
