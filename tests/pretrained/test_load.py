"""From names, folders, files, live modules and the hub to models; and everything that is refused."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch_reference
from local_files import shared
from pretrained.hub_server import HubServer
from safetensors.numpy import save as to_bytes
from safetensors.numpy import save_file
from small_models import bits, small_model
from timm_guest import import_timm

import jaxtl
from jaxtl.errors import InputError
from jaxtl.pretrained import tags
from jaxtl.pretrained.fill import adapt_input
from jaxtl.pretrained.names import state_dict
from jaxtl.pretrained.source import model_of
from jaxtl.trees import flatten

ROOT = Path(jaxtl.__file__).parents[1]
CIFAR = "cifar_resnet20"


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    """A torch state dict of a network for four classes."""
    model = small_model()
    return state_dict(model.params, model.batch_stats)


@pytest.fixture
def file(weights, tmp_path) -> Path:
    save_file(weights, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def _same(model: jaxtl.Model, other: jaxtl.Model) -> bool:
    return bits(model.params) == bits(other.params) and bits(model.batch_stats) == bits(other.batch_stats)


def test_a_file_is_loaded_whole(file) -> None:
    model = jaxtl.load(CIFAR, weights=file)
    assert _same(model, small_model())
    assert (model.num_classes, model.notes, model.name, model.classes) == (4, (), CIFAR, None)
    assert {str(leaf.dtype) for leaf in flatten(model.params).values()} == {"float32"}


def test_every_misfit_is_in_one_message(weights, tmp_path) -> None:
    wrong = dict(weights)
    del wrong["layer1.0.bn1.running_mean"], wrong["fc.bias"]
    wrong["layer9.weight"] = np.zeros(3, np.float32)
    wrong["conv1.weight"] = np.zeros((16, 3, 5, 5), np.float32)
    save_file(wrong, tmp_path / "wrong.safetensors")
    for num_classes in (None, 4):
        with pytest.raises(InputError) as error:
            jaxtl.load(CIFAR, weights=tmp_path / "wrong.safetensors", num_classes=num_classes)
        message = str(error.value)
        assert "missing from the weights (2)" in message
        assert "layer1.0.bn1.running_mean (16,)" in message
        assert "fc.bias (4,)" in message
        assert "in the weights but not in the network (1)" in message
        assert "layer9.weight (3,)" in message
        assert "of another shape (1)" in message
        assert "conv1.weight is (16, 3, 5, 5), the network has (16, 3, 3, 3)" in message


def test_weights_of_another_network_are_refused_with_or_without_their_head(weights, file) -> None:
    with pytest.raises(InputError, match=r"missing from the weights \(\d+\)(.|\n)*layer1\.3\.conv1\.weight"):
        jaxtl.load("cifar_resnet32", weights=file)
    headless = {name: array for name, array in weights.items() if not name.startswith("fc.")}
    save_file(headless, file)
    with pytest.raises(InputError, match=r"fc\.weight(.|\n)*layer1\.3\.conv1\.weight"):
        jaxtl.load("cifar_resnet32", weights=file)
    with pytest.raises(InputError, match=r"holds no head \(fc.weight\); pass num_classes=N"):
        jaxtl.load(CIFAR, weights=file)
    assert jaxtl.load(CIFAR, weights=file, num_classes=3).num_classes == 3


def test_another_number_of_classes_gives_a_new_head_and_says_so(file, capsys, monkeypatch) -> None:
    _fresh_logger(monkeypatch)
    model = jaxtl.load(CIFAR, weights=file, num_classes=7, seed=3)
    said = "the head 'fc' (4 classes in the weights) is new: 7 classes, initialised from seed 3"
    assert model.notes == (said,)
    assert capsys.readouterr().err == f"jaxtl: {said}\n"
    old, new = bits(small_model().params), bits(model.params)
    assert {path for path in old if old[path] != new[path]} == {"fc.kernel", "fc.bias"}
    again, other = (jaxtl.load(CIFAR, weights=file, num_classes=7, seed=seed) for seed in (3, 4))
    assert _same(model, again)
    assert not _same(model, other)


def _fresh_logger(monkeypatch) -> None:
    from jaxtl.notices import logger

    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", 0)
    monkeypatch.setattr(logger, "propagate", True)
    logger.manager._clear_cache()


def test_no_classes_means_features(file) -> None:
    model = jaxtl.load(CIFAR, weights=file, num_classes=0)
    images = torch_reference.images(16)
    assert "fc" not in model.params
    assert model.num_classes == 0
    np.testing.assert_array_equal(model(images), small_model().features(images))


def test_until_drops_later_stages_and_keeps_the_weights_of_earlier_ones(file) -> None:
    model = jaxtl.load(CIFAR, weights=file, until="layer2", num_classes=4)
    assert model.stages == ("stem", "layer1", "layer2", "fc")
    assert model.params["fc"]["kernel"].shape == (32, 4)
    old, new = bits(small_model().params), bits(model.params)
    assert {path for path in new if path.startswith(("conv1", "bn1", "layer1", "layer2", "fc"))} == new.keys()
    assert all(old[path] == new[path] for path in new if not path.startswith("fc"))
    assert any("layer3 cut off" in note for note in model.notes)
    assert any("the head 'fc' (4 classes in the weights) is new" in note for note in model.notes)
    with pytest.raises(InputError, match="no stage is called 'layer9'"):
        jaxtl.load(CIFAR, weights=file, until="layer9", num_classes=4)


def test_weights_may_lack_the_stages_that_are_cut(weights, tmp_path) -> None:
    part = {name: array for name, array in weights.items() if not name.startswith(("layer3", "fc"))}
    save_file(part, tmp_path / "part.safetensors")
    model = jaxtl.load(CIFAR, weights=tmp_path / "part.safetensors", until="layer2", num_classes=2)
    assert bits(model.params["layer2"]) == bits(small_model().params["layer2"])
    with pytest.raises(InputError, match=r"missing from the weights"):
        jaxtl.load(CIFAR, weights=tmp_path / "part.safetensors", num_classes=2)


def test_real_weights_until_layer3() -> None:
    file = shared("weights/resnet18_until_layer3.safetensors")
    model = jaxtl.load("resnet18", weights=file, until="layer3", num_classes=5)
    assert model.features(torch_reference.images(64)).shape == (2, 256)
    with pytest.raises(InputError, match=r"layer4\.1\.bn2"):
        jaxtl.load("resnet18", weights=file, num_classes=5)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_other_input_channels_are_timms(channels: int, tmp_path) -> None:
    timm = import_timm()
    reference = torch_reference.randomised("resnet18", layers=(1, 1, 1, 1))
    save_file({k: v.numpy() for k, v in reference.state_dict().items()}, tmp_path / "model.safetensors")
    theirs = timm.create_model(
        "resnet18",
        layers=(1, 1, 1, 1),
        in_chans=channels,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "model.safetensors")},
    ).eval()
    ours = jaxtl.load("resnet18", weights=tmp_path, in_chans=channels, layers=(1, 1, 1, 1))
    images = torch_reference.images(48, channels)
    assert torch_reference.difference(ours(images), theirs(torch_reference.torch_images(images))) < 1e-4
    assert len(ours.preprocess.mean) == len(ours.preprocess.std) == ours.preprocess.channels == channels
    assert any("conv1.kernel is adapted from 3" in note for note in ours.notes)
    assert any("mean and std follow" in note for note in ours.notes)


def test_an_adapted_kernel_sees_equal_channels_as_before() -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 8)).astype(np.float32)
    for channels in (1, 2, 3, 4, 7):
        adapted = adapt_input(kernel, channels)
        assert adapted.shape == (3, 3, channels, 8)
        if channels % 3 == 0 or channels == 1:
            np.testing.assert_allclose(adapted.sum(2), kernel.sum(2), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(adapt_input(kernel, 3), kernel)


def test_preprocessing_belongs_to_the_tag_and_not_to_the_architecture() -> None:
    sizes = {}
    for tag in ("a1_in1k", "a3_in1k"):
        model = jaxtl.load(f"resnet50.{tag}", weights=None, until="layer1", num_classes=2)
        assert model.preprocess.to_dict() == _listed(tags.find(f"resnet50.{tag}").preprocess_dict())
        sizes[tag] = model.preprocess.size
    assert sizes == {"a1_in1k": (224, 224), "a3_in1k": (160, 160)}


def _listed(fields: dict) -> dict:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


def test_the_plain_cifar_networks_take_colour_with_imagenets_mean() -> None:
    model = jaxtl.load(CIFAR, weights=None)
    assert model.preprocess == jaxtl.Preprocess(size=(32, 32), crop_pct=1.0)
    assert model.preprocess.channels == 3
    assert model.num_classes == 10
    with pytest.raises(InputError, match="no pretrained weights are known for cifar_resnet20; pass weights=FILE"):
        jaxtl.load(CIFAR)


def test_the_carried_letters() -> None:
    folder = Path(tags.__file__).with_name("letters")
    if not folder.is_dir():
        pytest.skip("needs the carried weights cifar_resnet20.letters")
    model = jaxtl.load("cifar_resnet20.letters")
    assert model.name == "cifar_resnet20.letters"
    assert model.preprocess.channels == 1
    assert len(model.classes) == model.num_classes
    digits = jaxtl.load("cifar_resnet20.letters", num_classes=10)
    assert digits.classes is None
    assert bits(digits.params["layer3"]) == bits(model.params["layer3"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_become_float32(dtype: str, weights, tmp_path) -> None:
    import jax.numpy as jnp

    stored = {k: v.astype(jnp.dtype(dtype)) if v.dtype == np.float32 else v for k, v in weights.items()}
    save_file(stored, tmp_path / "half.safetensors")
    model = jaxtl.load(CIFAR, weights=tmp_path / "half.safetensors")
    leaves = flatten(model.params) | flatten(model.batch_stats)
    assert {str(leaf.dtype) for leaf in leaves.values()} == {"float32"}
    np.testing.assert_array_equal(model.params["fc"]["bias"], stored["fc.bias"].astype(np.float32))


def test_quantised_weights_are_refused(weights, tmp_path) -> None:
    save_file({**weights, "fc.weight": weights["fc.weight"].astype(np.int8)}, tmp_path / "int8.safetensors")
    with pytest.raises(InputError, match=r"fc.weight holds int8"):
        jaxtl.load(CIFAR, weights=tmp_path / "int8.safetensors")


def test_a_folder_of_another_architecture_is_refused(tmp_path) -> None:
    jaxtl.save(small_model(), tmp_path)
    assert _same(jaxtl.load(CIFAR, weights=tmp_path), small_model())
    with pytest.raises(InputError, match=r"holds a cifar_resnet20 and not a cifar_resnet32"):
        jaxtl.load("cifar_resnet32", weights=tmp_path)


def test_names_that_mean_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18").mkdir()
    assert jaxtl.load("resnet18", weights=None, until="layer1", num_classes=2).name == "resnet18"
    cases = {
        "resnet81": "unknown architecture 'resnet81'; did you mean",
        "out/best": "there is no file, folder or model 'out/best'",
        "./resnet18": "is no folder with a config.json",
        "resnet18.b1_in1k": "did you mean 'a1_in1k'",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            jaxtl.load(name)
    with pytest.raises(InputError, match=r"is no folder with a config.json"):
        jaxtl.load(Path("resnet18"))
    with pytest.raises(InputError, match=r"no option 'drop_rat'; did you mean 'drop_rate'|no option 'drop_rat'"):
        jaxtl.load("resnet18", weights=None, drop_rat=0.1)


def test_a_file_alone_does_not_say_of_which_network(file) -> None:
    for name in (str(file), file, os.path.relpath(file)):
        with pytest.raises(InputError, match=rf"name that as well, jaxtl.load\('resnet18', weights='{name}'"):
            jaxtl.load(name)


def test_weights_that_end_early_say_where_to_cut(weights) -> None:
    cut = {name: array for name, array in weights.items() if not name.startswith(("layer3", "fc"))}
    with pytest.raises(InputError, match=r"nothing of layer3 is in the weights: cut the network with until='layer2'"):
        jaxtl.from_torch(cut, CIFAR, num_classes=4)
    assert jaxtl.from_torch(cut, CIFAR, num_classes=4, until="layer2").stages == ("stem", "layer1", "layer2", "fc")
    for whole in (f"layer{number}." for number in (1, 2)):  # a hole is no end
        holed = {name: array for name, array in weights.items() if not name.startswith(whole)}
        with pytest.raises(InputError) as caught:
            jaxtl.from_torch(holed, CIFAR)
        assert "until" not in str(caught.value)


@pytest.mark.parametrize(("stored", "wanted"), [("avg", "token"), ("token", "avg")])
def test_weights_that_pool_another_way_say_so(stored: str, wanted: str) -> None:
    tiny = {"embed_dim": 16, "depth": 1, "num_heads": 2, "img_size": 32}
    model = small_model("vit_tiny_patch16_224", **tiny, global_pool=stored)
    state = state_dict(model.params, model.batch_stats)
    with pytest.raises(InputError, match=f"pass global_pool='{stored}'") as caught:
        jaxtl.from_torch(state, "vit_tiny_patch16_224", **tiny, global_pool=wanted)
    assert "until" not in str(caught.value)


def test_weights_with_something_left_over_are_not_cut(weights) -> None:
    strange = {name: array for name, array in weights.items() if not name.startswith(("layer3", "fc"))}
    strange["neck.weight"] = weights["layer3.0.bn1.weight"]
    with pytest.raises(InputError, match="neck") as caught:
        jaxtl.from_torch(strange, CIFAR, num_classes=4)
    assert "until" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "tiny"),
    [
        ("eva02_tiny_patch14_224", {"embed_dim": 16, "depth": 1, "num_heads": 2, "img_size": 28}),
        ("vit_small_patch14_dinov2", {"embed_dim": 16, "depth": 1, "num_heads": 2, "img_size": 28}),
        ("vit_pe_spatial_tiny_patch16_512", {"embed_dim": 16, "depth": 1, "num_heads": 2, "img_size": 32}),
    ],
)
def test_files_of_networks_without_a_head_need_no_number_of_classes(name: str, tiny: dict, tmp_path) -> None:
    model = small_model(name, **tiny, num_classes=0)
    save_file(state_dict(model.params, model.batch_stats), tmp_path / "a.safetensors")
    loaded = jaxtl.load(name, weights=tmp_path / "a.safetensors", **tiny)
    assert loaded.num_classes == 0
    assert bits(loaded.params) == bits(model.params)


def _checkpoint(folder: Path, model: jaxtl.Model, **beside) -> Path:
    torch = pytest.importorskip("torch")
    state = {name: torch.tensor(array) for name, array in state_dict(model.params, model.batch_stats).items()}
    torch.save({"state_dict": state, **beside}, folder / "last.pth.tar")
    return folder / "last.pth.tar"


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path) -> None:
    small = {"channel_multiplier": 0.1, "depth_multiplier": 0.1}
    model = small_model("tf_efficientnet_lite0", **small)
    for said in ({"arch": "tf_efficientnet_lite0"}, {"args": argparse.Namespace(model="tf_efficientnet_lite0.in1k")}):
        file = _checkpoint(tmp_path, model, **said)
        message = (
            "holds weights of tf_efficientnet_lite0, as it says itself, and not of efficientnet_lite0: load them as"
        )
        with pytest.raises(InputError, match=message):
            jaxtl.load("efficientnet_lite0", weights=file, **small)
        assert _same(jaxtl.load("tf_efficientnet_lite0", weights=file, **small), model)
    file = _checkpoint(tmp_path, small_model(), arch="resnet20_of_somebody")
    assert _same(jaxtl.load(CIFAR, weights=file), small_model())


def test_settings_in_a_checkpoint_that_are_not_taken_are_said(tmp_path) -> None:
    settings = {"gp": "max", "img_size": 64, "mean": [0.485, 0.456, 0.406], "std": [0.5, 0.5, 0.5], "lr": 0.1}
    for args in (settings, argparse.Namespace(**settings)):
        model = jaxtl.load(CIFAR, weights=_checkpoint(tmp_path, small_model(), args=args))
        assert model.notes == (
            "the checkpoint was trained with img_size=64, std=[0.5, 0.5, 0.5], gp='max'; "
            "cifar_resnet20 has img_size=32, std=[0.229, 0.224, 0.225], gp='avg'",
        )
    same = {"img_size": 32, "mean": None, "gp": None}
    assert jaxtl.load(CIFAR, weights=_checkpoint(tmp_path, small_model(), args=same)).notes == ()


def test_a_runs_output_names_the_models_in_it(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    jaxtl.save(small_model(), tmp_path / "runs" / "mine" / "best")
    jaxtl.save(small_model(), tmp_path / "mine" / "model")
    for name in ("runs/mine", "~/runs/mine", Path("runs/mine")):
        with pytest.raises(InputError, match=r"is no folder with a config\.json, .*; it has .*runs/mine/best$"):
            jaxtl.load(name)
    with pytest.raises(InputError, match=r"; it has mine/model$"):
        jaxtl.load("mine")
    assert model_of("runs/mine") == "runs/mine/best"
    assert model_of("mine") == "mine/model"
    assert model_of("runs/mine/best") == "runs/mine/best"
    assert _same(jaxtl.load("~/runs/mine/best"), small_model())
    assert _same(jaxtl.load(CIFAR, weights="~/mine/model"), small_model())


@pytest.mark.parametrize("in_chans", [None, 1, 3])
def test_random_weights_for_a_saved_networks_channels_or_others(in_chans: int | None, tmp_path) -> None:
    folder = jaxtl.save(small_model(in_chans=1), tmp_path)
    model = jaxtl.load(folder, weights=None, in_chans=in_chans)
    assert model.preprocess.channels == model.graph.options["in_chans"] == (in_chans or 1)


def test_other_pooling_than_the_networks_is_refused(tmp_path) -> None:
    folder = jaxtl.save(small_model("resnet10t"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for pooling in ("avg", "max"):
        config["model_args"] = {"global_pool": pooling}
        (folder / "config.json").write_text(json.dumps(config))
        if pooling == "avg":
            jaxtl.load(folder)
        else:
            with pytest.raises(InputError, match="resnet10t has no option 'global_pool'"):
                jaxtl.load(folder)


def test_random_weights_are_a_function_of_the_seed_and_of_each_path() -> None:
    first, again, other = (jaxtl.load(CIFAR, weights=None, seed=seed) for seed in (0, 0, 1))
    assert _same(first, again)
    assert not np.allclose(first.params["conv1"]["kernel"], other.params["conv1"]["kernel"])
    wide = jaxtl.load("cifar_resnet32", weights=None, num_classes=3)
    assert bits(first.params["layer1"]["2"]) == bits(wide.params["layer1"]["2"])


def test_from_torch_takes_a_live_timm_module_and_its_preprocessing() -> None:
    timm = import_timm()
    module = torch_reference.randomised("resnet18.a3_in1k", layers=(1, 1, 1, 1), num_classes=6)
    model = jaxtl.from_torch(module, "resnet18", layers=(1, 1, 1, 1))
    images = torch_reference.images(48)
    assert torch_reference.difference(model(images), module(torch_reference.torch_images(images))) < 1e-4
    expected = timm.data.resolve_data_config({}, model=module)
    assert model.preprocess.to_dict() == _listed({key: expected[key] for key in model.preprocess.to_dict()})
    assert model.preprocess.size == (160, 160)


def test_from_torch_copies() -> None:
    torch = pytest.importorskip("torch")
    model = small_model()
    state = {name: torch.tensor(array) for name, array in state_dict(model.params, model.batch_stats).items()}
    ours = jaxtl.from_torch(state, CIFAR)
    for tensor in state.values():
        tensor.zero_()
    assert _same(ours, model)
    arrays = dict(state_dict(model.params, model.batch_stats).items())
    arrays = {name: array.copy() for name, array in arrays.items()}
    ours = jaxtl.from_torch(arrays, CIFAR)
    for array in arrays.values():
        array[...] = 0
    assert _same(ours, model)
    with pytest.raises(InputError, match="from_torch takes a torch module or a state dict; got a list"):
        jaxtl.from_torch([1], CIFAR)


# --- the hub -------------------------------------------------------------------------------------------------------

TAG = "resnet18.a3_in1k"
REPO = f"timm/{TAG}"
PART = {"until": "layer1", "num_classes": 2}


@pytest.fixture(scope="module")
def hub_files() -> dict[str, bytes]:
    """What a repository of timm's holds, as far as the stages before layer2 go."""
    model = small_model("resnet18", until="layer1", num_classes=1000)
    state = {k: v for k, v in state_dict(model.params, model.batch_stats).items() if not k.startswith("fc.")}
    config = {
        "architecture": "resnet18",
        "num_classes": 1000,
        "num_features": 512,
        "pretrained_cfg": {"input_size": [3, 96, 96], "mean": [0.5, 0.5, 0.5], "crop_pct": None, "num_classes": 1000},
    }
    return {"config.json": json.dumps(config).encode(), "model.safetensors": to_bytes(state)}


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[HubServer]:
    import huggingface_hub

    with HubServer() as server:
        server.become_the_hub(monkeypatch, tmp_path / "cache")
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        yield server
        huggingface_hub.close_session()


def test_a_tag_is_downloaded_once_then_cached_then_enough_offline(server, hub_files, monkeypatch) -> None:
    server.add(REPO, hub_files)
    model = jaxtl.load(TAG, **PART)
    assert bits(model.params["layer1"]) == bits(
        small_model("resnet18", until="layer1", num_classes=1000).params["layer1"]
    )
    assert (model.name, server.transfers("model.safetensors")) == (TAG, 1)
    jaxtl.load(TAG, **PART)
    assert server.transfers("model.safetensors") == 1
    server.stop()
    assert _same(jaxtl.load(TAG, **PART), model)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert _same(jaxtl.load(TAG, **PART), model)


def test_what_the_hub_says_about_preprocessing_wins_and_the_tag_fills_the_rest(server, hub_files) -> None:
    server.add(REPO, hub_files)
    model = jaxtl.load(TAG, **PART)
    tag = tags.find(TAG)
    assert model.preprocess.size == (96, 96)
    assert model.preprocess.mean == (0.5, 0.5, 0.5)
    assert model.preprocess.std == tag.pretrained_cfg["std"]
    assert model.preprocess.crop_pct == tag.pretrained_cfg["crop_pct"] == 0.95
    assert model.license == tag.pretrained_cfg["license"]


def test_somebodys_repository_needs_no_tag(server, hub_files) -> None:
    server.add("me/flowers", hub_files)
    model = jaxtl.load("hf_hub:me/flowers", **PART)
    assert model.graph.architecture == "resnet18"
    assert model.preprocess.size == (96, 96)
    assert model.preprocess.crop_pct == 0.875


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["ViTForImageClassification"], "hidden_size": 1024}, "architecture is missing"),
        ({"architecture": "resnet81", "num_classes": 10}, "jaxtl has no network called 'resnet81'; did you mean"),
    ],
)
def test_what_cannot_be_used_is_refused_before_its_weights_are_fetched(config, message, server, hub_files) -> None:
    server.add("me/other", {**hub_files, "config.json": json.dumps(config).encode()})
    with pytest.raises(InputError, match=message):
        jaxtl.load("hf_hub:me/other")
    assert server.transfers("model.safetensors") == 0


def test_a_repository_that_is_not_there_names_the_nearest(server) -> None:
    with pytest.raises(InputError, match=r"'timm/resnet18.a33_in1k'.*did you mean 'timm/resnet18.a3_in1k'"):
        jaxtl.load("hf_hub:timm/resnet18.a33_in1k", **PART)


def test_a_truncated_download_is_mended_or_told(server, hub_files) -> None:
    server.add(REPO, hub_files)
    model = jaxtl.load(TAG, **PART)
    file = next((Path(server_cache()) / "models--timm--resnet18.a3_in1k").rglob("model.safetensors")).resolve()
    file.write_bytes(file.read_bytes()[:1000])
    assert _same(jaxtl.load(TAG, **PART), model)
    assert server.transfers("model.safetensors") == 2
    file.write_bytes(file.read_bytes()[:1000])
    server.stop()
    with pytest.raises(InputError, match=r"model.safetensors is damaged"):
        jaxtl.load(TAG, **PART)


def server_cache() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


# --- memory --------------------------------------------------------------------------------------------------------

_MEASURE = """
import sys
import jax.numpy as jnp
import jaxtl
from safetensors import safe_open
from jaxtl.models.graph import Graph

def resident(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024

jnp.zeros(1).block_until_ready()
graph = Graph.shared("resnet50")
before = resident("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
model = jaxtl.load(sys.argv[1])
print(resident("VmHWM") - before)
"""


def test_loading_needs_little_more_than_the_weights(tmp_path) -> None:
    """Peak of the extra memory, in parts of the weights' size, which the model itself takes once."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("measures with Linux's /proc")
    jaxtl.save(jaxtl.load("resnet50", weights=None), tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    command = [sys.executable, "-c", _MEASURE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    peak = int(done.stdout) / size
    print(f"peak {peak:.2f} times the weights")
    assert 0.9 < peak < 2.2


@pytest.mark.parametrize("wrong", [{"num_classes": -1}, {"num_classes": "3"}, {"in_chans": 0}, {"seed": 2**70}])
def test_numbers_that_cannot_be(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"{name} must be a whole number"):
        jaxtl.load("cifar_resnet20", weights=None, **wrong)


def test_a_size_builds_transformers_for_it_and_is_the_preprocessings_for_all() -> None:
    vit = jaxtl.load("vit_tiny_patch16_224", weights=None, num_classes=3, img_size=32)
    assert vit.preprocess.size == (32, 32)
    assert vit.params["pos_embed"].shape == (1, 5, 192)
    resnet = jaxtl.load("resnet18", weights=None, num_classes=3, img_size=(64, 32))
    assert resnet.preprocess.size == (64, 32)
    assert "img_size" not in resnet.graph.options


def test_a_size_beside_weights_with_torchvisions_names() -> None:
    file = shared("weights/torchvision_mobilenet_v2_features.safetensors")
    model = jaxtl.load("mobilenetv2_100", weights=file, num_classes=3, img_size=96)
    assert model.preprocess.size == (96, 96)
    assert model.params["conv_stem"]["kernel"].shape == (3, 3, 3, 32)


def test_a_head_is_kept_for_the_same_classes_alone(tmp_path) -> None:
    stored = small_model(until="layer1", num_classes=3).replace(classes=("ant", "bee", "cat"))
    named = jaxtl.save(stored, tmp_path / "named")
    unnamed = jaxtl.save(stored.replace(classes=None), tmp_path / "unnamed")
    same = jaxtl.load(named, classes=["ant", "bee", "cat"])
    assert (bits(same.params), same.classes, same.notes) == (bits(stored.params), stored.classes, ())
    for folder, names, said in (
        (named, ("ant", "cat", "bee"), "3 classes with other names in the weights"),
        (unnamed, ("ant", "bee", "cat"), "3 classes without names in the weights"),
        (named, ("ant", "bee"), "3 classes in the weights"),
    ):
        other = jaxtl.load(folder, classes=names, seed=1)
        assert other.classes == names
        assert other.notes == (f"the head 'fc' ({said}) is new: {len(names)} classes, initialised from seed 1",)
        assert bits(other.params["layer1"]) == bits(stored.params["layer1"])
        assert bits(other.params["fc"]) != bits(stored.params["fc"])
    assert bits(jaxtl.load(unnamed, num_classes=3).params) == bits(stored.params)
    random = jaxtl.load(named, weights=None, classes=("ant", "cat", "bee"))
    assert (random.classes, random.task) == (("ant", "cat", "bee"), "class")
    with pytest.raises(InputError, match=r"classes must be names, like \('cat', 'dog'\), not 'ant'"):
        jaxtl.load(named, classes="ant")
    with pytest.raises(InputError, match="classes names 2 and num_classes is 3; give one of the two"):
        jaxtl.load(named, classes=("ant", "bee"), num_classes=3)
