from __future__ import annotations

import numpy as np
import pytest
import torch_reference
from local_files import shared

from jaxtl.models import registry

torch = pytest.importorskip("torch")


class _Block(torch.nn.Module):
    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.conv2 = torch.nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(width)
        self.stride, self.pad = stride, (width - width_in) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut = torch.nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return (y + shortcut).relu()


class _CifarResNet(torch.nn.Module):
    def __init__(self, blocks: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        width = 16
        for stage in (1, 2, 3):
            members = []
            for j in range(blocks):
                members.append(_Block(width, 8 * 2**stage, 2 if stage > 1 and j == 0 else 1))
                width = 8 * 2**stage
            setattr(self, f"layer{stage}", torch.nn.Sequential(*members))
        self.fc = torch.nn.Linear(64, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def _assert_same(name: str, reference, tolerance: float) -> None:
    network = torch_reference.ported(name, reference)
    for size in (32, 41):
        x = torch_reference.images(size)
        with torch.no_grad():
            expected = reference(torch_reference.torch_images(x))
        assert torch_reference.difference(network(x), expected) < tolerance


@pytest.mark.parametrize("depth", [20, pytest.param(110, marks=pytest.mark.slow)])
def test_logits(depth: int) -> None:
    _assert_same(f"cifar_resnet{depth}", torch_reference.randomise(_CifarResNet((depth - 2) // 6)), 1e-4)


@pytest.mark.parametrize("depth", [20, 32])
def test_published_weights_fit(depth: int) -> None:
    checkpoint = torch.load(shared(f"weights/cifar10_resnet{depth}.th"), weights_only=True, map_location="cpu")
    state = {key.removeprefix("module.").replace("linear.", "fc."): v for key, v in checkpoint["state_dict"].items()}
    reference = _CifarResNet((depth - 2) // 6).eval()
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
