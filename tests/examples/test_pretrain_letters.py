"""The script that made the carried network, on too few letters to learn any."""

import functools
import runpy
import sys
from pathlib import Path

import pytest

import jaxtl

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def script(monkeypatch):
    """Its names, as if it had been started in its folder."""
    monkeypatch.syspath_prepend(EXAMPLES)
    yield runpy.run_path(str(EXAMPLES / "pretrain_letters.py"))
    sys.modules.pop("letters", None)


def test_it_trains(script, monkeypatch, capsys):
    monkeypatch.setattr(jaxtl, "load", functools.partial(jaxtl.load, until="stem"))  # compiles in seconds
    model = script["pretrain"](glyphs=16, batch_size=8, peak_rate=3e-3, weight_decay=0.05, log_every=1)
    assert capsys.readouterr().out.count("glyphs/s") == 2
    assert model.classes == script["CLASSES"]


def test_less_than_a_batch_is_refused(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pretrain_letters.py", "--glyphs", "10"])
    with pytest.raises(SystemExit):
        script["main"]()
    assert "--glyphs 10" in capsys.readouterr().err
