"""``jaxtl cache`` and the compiled programs that a second process finds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import jaxtl
from jaxtl import cache
from jaxtl.cli import main
from jaxtl.data import decoded, looked, tfds_pass
from jaxtl.train import feature_cache

_RUN = """
import sys, time
import jax, jaxtl
from jaxtl.cache import cache_folder
compiled = []
jax.monitoring.register_event_listener(lambda event, **_: compiled.append(event))
model = jaxtl.load("cifar_resnet20.letters", num_classes=10)
data = jaxtl.open_data("digits", model, samples_per_class=2, augment="none")
groups = {"layer3": "slow", "head": "fast", "*": "frozen"}
jaxtl.fine_tune(model, data, groups=groups, epochs=2, batch_size=20, progress=False)
print(compiled.count("/jax/compilation_cache/cache_hits"))
"""


def test_a_second_process_compiles_nothing_that_took_long(tmp_path) -> None:
    environment = {
        **os.environ,
        "JAXTL_CACHE": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    hits = [
        int(subprocess.run([sys.executable, "-c", _RUN], env=environment, check=True, capture_output=True).stdout)
        for _ in range(2)
    ]
    assert hits[0] == 0
    assert hits[1] > 0


def test_listing_and_clearing(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path))
    model = jaxtl.load("cifar_resnet20.letters", num_classes=10)
    data = jaxtl.open_data("digits", model, samples_per_class=2, augment="none")
    jaxtl.fine_tune(model, data, groups={"head": "fast", "*": "frozen"}, epochs=2, batch_size=20, progress=False)
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert "features: cifar_resnet20: pooled, digits, 20 train images, evaluation's pixels" in shown
    assert str(tmp_path) in shown
    assert main(["cache", "clear", "features"]) == 0
    capsys.readouterr()
    assert main(["cache", "list", "features"]) == 0
    assert capsys.readouterr().out.startswith("0 B in ")


@pytest.mark.parametrize("kind", [module.KIND for module in (feature_cache, decoded, looked, tfds_pass)])
def test_every_kind_of_entry_is_listed_and_cleared(kind, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path))
    with cache.written(kind, "0123", {"what": "some photos"}):
        pass
    assert main(["cache", "list", kind]) == 0
    assert f"{kind}: some photos" in capsys.readouterr().out
    assert main(["cache", "clear", kind]) == 0
    assert not cache.entries()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cache", "claer"], "can list and clear, not 'claer'; did you mean"),
        (["cache", "clear", "feature"], "holds no 'feature'"),
    ],
)
def test_wrong_words_are_named(words, message, capsys) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_limit_that_is_no_number_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setenv("JAXTL_CACHE_LIMIT", "20GB")
    assert main(["cache"]) == 2
    assert "JAXTL_CACHE_LIMIT is '20GB'; give a number of bytes" in capsys.readouterr().err
