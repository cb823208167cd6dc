"""torchvision's weights in, and out again; against live torchvision networks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch_reference
from families import shared_out
from local_files import shared
from safetensors.numpy import save_file
from small_models import bits, small_model
from timm_guest import import_timm

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.graph import Graph
from jaxtl.pretrained import names
from jaxtl.pretrained.torchvision import builder_of, to_torchvision
from jaxtl.pretrained.torchvision_names import BUILDERS, UNUSED, places


def _models() -> Any:
    import_timm()
    import torchvision.models

    return torchvision.models


def _vgg(models: Any) -> Any:
    import torch

    features = models.vgg.make_layers([8, "M", 16, "M", 16, "M", 16, "M", 16, "M"], batch_norm=True)
    network = models.VGG(features, num_classes=7)
    network.classifier[0] = torch.nn.Linear(16 * 49, 32)
    network.classifier[3] = torch.nn.Linear(32, 4096)
    return network


def _convnext(models: Any) -> Any:
    setting = [models.convnext.CNBlockConfig(16, 32, 2), models.convnext.CNBlockConfig(32, None, 1)]
    return models.ConvNeXt(setting, num_classes=7)


def _swin(models: Any, version: int) -> Any:
    parts = models.swin_transformer
    more = {"block": parts.SwinTransformerBlockV2, "downsample_layer": parts.PatchMergingV2} if version == 2 else {}
    side = 8 if version == 2 else 7
    return models.SwinTransformer([4, 4], 16, [1, 2], [2, 4], [side, side], num_classes=7, **more)


def _inception(models: Any) -> Any:
    return models.inception_v3(weights=None, num_classes=7, aux_logits=False, init_weights=False)


def _called(name: str) -> Callable[[Any], Any]:
    return lambda models: getattr(models, name)(weights=None, num_classes=7)


_SMALL_SWIN = {"depths": (1, 2), "num_heads": (2, 4), "embed_dim": 16}
NETWORKS: dict[str, tuple[Callable[[Any], Any], dict[str, Any], int]] = {
    "resnet18": (_called("resnet18"), {}, 64),
    "vgg11_bn": (_vgg, {"widths": ((8,), *((16,),) * 4), "mlp_ratio": 1 / 128}, 224),
    "densenet121": (
        lambda models: models.DenseNet(8, (2, 3), 16, num_classes=7),
        {"growth_rate": 8, "block_config": (2, 3)},
        64,
    ),
    "inception_v3": (_inception, {}, 107),
    "convnext_tiny": (_convnext, {"depths": (2, 1), "dims": (16, 32)}, 64),
    "mobilenetv2_100": (_called("mobilenet_v2"), {}, 64),
    "mobilenetv3_small_100": (_called("mobilenet_v3_small"), {}, 64),
    "efficientnet_b0": (_called("efficientnet_b0"), {}, 64),
    "efficientnetv2_s": (_called("efficientnet_v2_s"), {}, 64),
    "regnetx_004_tv": (_called("regnet_x_400mf"), {}, 64),
    "regnety_004": (_called("regnet_y_400mf"), {}, 64),
    "swin_tiny_patch4_window7_224": (lambda models: _swin(models, 1), {"img_size": 56, **_SMALL_SWIN}, 56),
    "swinv2_tiny_window8_256": (lambda models: _swin(models, 2), {"img_size": 64, **_SMALL_SWIN}, 64),
    "vit_base_patch16_224": (
        lambda models: models.VisionTransformer(32, 16, 2, 4, 64, 256, num_classes=7),
        {"img_size": 32, "depth": 2, "num_heads": 4, "embed_dim": 64},
        32,
    ),
}


@pytest.mark.parametrize("name", shared_out(list(NETWORKS), 4))
def test_logits_are_torchvisions_and_the_weights_go_back(name: str) -> None:
    if name not in registry.names():
        pytest.skip(f"{name} is not here")
    import torch

    make, options, size = NETWORKS[name]
    reference = torch_reference.randomise(make(_models()), 3, size)
    for module in reference.modules():
        if hasattr(module, "logit_scale"):  # Swin v2 has no bias for keys; torchvision sets it to zero when it runs
            width = module.qkv.bias.numel() // 3
            module.qkv.bias.data[width : 2 * width] = 0
    ours = jaxtl.from_torch(reference, name, **options)
    images = torch_reference.images(size)
    with torch.no_grad():
        theirs = reference(torch_reference.torch_images(images))
    assert torch_reference.difference(ours(images), theirs) < 1e-4

    state = to_torchvision(names.state_dict(ours.params, ours.batch_stats), ours.graph)
    expected = {key: value.numpy() for key, value in reference.state_dict().items()}
    assert state.keys() == expected.keys()
    for key, array in state.items():
        if not key.endswith(names.COUNTER):
            np.testing.assert_array_equal(array, expected[key], err_msg=key)
        assert array.dtype == expected[key].dtype, key


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_name_is_torchvisions(name: str) -> None:
    if name not in registry.names():
        pytest.skip(f"{name} is not here")
    models = _models()
    import torch

    builder = BUILDERS[name]
    if builder.name.startswith(("regnet", "swin")):
        pytest.skip("torchvision cannot make it without its numbers")
    more = {"init_weights": False} if builder.name == "inception_v3" else {}
    with torch.device("meta"):
        state = getattr(models, builder.name)(weights=None, **more).state_dict()
    theirs = {key: tuple(value.shape) for key, value in state.items() if not re.fullmatch(UNUSED, key)}
    graph = Graph(name, num_classes=1000)
    ours = {
        names.torch_name(path): names.torch_shape(path, leaf.shape)
        for path, leaf in (graph.params | graph.batch_stats).items()
    }
    found = places(name, ours)
    assert {place for place, _ in found.values()} == {key for key in theirs if not key.endswith(names.COUNTER)}
    for key, (place, form) in found.items():
        assert form != "same" or theirs[place] == ours[key], key
        assert np.prod(theirs[place]) == np.prod(ours[key]), key
    assert builder_of(graph) is builder


def test_real_weights_without_a_head_take_a_new_one_and_torchvisions_preprocessing() -> None:
    if "mobilenetv2_100" not in registry.names():
        pytest.skip("mobilenetv2_100 is not here")
    file = shared("weights/torchvision_mobilenet_v2_features.safetensors")
    model = jaxtl.load("mobilenetv2_100", weights=file, num_classes=5)
    assert model.num_classes == 5
    assert model.notes[0] == "the weights have torchvision's names (mobilenet_v2)"
    assert "preprocessing is torchvision's: 224 pixels of 232, bilinear" in model.notes[1]
    assert model.preprocess.interpolation == "bilinear"
    assert model.preprocess.mean == (0.485, 0.456, 0.406)
    with pytest.raises(InputError, match=r"holds no head \(classifier.weight\); pass num_classes=N"):
        jaxtl.load("mobilenetv2_100", weights=file)
    with pytest.raises(InputError, match=r"features\.0\.0\.weight"):
        jaxtl.load("resnet18", weights=file, num_classes=5)


def test_other_epsilons_are_taken_over() -> None:
    models = _models()
    if "mobilenetv3_small_100" not in registry.names():
        pytest.skip("mobilenetv3_small_100 is not here")
    model = jaxtl.from_torch(models.mobilenet_v3_small(weights=None), "mobilenetv3_small_100")
    assert model.graph.options["bn_eps"] == 1e-3
    state_of_module = models.mobilenet_v3_small(weights=None).state_dict()
    kept = jaxtl.from_torch(state_of_module, "mobilenetv3_small_100", bn_eps=1e-5)
    state = names.state_dict(kept.params, kept.batch_stats)
    written = to_torchvision(state, kept.graph)
    np.testing.assert_allclose(written["features.0.1.running_var"] + 1e-3, state["bn1.running_var"] + 1e-5, rtol=1e-6)


class _Counting(Mapping):
    """Arrays that count how often one is read."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays, self.read = arrays, 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: array.shape for key, array in self.arrays.items()}

    def __getitem__(self, key: str) -> np.ndarray:
        self.read += 1
        return self.arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


def test_arrays_are_read_one_by_one_and_after_all_shapes_fit(monkeypatch, tmp_path) -> None:
    if "mobilenetv2_100" not in registry.names():
        pytest.skip("mobilenetv2_100 is not here")
    model = small_model("mobilenetv2_100")
    arrays = to_torchvision(names.state_dict(model.params, model.batch_stats), model.graph)
    counting = _Counting(arrays)
    monkeypatch.setattr("jaxtl.pretrained.weight_files.read", lambda path: counting)
    loaded = jaxtl.load("mobilenetv2_100", weights=tmp_path / "weights.safetensors")
    assert bits(loaded.params) == bits(model.params)
    assert counting.read == sum(not key.endswith(names.COUNTER) for key in arrays)

    wrong = _Counting({**arrays, "features.2.conv.2.weight": np.zeros((1, 96, 1, 1), np.float32)})
    monkeypatch.setattr("jaxtl.pretrained.weight_files.read", lambda path: wrong)
    with pytest.raises(InputError, match=r"blocks\.1\.0\.conv_pwl\.weight is \(1, 96, 1, 1\)"):
        jaxtl.load("mobilenetv2_100", weights=tmp_path / "weights.safetensors")
    assert wrong.read == 0


def test_names_of_earlier_versions(tmp_path) -> None:
    options = {"growth_rate": 8, "block_config": (2, 2)}
    if "densenet121" not in registry.names():
        pytest.skip("densenet121 is not here")
    model = small_model("densenet121", **options)
    state = names.state_dict(model.params, model.batch_stats)
    earlier = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): array for key, array in state.items()}
    assert earlier.keys() != state.keys()
    save_file(earlier, tmp_path / "earlier.safetensors")
    loaded = jaxtl.load("densenet121", weights=tmp_path / "earlier.safetensors", **options)
    assert bits(loaded.params) == bits(model.params)


def test_timms_names_and_what_a_folder_says_stay(tmp_path) -> None:
    model = small_model("resnet18", layers=(1, 1, 1, 1))
    loaded = jaxtl.load(jaxtl.save(model, tmp_path))
    assert loaded.notes == ()
    assert loaded.preprocess == model.preprocess


def test_a_network_without_what_torchvisions_has_is_not_torchvisions() -> None:
    assert builder_of(Graph("convnext_tiny", num_classes=4, ls_init_value=1e-6)) is not None
    assert builder_of(Graph("convnext_tiny", num_classes=4, ls_init_value=None)) is None
