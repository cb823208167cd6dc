"""Live torch modules: how they were built is taken over, or noticed."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch_reference

import jaxtl
from jaxtl.errors import InputError
from jaxtl.pretrained import live

torch_reference.import_timm()
torch = pytest.importorskip("torch")

RESNET, VIT = "resnet10t", "vit_tiny_patch16_224"
SWIN, EVA = "swinv2_tiny_window8_256", "eva02_tiny_patch14_224"
SMALL: dict[str, dict[str, Any]] = {
    RESNET: {"channels": (8, 16, 24, 32)},
    VIT: {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 64},
    SWIN: {"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4), "img_size": 64},
    EVA: {"embed_dim": 32, "depth": 1, "num_heads": 2, "img_size": 42},
}
SIZE = {RESNET: {"img_size": 64}}


def _module(name: str, **options: Any) -> Any:
    return torch_reference.randomised(name, **{**SMALL[name], "num_classes": 4, **options})


def _options(name: str) -> dict[str, Any]:
    """Options with which the module is loaded: a transformer brings its size itself."""
    return {key: value for key, value in SMALL[name].items() if key != "img_size"} | SIZE.get(name, {})


def _difference(module: Any, model: jaxtl.Model) -> float:
    images = np.random.default_rng(0).standard_normal((1, *model.preprocess.size, 3)).astype(np.float32)
    with torch.no_grad():
        return torch_reference.difference(model(images), module(torch_reference.torch_images(images)))


@pytest.mark.parametrize(
    ("name", "built"),
    [
        (VIT, {"patch_size": 32}),
        (VIT, {"global_pool": "avg"}),
        (VIT, {"global_pool": "avg", "fc_norm": False}),
        (VIT, {"global_pool": "max", "fc_norm": False}),
        (EVA, {"global_pool": "token"}),
        (RESNET, {"num_classes": 0}),
    ],
)
def test_patches_pooling_and_a_missing_head_are_taken_over(name: str, built: dict) -> None:
    module = _module(name, **built)
    assert _difference(module, jaxtl.from_torch(module, name, **_options(name))) < 1e-4


@pytest.mark.parametrize(
    ("name", "built", "how"),
    [
        (RESNET, {"global_pool": "max"}, "global_pool.pool_type is 'max' and not 'avg'"),
        (RESNET, {"act_layer": "silu"}, "act1 is 'SiLU' and not 'ReLU'"),
        (RESNET, {"output_stride": 16}, "stride is"),
        (VIT, {"num_heads": 4}, "num_heads is 4 and not 2"),
        (SWIN, {"window_size": 4}, r"window_size is \(4, 4\) and not \(8, 8\)"),
    ],
)
def test_what_no_array_tells_has_to_be_passed_again(name: str, built: dict, how: str) -> None:
    module = _module(name, **built)
    said = f"computes something else than {name} with its weights .*{how}.*pass create_model's keywords"
    for change in ({}, {"num_classes": 3}):
        with pytest.raises(InputError, match=said):
            jaxtl.from_torch(module, name, **_options(name), **change)
    if "global_pool" not in built:
        assert _difference(module, jaxtl.from_torch(module, name, **{**_options(name), **built})) < 1e-4


def test_of_a_state_dict_nothing_is_computed() -> None:
    state = _module(RESNET, act_layer="silu").state_dict()
    assert jaxtl.from_torch(state, RESNET, **_options(RESNET)).num_classes == 4


def test_nothing_is_computed_where_timm_builds_the_same(monkeypatch) -> None:
    monkeypatch.setattr(live, "_outputs", lambda *given: pytest.fail("it was"))
    for name in SMALL:
        jaxtl.from_torch(_module(name, drop_rate=0.1), name, **_options(name), until=None, num_classes=2)


class _Other(torch.nn.Sequential):
    """A module that timm has not, around one that it has."""

    def forward(self, images: Any) -> Any:
        return 2 * super().forward(images)


class _Wrapper(torch.nn.Module):
    def __init__(self, module: Any):
        super().__init__()
        self.module = module

    def forward(self, images: Any, labels: Any) -> Any:
        raise AssertionError


def test_wrappers_are_looked_into_and_other_modules_are_compared() -> None:
    module = _module(RESNET)
    assert jaxtl.from_torch(_Wrapper(module), RESNET, **_options(RESNET)).preprocess.std == module.pretrained_cfg["std"]
    with pytest.raises(InputError, match="computes something else"):
        jaxtl.from_torch(_Wrapper(_module(RESNET, global_pool="max")), RESNET, **_options(RESNET))
    double = _Other(OrderedDict(module.named_children()))
    with pytest.raises(InputError, match=r"the _Other computes something else than resnet10t .*differ by"):
        jaxtl.from_torch(double, RESNET, **_options(RESNET))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_module_stays_as_it_is(dtype: str) -> None:
    module = _module(RESNET, act_layer="silu").to(getattr(torch, dtype))
    module.train()
    module.layer1.eval()
    before = [part.training for part in module.modules()]
    counts = module.bn1.num_batches_tracked.clone()
    model = jaxtl.from_torch(module, RESNET, **_options(RESNET), act_layer="silu")
    assert [part.training for part in module.modules()] == before
    assert module.bn1.num_batches_tracked == counts
    assert module.fc.weight.dtype == getattr(torch, dtype)
    assert _difference(module.eval().float(), model) < 1e-4


def test_modules_that_cannot_be_compared_are_loaded(capsys, monkeypatch) -> None:
    broken = _module(RESNET, act_layer="silu")
    with torch.no_grad():
        broken.conv1[0].weight[0] = float("nan")
    jaxtl.from_torch(broken, RESNET, **_options(RESNET), act_layer="silu")

    class Labelled(type(broken)):
        def forward(self, images, labels):
            raise AssertionError

    broken.__class__ = Labelled
    said: list[str] = []
    monkeypatch.setattr(live, "say", said.append)
    jaxtl.from_torch(broken, RESNET, **_options(RESNET))
    assert len(said) == 1
    assert said[0].startswith("what the Labelled computes was not compared with the model")
