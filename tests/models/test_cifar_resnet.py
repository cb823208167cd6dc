from __future__ import annotations

import numpy as np
import pytest
import torch_reference
from local_files import shared

from jaxtl.models import registry

torch = pytest.importorskip("torch")
CifarResNet = pytest.importorskip("torch_cifar_resnet").CifarResNet


def _assert_same(name: str, reference, tolerance: float) -> None:
    network = torch_reference.ported(name, reference)
    for size in (32, 41):
        x = torch_reference.images(size)
        with torch.no_grad():
            expected = reference(torch_reference.torch_images(x))
        assert torch_reference.difference(network(x), expected) < tolerance


@pytest.mark.parametrize("depth", [20, pytest.param(110, marks=pytest.mark.slow)])
def test_logits(depth: int) -> None:
    _assert_same(f"cifar_resnet{depth}", torch_reference.randomise(CifarResNet((depth - 2) // 6)), 1e-4)


@pytest.mark.parametrize("depth", [20, 32])
def test_published_weights_fit(depth: int) -> None:
    checkpoint = torch.load(shared(f"weights/cifar10_resnet{depth}.th"), weights_only=True, map_location="cpu")
    state = {key.removeprefix("module.").replace("linear.", "fc."): v for key, v in checkpoint["state_dict"].items()}
    reference = CifarResNet((depth - 2) // 6).eval()
    reference.load_state_dict(state, strict=False)
    _assert_same(f"cifar_resnet{depth}", reference, 1e-4)


def test_parameter_counts_are_the_papers() -> None:
    millions = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}
    for depth, count in millions.items():
        network = registry.build(f"cifar_resnet{depth}")
        params = sum(int(np.prod(leaf.shape)) for leaf in _params(network))
        assert params / 1e6 == pytest.approx(count, abs=0.05)


def _params(network) -> list:
    import jax
    from flax import nnx

    return jax.tree.leaves(nnx.to_pure_dict(nnx.state(network, nnx.Param)))
