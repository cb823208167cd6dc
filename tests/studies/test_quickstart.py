import json

import pytest

import jaxtl
from jaxtl.studies import quickstart


@pytest.fixture
def short(monkeypatch):
    """The study with a budget of seconds."""
    whole = quickstart.Strategy.recipe
    monkeypatch.setattr(
        quickstart.Strategy, "recipe", lambda self, seed: whole(self, seed).replace(epochs=4, eval_every=2)
    )


def test_prints_a_table_and_writes_what_it_says(short, tmp_path, capsys):
    accuracies = quickstart.run(tmp_path, seeds=1)
    printed = capsys.readouterr().out
    assert list(accuracies) == ["from scratch", "feature extraction", "fine-tuning"]
    for title, values in accuracies.items():
        assert len(values) == 1
        assert title in printed
    assert json.loads((tmp_path / "results.json").read_text()) == accuracies
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    model = jaxtl.load(tmp_path / "model")
    assert model.classes == tuple("0123456789")
    (answer,) = jaxtl.predict(model, tmp_path / "digit.png")
    assert f"for a {answer['label']}" in printed
    held_out = quickstart._data(model, seed=0)
    assert jaxtl.evaluate(model, held_out)["accuracy"] == pytest.approx(accuracies["fine-tuning"][0])


def test_the_command_it_names_can_be_called(tmp_path, monkeypatch):
    scripts = tmp_path / "my env" / "bin"
    monkeypatch.setattr(quickstart.sysconfig, "get_path", lambda name: str(scripts))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert quickstart._command() == f"'{scripts}/jaxtl'"
    monkeypatch.chdir(tmp_path)
    assert quickstart._command() == "'my env/bin/jaxtl'"
    (tmp_path / "jaxtl").touch(mode=0o755)
    assert quickstart._command() == "jaxtl"


def test_every_strategy_has_the_same_budget_and_the_same_digits():
    fields = {"epochs", "batch_size", "schedule", "label_smoothing", "clip_norm"}
    budgets = [strategy.recipe(seed=1).model_dump_json(include=fields) for strategy in quickstart.STRATEGIES]
    assert len(set(budgets)) == 1
    assert len({quickstart._data(jaxtl.load(quickstart.PRETRAINED), seed=1).fingerprint for _ in range(2)}) == 1


def test_even_four_epochs_of_fine_tuning_beat_scratch(short, tmp_path):
    accuracies = quickstart.run(tmp_path, seeds=1)
    assert accuracies["fine-tuning"][0] > accuracies["from scratch"][0] + 0.1
