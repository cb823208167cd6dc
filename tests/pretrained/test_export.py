"""Models for others: timm, torchvision, and JAX alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import optax
import pytest
import torch_reference
from families import FAMILIES, rotating
from PIL import Image
from small_models import batch, bits, small_model
from timm_guest import import_timm

import jaxtl
from jaxtl.cli import main
from jaxtl.errors import InputError
from jaxtl.pretrained import predict_exported
from jaxtl.pretrained.names import state_dict
from jaxtl.pretrained.stablehlo import program

CLASSES = ("Gänseblümchen", "ひまわり", "тюльпан", "🌹 rose")


@pytest.mark.parametrize("family", rotating(FAMILIES, 2, always=("resnet", "vision_transformer")))
def test_a_tuned_network_goes_back_to_timm(family: str, tmp_path) -> None:
    timm = import_timm()
    import torch

    entry = FAMILIES[family]
    options, size = dict(entry.member_options), entry.member_size
    reference = torch_reference.randomised(entry.member, size, num_classes=4, **options)
    model = jaxtl.from_torch(reference, entry.member, **options).replace(classes=CLASSES)
    model = model.replace(preprocess=model.preprocess.replace(size=size, crop_pct=0.7))
    again = timm.create_model(f"local-dir:{jaxtl.export(model, tmp_path / 'same')}", pretrained=True)
    expected = reference.state_dict()
    assert again.state_dict().keys() == expected.keys()
    for key, value in again.state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(value, expected[key]), key

    tuned = _one_step(model, size)
    folder = jaxtl.export(tuned, tmp_path / "tuned")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch_reference.images(size)
    with torch.no_grad():
        logits = theirs(torch_reference.torch_images(images))
    assert torch_reference.difference(tuned(images), logits) < 1e-4
    assert tuple(theirs.pretrained_cfg["label_names"]) == CLASSES
    config = timm.data.resolve_data_config({}, model=theirs)
    assert (tuple(config["input_size"]), config["crop_pct"]) == ((3, size, size), 0.7)
    other = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=3, in_chans=1)
    assert other(torch.zeros(2, 1, size, size)).shape == (2, 3)
    timm.models.save_for_hf(theirs, tmp_path / "by timm", safe_serialization=True)
    for written in (folder, tmp_path / "by timm"):
        loaded = jaxtl.load(written)
        assert bits(loaded.params) == bits(tuned.params)
        assert (loaded.classes, loaded.preprocess) == (CLASSES, tuned.preprocess)


def _one_step(model: jaxtl.Model, size: int) -> jaxtl.Model:
    """One step of the head alone; what training the whole network gives is compared with torch elsewhere."""
    head = model.graph.in_head
    optimizer = jaxtl.multi_transform({"fast": optax.sgd(0.1)}, lambda path, leaf: "fast" if head(path) else "frozen")
    state = jaxtl.TrainState.create(model, optimizer, seed=0)
    state, _ = jaxtl.make_train_step(model, optimizer)(state, batch(size=size))
    tuned = state.to_model(model)
    assert bits(tuned.params) != bits(model.params)
    return tuned


def test_options_are_said_to_timm(tmp_path) -> None:
    timm = import_timm()
    model = small_model("resnet10t", output_stride=8, in_chans=1, act_layer="silu", layers=(1, 1, 2, 1), drop_rate=0.5)
    folder = jaxtl.export(model, tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["model_args"] == {"output_stride": 8, "in_chans": 1, "act_layer": "silu", "layers": [1, 1, 2, 1]}
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch_reference.images(48, 1)
    assert torch_reference.difference(model(images), theirs(torch_reference.torch_images(images))) < 1e-4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar_resnet20", {}, "timm has no cifar_resnet20; jaxtl.save keeps it for jaxtl"),
        ("resnet18", {"until": "layer1"}, "timm cannot build resnet18 cut after 'layer1'"),
        ("resnet10t", {"head": (8,)}, "timm cannot build resnet10t with a head of several layers"),
        ("resnet10t", {"attn_layer": "se"}, "timm cannot build resnet10t with attn_layer='se'"),
    ],
)
@pytest.mark.parametrize("format", ["timm", "torch"])
def test_what_timm_cannot_say_is_refused(name, options, message, format, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        jaxtl.export(small_model(name, **options), tmp_path / "out", format)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("format", "message"), [("onnx", "export as timm, then"), ("tim", "did you mean 'timm'")])
def test_other_formats(format: str, message: str, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        jaxtl.export(small_model(), tmp_path, format)


def test_features_alone(tmp_path) -> None:
    timm = import_timm()
    model = small_model("resnet10t", num_classes=0)
    theirs = timm.create_model(f"local-dir:{jaxtl.export(model, tmp_path)}", pretrained=True).eval()
    images = torch_reference.images(48)
    assert torch_reference.difference(model(images), theirs(torch_reference.torch_images(images))) < 1e-4


def test_a_state_dict_for_torchvision(tmp_path, capsys) -> None:
    import_timm()
    import torch
    import torchvision
    from safetensors.torch import load_file

    model = small_model("resnet18").replace(classes=CLASSES)
    folder = jaxtl.export(model, tmp_path, "torch")
    files = ["README.md", "model.json", "model.pth", "model.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == files
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert about["names"] == "torchvision"
    assert about["network"] == "torchvision.models.resnet18(num_classes=4)"
    assert tuple(about["classes"]) == CLASSES
    network = eval(about["network"], {"torchvision": torchvision})
    network.load_state_dict(load_file(folder / "model.safetensors"))
    images = torch_reference.images(64)
    assert torch_reference.difference(model(images), network.eval()(torch_reference.torch_images(images))) < 1e-4
    pickled = torch.load(folder / "model.pth", weights_only=True)
    assert pickled.keys() == network.state_dict().keys()
    again = jaxtl.load("resnet18", weights=folder)
    assert bits(again.params) == bits(model.params)


def test_no_pickle_of_an_earlier_export_stays_where_torch_is_not(tmp_path, monkeypatch) -> None:
    import_timm()
    jaxtl.export(small_model("resnet18", layers=(1, 1, 1, 1)), tmp_path, "torch")
    assert (tmp_path / "model.pth").is_file()
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    jaxtl.export(small_model("resnet18", layers=(1, 1, 1, 1), num_classes=2), tmp_path, "torch")
    left = ["README.md", "model.json", "model.safetensors", "notes.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_state_dict_for_timm_where_torchvision_has_no_such_network(tmp_path) -> None:
    timm = import_timm()
    from safetensors.torch import load_file

    model = small_model("resnet10t", output_stride=16)
    folder = jaxtl.export(model, tmp_path, "torch")
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert about["network"] == "timm.create_model('resnet10t', num_classes=4, output_stride=16)"
    eval(about["network"], {"timm": timm}).load_state_dict(load_file(folder / "model.safetensors"))


_WITHOUT_JAXTL = """
import sys

class Nowhere:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in ("jaxtl", "flax", "torch"):
            raise ImportError(name)

sys.meta_path.insert(0, Nowhere())
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_a_program_for_jax_alone(crop_mode: str, tmp_path) -> None:
    model = small_model(in_chans=1 if crop_mode == "border" else 3).replace(classes=CLASSES)
    preprocess = model.preprocess.replace(size=(40, 32) if crop_mode == "squash" else 32, crop_pct=0.8)
    model = model.replace(preprocess=preprocess.replace(crop_mode=crop_mode))
    folder = jaxtl.export(model, tmp_path / "out", "stablehlo")
    generator = np.random.default_rng(0)
    images = [tmp_path / "wide.png", tmp_path / "tall.jpg", tmp_path / "small.png"]
    for path, shape in zip(images, [(50, 70, 3), (90, 41, 3), (20, 25, 4)], strict=True):
        Image.fromarray(generator.integers(0, 256, shape, np.uint8)).save(path)
    for most in (255, 4095, 65535):  # as microscopes, medical and raw cameras' files have them
        images.append(tmp_path / f"to {most}.png")
        Image.fromarray(generator.integers(0, most + 1, (40, 50), np.uint16)).save(images[-1])
    command = [sys.executable, "-c", _WITHOUT_JAXTL, str(folder / "predict.py"), *map(str, images)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    expected = jaxtl.predict(model, images, top=4)
    for ours, theirs in zip(expected, found, strict=True):
        assert (theirs["path"], theirs["label"]) == (ours["path"], ours["label"])
        np.testing.assert_allclose([dict(ours["top"])[name] for name in CLASSES], theirs["output"], atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "picture", "message"),
    [
        (3, np.zeros((4, 4), np.float32), r"a\.tiff has pixels of an unknown range"),
        (3, np.full((4, 4), 70000, np.int32), r"a\.tiff has pixels of an unknown range"),
        (4, np.zeros((4, 4, 4), np.uint8), "reads images of 1 or 3 channels; give the program arrays of 4 yourself"),
    ],
)
def test_what_the_script_beside_the_program_refuses(channels: int, picture, message: str, tmp_path) -> None:
    preprocess = small_model(in_chans=channels).preprocess
    Image.fromarray(picture).save(tmp_path / "a.tiff")
    with pytest.raises(SystemExit, match=message):
        predict_exported.pixels(tmp_path / "a.tiff", preprocess.to_dict())


def test_the_program_takes_any_batch_on_every_platform(tmp_path) -> None:
    import jax
    import jax.export

    model = small_model("resnet10t", layers=(1, 1)).replace(classes=None)
    model = model.replace(preprocess=model.preprocess.replace(size=48))
    folder = jaxtl.export(model, tmp_path, "stablehlo")
    program = jax.export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 3):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 48, 48, 3), np.uint8)
        images = jaxtl.normalise(pixels, model.preprocess.mean, model.preprocess.std)
        np.testing.assert_allclose(program.call(pixels), jax.nn.softmax(model(images)), atol=1e-5)
    assert json.loads((folder / "model.json").read_text())["classes"] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_the_program_answers_by_the_models_task(task: str) -> None:
    model = small_model(until="layer1").replace(task=task)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *model.preprocess.size, 3), np.uint8)
    logits = np.asarray(model(jaxtl.normalise(pixels, model.preprocess.mean, model.preprocess.std)), np.float64)
    expected = logits if task == "regression" else 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(program(model).call(pixels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("format", ["timm", "torch", "stablehlo"])
def test_all_files_or_none(format: str, tmp_path, monkeypatch) -> None:
    old = small_model("resnet10t", layers=(1, 1), channels=(64, 128))
    jaxtl.export(old, tmp_path, format)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*arguments):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            jaxtl.export(small_model("resnet10t", layers=(1, 1), channels=(64, 128), num_classes=2), tmp_path, format)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_command_takes_a_run_a_folder_or_a_name(tmp_path, capsys) -> None:
    best, last = (small_model("resnet10t", layers=(1, 1), channels=(64, 128), num_classes=count) for count in (2, 3))
    jaxtl.save(last, tmp_path / "run" / "model")
    jaxtl.save(best, tmp_path / "run" / "best", training={"result": {"epoch": 7, "val_accuracy": 0.875}})
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a'}: README.md, config.json, model.safetensors\n"
    assert jaxtl.load(tmp_path / "a").num_classes == 2
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert "validation accuracy: 87.50 %" in card
    assert main(["export", str(tmp_path / "run" / "model"), str(tmp_path / "b"), "--format", "stablehlo"]) == 0
    assert (tmp_path / "b" / "model.stablehlo").is_file()
    assert main(["export", "no-such-model", str(tmp_path / "c")]) == 2
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "c"), "--format", "onnx"]) == 2
    assert "torch.onnx.export" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_weights_keep_their_bits(tmp_path) -> None:
    from safetensors.numpy import load_file

    model = small_model("resnet10t", layers=(1, 1), channels=(64, 128))
    stored = load_file(jaxtl.export(model, tmp_path) / "model.safetensors")
    expected = state_dict(model.params, model.batch_stats)
    assert {key: array.tobytes() for key, array in stored.items()} == {k: a.tobytes() for k, a in expected.items()}
