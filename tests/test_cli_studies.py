"""The commands of several runs, for real, on a network of one stage and forty digits."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from jaxtl.cli import main
from jaxtl.recipe import load_recipe
from jaxtl.studies.lr_finder import RangeTest

RECIPE = """
model: {name: cifar_resnet20.letters, until: layer1}
data: {source: digits, train_samples: 40, size: 16}
epochs: 1
batch_size: 20
eval_batch_size: 360
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.yaml").write_text(RECIPE)
    return "short.yaml"


def test_lr_find_draws_and_suggests_overrides(config, tmp_path, capsys) -> None:
    assert main(["lr-find", config, "--steps", "20", "--lowest", "1e-4"]) == 0
    out = capsys.readouterr().out
    assert "optimizer.slow.lr=" in out
    assert "optimizer.fast.lr=" in out
    assert (tmp_path / "lr_find.png").stat().st_size > 1000
    words = next(line for line in out.splitlines() if "optimizer." in line).split()[1:]
    assert load_recipe(config, words).optimizer["fast"].lr == pytest.approx(
        10 * load_recipe(config, words).optimizer["slow"].lr, rel=0.01
    )


def test_lr_find_suggests_what_a_strategy_takes(config, capsys) -> None:
    changes = ["strategy=gradual", "epochs=3"]
    assert main(["lr-find", config, *changes, "--phase", "2", "--steps", "20", "--lowest", "1e-4"]) == 0
    words = next(line for line in capsys.readouterr().out.splitlines() if "optimizer." in line).split()[1:]
    assert set(load_recipe(config, [*changes, *words]).optimizer) == {"slow", "fast"}


def test_compare_trains_each_strategy_and_twice_does_nothing_twice(config, tmp_path, capsys) -> None:
    command = ["compare", config, "--strategies", "features, gradual", "--seeds", "1", "--output", "out"]
    assert main(command) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["features", "gradual"]
    assert rows[0]["trained"] < rows[1]["trained"] == 1
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("run.json")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("run.json")} == times
    assert "features" in capsys.readouterr().out


def test_sweep_takes_fields_with_several_values_and_with_one(config, tmp_path) -> None:
    head_only = "groups={head: fast, '*': frozen}"
    assert main(["sweep", config, "optimizer.fast.lr=1e-2,1e-3", head_only, "--output", "out"]) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["settings"] for row in rows] == [{"optimizer.fast.lr": 1e-2}, {"optimizer.fast.lr": 1e-3}]


def test_transferability_freezes_one_stage_more_each_time(config, tmp_path) -> None:
    assert main(["transferability", config, "--output", "out"]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(found["rows"]) == 3
    assert list(tmp_path.glob("out/*.png"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lr-find", "short.yaml", "--plot", "."], ". is a folder; name a file"),
        (["lr-find", "short.yaml", "--plot", "short.yaml/plot.png"], "short.yaml is a file"),
        (["plan", "digits", "--model", "cifar_resnet20.letters", "--output", "."], ". is a folder; name a file"),
        (["plan", "digits", "--model", "cifar_resnet20.letters", "--output", "short.yaml"], "is there already"),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is_measured(config, monkeypatch, capsys, words, message):
    for module in ("jaxtl.train.run", "jaxtl.studies.plan"):
        monkeypatch.setattr(f"{module}.prepare", lambda recipe: pytest.fail("it began"))
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert load_recipe("short.yaml").epochs == 1


def test_rates_are_told_though_their_curve_cannot_be_drawn(config, monkeypatch, capsys):
    found = RangeTest(np.ones(2), np.ones(2), {"fast": 1e-3}, suggestions={"valley": 10.0})
    monkeypatch.setattr("jaxtl.train.run.prepare", lambda recipe: SimpleNamespace(model=None, data=None))
    monkeypatch.setattr("jaxtl.studies.lr_finder.find_rates", lambda *given, **more: found)

    def full_disk(*given):
        raise OSError("no space left")

    monkeypatch.setattr("jaxtl.report.range_test.plot_range_test", full_disk)
    assert main(["lr-find", config]) == 1
    assert str(found) in capsys.readouterr().out


@pytest.mark.slow
def test_plan_writes_a_recipe_that_runs(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "digits", "--model", "cifar_resnet20.letters", "--size", "16", "--budget", "20s"]) == 0
    assert "decisions" in capsys.readouterr().out
    recipe = load_recipe("plan.yaml")
    assert recipe.data.source == "digits"
    assert "because" in (tmp_path / "plan.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "short.yaml", "--strategies", "gradul"], "did you mean 'gradual'?"),
        (["sweep", "short.yaml", "epochs=1"], "nothing to sweep"),
        (["sweep", "short.yaml", "epoch=1,2"], "did you mean 'epochs'?"),
        (["lr-find", "short.yaml", "--phase", "2"], "has 1 phases"),
        (["plan", "digits", "--model", "cifar_resnet20.letters", "--budget", "soon"], "soon"),
    ],
)
def test_what_cannot_be_is_one_sentence(config, capsys, words, message) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
