"""``jaxtl predict``: answers as they come, and what becomes of them when something is in the way."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from small_models import small_model

import jaxtl
import jaxtl.cli_predict
from jaxtl.cli import main


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    return small_model(until="layer1").replace(classes=("ant", "bee", "cat", "dög"))


@pytest.fixture(autouse=True)
def loaded(model, monkeypatch) -> None:
    monkeypatch.setitem(vars(jaxtl), "load", lambda name, weights: model)
    monkeypatch.setattr(jaxtl.cli_predict, "_AT_ONCE", 2)


@pytest.fixture
def files(tmp_path) -> list[str]:
    paths = [tmp_path / f"{name}.png" for name in "äbcde"]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return list(map(str, paths))


def test_lines_and_json_are_what_python_gives(model, files, capsys) -> None:
    whole = jaxtl.predict(model, files, top=2, tta="flip", batch_size=2)
    assert main(["predict", "m", *files, "--top", "2", "--tta", "flip"]) == 0
    lines = [f"{a['path']}: {', '.join(f'{name} {100 * p:.2f} %' for name, p in a['top'])}" for a in whole]
    assert capsys.readouterr().out.splitlines() == lines
    assert main(["predict", "m", *files, "--top", "2", "--tta", "flip", "--json"]) == 0
    assert capsys.readouterr().out == json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def test_numbers(model, files, capsys, monkeypatch) -> None:
    numbers = model.replace(task="regression", classes=("a", "b", "c", "d"))
    monkeypatch.setitem(vars(jaxtl), "load", lambda name, weights: numbers)
    assert main(["predict", "m", files[0]]) == 0
    (answer,) = jaxtl.predict(numbers, files[0])
    said = ", ".join(f"{name} {value:g}" for name, value in answer["values"].items())
    assert capsys.readouterr().out == f"{files[0]}: {said}\n"


def test_names_that_are_no_utf8(tmp_path, files, capsys) -> None:
    name = tmp_path / "caf\udce9.png"
    try:
        name.write_bytes((tmp_path / "b.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert main(["predict", "m", str(name)]) == 0
    assert "caf\\udce9.png: " in capsys.readouterr().out
    assert main(["predict", "m", str(name), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["path"] == str(name)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_broken_files_are_named_behind_the_answers_to_the_others(options, tmp_path, files, capsys) -> None:
    for broken in (files[1], files[4]):
        open(broken, "wb").close()
    assert main(["predict", "m", str(tmp_path), *options]) == 1
    out, errors = capsys.readouterr()
    assert [name in out for name in files] == [True, False, True, True, False]
    assert [line.startswith("error: ") for line in errors.splitlines()] == [True, True]
    assert "b.png' (the file is empty)" in errors
    assert "e.png' (the file is empty)" in errors
    if options:
        assert len(json.loads(out)) == 3
    assert main(["predict", "m", files[1], *options]) == 1
    assert capsys.readouterr().out == ("[]\n" if options else "")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_interrupt_leaves_the_answers_until_then(options, files, capsys, monkeypatch) -> None:
    read = jaxtl.train.predict.read_image

    def interrupted(path, channels):
        if str(path) == files[2]:
            raise KeyboardInterrupt
        return read(path, channels)

    monkeypatch.setattr("jaxtl.train.predict.read_image", interrupted)
    assert main(["predict", "m", *files, *options]) == 130
    out = capsys.readouterr().out
    assert [name in out for name in files] == [True, True, False, False, False]
    if options:
        assert len(json.loads(out)) == 2


def test_a_wrong_path_or_option_is_refused_before_any_answer(files, capsys) -> None:
    assert main(["predict", "m", *files, "a.jpg"]) == 2
    assert capsys.readouterr() == ("", "error: no such image: a.jpg\n")
    assert main(["predict", "m", *files, "--tta", "flop", "--json"]) == 2
    assert capsys.readouterr().out == ""
