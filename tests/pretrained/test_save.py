from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch_reference
from small_models import bits, small_model
from timm_guest import import_timm

import jaxtl
from jaxtl.errors import InputError

CLASSES = ("Gänseblümchen", "ひまわり", "тюльпан", "🌹 rose")


def _assert_same(loaded: jaxtl.Model, model: jaxtl.Model) -> None:
    assert bits(loaded.params) == bits(model.params)
    assert bits(loaded.batch_stats) == bits(model.batch_stats)
    for field in ("preprocess", "name", "classes", "license", "num_classes", "stages"):
        assert getattr(loaded, field) == getattr(model, field), field
    assert loaded.graph is model.graph
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar_resnet20", {}),
        ("cifar_resnet20", {"until": "layer2", "drop_rate": 0.3, "drop_path_rate": 0.1}),
        ("cifar_resnet20", {"in_chans": 1}),
        ("cifar_resnet20", {"num_classes": 0, "in_chans": 5}),
        ("resnet10t", {"layers": (1, 1), "output_stride": 16, "act_layer": "silu"}),
        ("resnet50_gn", {"until": "layer1"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_a_model_comes_back_bit_for_bit(name: str, options: dict, tmp_path) -> None:
    model = small_model(name, **options).replace(license="apache-2.0", notes=())
    model = model.replace(preprocess=model.preprocess.replace(size=(48, 40), crop_pct=0.7, crop_mode="squash"))
    if model.num_classes:
        model = model.replace(classes=CLASSES)
    folder = jaxtl.save(model, tmp_path / "a" / "b")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    loaded = jaxtl.load(folder)
    _assert_same(loaded, model)
    images = torch_reference.images(32, model.preprocess.channels)
    np.testing.assert_array_equal(loaded(images), model(images))
    _assert_same(jaxtl.load(jaxtl.save(loaded, tmp_path / "again")), model)


def test_class_names_do_not_depend_on_the_locale(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("locale.getencoding", lambda: "ascii")
    folder = jaxtl.save(small_model().replace(classes=CLASSES), tmp_path)
    assert CLASSES[1] in (folder / "config.json").read_text(encoding="utf-8")


def test_a_saved_model_can_be_loaded_otherwise(tmp_path) -> None:
    model = small_model().replace(classes=CLASSES)
    jaxtl.save(model, tmp_path)
    changed = jaxtl.load(tmp_path, num_classes=2, drop_rate=0.5)
    assert (changed.classes, changed.num_classes) == (None, 2)
    assert bits(changed.params["layer3"]) == bits(model.params["layer3"])
    cut = jaxtl.load(tmp_path, until="layer1")
    assert (cut.classes, cut.num_classes) == (None, 4)
    random = jaxtl.load(tmp_path, weights=None)
    assert (random.num_classes, random.preprocess) == (4, model.preprocess)
    assert bits(random.params) != bits(model.params)


def test_others_may_read_the_weights_as_they_may_read_the_rest(tmp_path) -> None:
    folder = jaxtl.save(small_model(), tmp_path)
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1


def test_how_it_was_trained_is_kept(tmp_path) -> None:
    folder = jaxtl.save(small_model(), tmp_path, training={"recipe": {"epochs": 3}, "result": {"val_accuracy": 0.5}})
    kept = json.loads((folder / "config.json").read_text())["jaxtl"]
    assert kept["training"] == {"recipe": {"epochs": 3}, "result": {"val_accuracy": 0.5}}
    assert kept["version"] == jaxtl.__version__


def _fails_at(monkeypatch, what: str) -> None:
    def fail(*arguments, **options):
        raise OSError("disk full")

    if what == "weights":
        monkeypatch.setattr("safetensors.numpy.save_file", fail)
    elif what == "config":
        monkeypatch.setattr(Path, "write_text", fail)
    else:
        calls = iter(range(int(what)))
        replace = os.replace
        monkeypatch.setattr(os, "replace", lambda *names: fail() if next(calls, None) is None else replace(*names))


@pytest.mark.parametrize("what", ["weights", "config", "0", "1"])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_failure_in_the_middle_leaves_what_was_there(what: str, earlier: bool, tmp_path, monkeypatch) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    old = small_model().replace(classes=CLASSES)
    if earlier:
        jaxtl.save(old, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        _fails_at(patch, what)
        with pytest.raises(OSError, match="disk full"):
            jaxtl.save(small_model("cifar_resnet32", num_classes=2), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    new = small_model("cifar_resnet32", num_classes=2)
    assert bits(jaxtl.load(jaxtl.save(new, tmp_path)).params) == bits(new.params)


def test_what_a_killed_process_left_is_cleaned_up(tmp_path) -> None:
    for name in (".unfinished-abc", ".unfinished-now"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / ".unfinished-abc", (two_days_ago, two_days_ago))
    jaxtl.save(small_model(), tmp_path)
    left = [".unfinished-now", "config.json", "model.safetensors"]  # the first may be another process's that writes now
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_what_was_there_stays_when_the_new_files_vanish_while_they_take_their_places(tmp_path, monkeypatch) -> None:
    old = small_model().replace(classes=CLASSES)
    jaxtl.save(old, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def vanish(source, target):
        shutil.rmtree(Path(source).parent)
        raise FileNotFoundError(source)

    monkeypatch.setattr(os, "replace", vanish)
    with pytest.raises(FileNotFoundError):
        jaxtl.save(small_model("cifar_resnet32", num_classes=2), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((0, 1, 2, 3), "label_names must be a list of strings"),
        (("a", "b", "c"), "label_names has 3 names for 4 classes"),
        (("a", "b", "c", "caf\udce9"), r"label_names must be text that UTF-8 can hold, not 'caf\\\\udce9'"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(classes, message: str, tmp_path) -> None:
    model = dataclasses.replace(small_model("resnet10t", layers=(1, 1), channels=(64, 128)), classes=classes)
    for write in (jaxtl.save, jaxtl.export):
        with pytest.raises(InputError, match=f"{model.name} cannot be saved: {message}"):
            write(model, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_model_may_be_saved_over_the_files_it_was_loaded_from(tmp_path) -> None:
    jaxtl.save(small_model(), tmp_path)
    loaded = jaxtl.load(tmp_path)
    jaxtl.save(loaded.replace(classes=CLASSES), tmp_path)
    assert bits(loaded.params) == bits(small_model().params)
    assert jaxtl.load(tmp_path).classes == CLASSES


def test_a_file_is_no_folder(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"is a file; name a folder"):
        jaxtl.save(small_model(), tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written"):
        jaxtl.save(small_model(), tmp_path / "file" / "folder")


@pytest.mark.parametrize("channels", [3, 1])
def test_timm_reads_the_folder(channels: int, tmp_path) -> None:
    timm = import_timm()
    model = small_model("resnet18", in_chans=channels, num_classes=4).replace(classes=CLASSES)
    folder = jaxtl.save(model, tmp_path)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch_reference.images(64, channels)
    assert torch_reference.difference(model(images), theirs(torch_reference.torch_images(images))) < 1e-4
    assert list(theirs.pretrained_cfg["label_names"]) == list(CLASSES)
    config = timm.data.resolve_data_config({}, model=theirs)
    assert tuple(config["input_size"][1:]) == model.preprocess.size
    assert tuple(config["mean"]) == model.preprocess.mean


def test_what_is_no_whole_model_is_not_written(tmp_path) -> None:
    model = small_model(until="layer1")
    part = dataclasses.replace(model, params={"fc": model.params["fc"]})
    other = model.replace(params={**model.params, "fc": {**model.params["fc"], "bias": np.zeros(7, np.float32)}})
    for write in (jaxtl.save, lambda *given: jaxtl.export(*given, "jaxtl")):
        with pytest.raises(InputError, match=r"bn1.bias, .* lacking"):
            write(part, tmp_path / "out")
        with pytest.raises(InputError, match=r"fc.bias of shape \(7,\) and not \(4,\)"):
            write(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_home_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = small_model(until="layer1")
    assert jaxtl.save(model, "~/saved") == tmp_path / "saved"
    assert jaxtl.export(model, "~/exported", "jaxtl") == tmp_path / "exported"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported", "saved"]
