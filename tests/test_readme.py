"""What the README shows is what happens."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import jaxtl

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert "layer3" in capsys.readouterr().out
    before = jaxtl.load("cifar_resnet20.letters", num_classes=10)
    after = names["model"]
    np.testing.assert_array_equal(after.params["conv1"]["kernel"], before.params["conv1"]["kernel"])
    assert jaxtl.evaluate(after, names["data"])["accuracy"] > 0.7


def test_the_one_call_freezes_what_the_loop_does():
    (call,) = re.findall(r"```\n(result = jaxtl.fine_tune\(.*?\n\)\n)```", README, re.DOTALL)
    names = {"jaxtl": SimpleNamespace(fine_tune=lambda model, data, **fields: fields), "model": None, "data": None}
    exec(compile(call, "README.md", "exec"), names)
    recipe = jaxtl.Recipe.from_keywords(**names["result"])
    assert recipe.groups == {"head": "fast", "layer3": "slow", "*": "frozen"}
    assert {group: entry.lr for group, entry in recipe.optimizer.items()} == {"slow": 1e-3, "fast": 1e-2}


def test_every_named_file_exists():
    root = Path(__file__).parents[1]
    named = re.findall(r"(?:configs|examples|docs|benchmarks)/[\w.]+\.(?:yaml|py|md)", README)
    assert named
    assert [name for name in named if not (root / name).exists()] == []
