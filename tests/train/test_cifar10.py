"""Published weights score on published images what torch scores with them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from local_files import shared

import jaxtl

OF_10000 = {20: 8103, 32: 8256}
"""Correct answers of torch."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The 10000 test images as ``val``, and one image a class as ``train``."""
    root = tmp_path_factory.mktemp("cifar10")
    with zipfile.ZipFile(shared("data/cifar10.zip")) as archive:
        tests = [name for name in archive.namelist() if name.startswith("test/") and name.endswith(".jpg")]
        archive.extractall(root, tests)
        firsts = {name.split("/")[1]: name for name in archive.namelist() if name.startswith("train/") and "." in name}
        archive.extractall(root, firsts.values())
    (root / "test").rename(root / "val")
    return root


def _loaded(depth: int) -> jaxtl.Model:
    return jaxtl.load(f"cifar_resnet{depth}", weights=shared(f"weights/cifar10_resnet{depth}.th"))


@pytest.mark.parametrize("depth", [pytest.param(depth, marks=pytest.mark.slow) for depth in OF_10000])
def test_all_10000(depth: int, folder: Path) -> None:
    model = _loaded(depth)
    measured = jaxtl.evaluate(model, jaxtl.open_data(f"folder:{folder}", model), batch_size=250)
    print(f"resnet{depth}: {measured['correct']} of {measured['count']}")
    assert measured["count"] == 10_000
    assert abs(measured["correct"] - OF_10000[depth]) <= 2


def test_every_tenth_image_gets_torchs_answer(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch_cifar_resnet import CifarResNet

    reference = CifarResNet(3).eval()
    stored = torch.load(shared("weights/cifar10_resnet20.th"), map_location="cpu", weights_only=True)["state_dict"]
    renamed = {name.removeprefix("module.").replace("linear.", "fc."): tensor for name, tensor in stored.items()}
    assert not reference.load_state_dict(renamed, strict=False).missing_keys

    model = _loaded(20)
    data = jaxtl.open_data(f"folder:{folder}", model)
    pixels = np.stack([model.preprocess(data.val[i][0]) for i in range(0, 10_000, 10)])
    images = np.array(jaxtl.normalise(pixels, model.preprocess.mean, model.preprocess.std))
    ours = np.asarray(model(images)).argmax(1)
    with torch.inference_mode():
        theirs = reference(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).argmax(1).numpy()
    assert (ours != theirs).sum() <= 1  # a tie that rounding decides
    assert 0.78 < (ours == data.val.labels[::10]).mean() < 0.84
