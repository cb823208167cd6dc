"""Five steps of SGD in training mode are torch's five steps, in float64."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_reference
from compilations import compilations
from families import FAMILIES, rotating

import jaxtl
from jaxtl.pretrained.names import state_dict

torch = pytest.importorskip("torch")

STEPS, RATE, MOMENTUM, DECAY = 5, 0.02, 0.9, 1e-2


def _cifar():
    from torch_cifar_resnet import CifarResNet

    return torch_reference.randomise(CifarResNet(3))


def _timm(name: str, size: int = 64, **options):
    return torch_reference.randomised(name, size, num_classes=7, **options), options


NETWORKS = {
    "cifar_resnet20": (lambda: (_cifar(), {}), 16),
    "seresnext26d_32x4d": (lambda: _timm("seresnext26d_32x4d", layers=(1, 1, 1, 1)), 32),
    **{
        family.member: (
            partial(_timm, family.member, size=family.member_size, **family.member_options),
            family.member_size,
        )
        for family in FAMILIES.values()
    },
}


DAILY = ("cifar_resnet20", "resnet18", "test_efficientnet")
LONG = ("inception_v3",)
OTHERS = [name for name in NETWORKS if name not in LONG]


@pytest.mark.parametrize("name", [*rotating(OTHERS, 1, always=DAILY), *rotating(LONG, 0)])
def test_losses_parameters_and_statistics_follow_torch(name: str) -> None:
    make, size = NETWORKS[name]
    reference, options = make()
    images = [torch_reference.images(size, batch=4) + 0.1 * step for step in range(STEPS)]
    labels = np.random.default_rng(1).integers(0, 7, (STEPS, 4))
    start = jaxtl.from_torch(reference, name, **options)
    first = state_dict(start.params, start.batch_stats)

    expected_losses = _train_torch(reference.double().train(), images, labels)
    losses, params, stats = _train(start, images, labels)

    np.testing.assert_allclose(losses, expected_losses, rtol=1e-8)
    ours = state_dict(params, stats)
    for key, tensor in reference.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        expected = tensor.numpy()
        assert np.abs(ours[key] - expected).max() <= 1e-8 * np.abs(expected).max(), key
        assert np.abs(first[key] - expected).max() > 1e-4 * np.abs(expected).max(), f"{key} hardly moved"


def _train(model: jaxtl.Model, images: list[np.ndarray], labels: np.ndarray):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (model.params, model.batch_stats))
        model = model.replace(params=wide[0], batch_stats=wide[1])
        sgd = optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, momentum=MOMENTUM))
        optimizer = jaxtl.multi_transform({"all": sgd}, lambda path, leaf: "all")
        state = jaxtl.TrainState.create(model, optimizer)
        train_step = jaxtl.make_train_step(model, optimizer)
        losses = []
        with compilations("train_step") as compiled:
            for x, y in zip(images, labels, strict=True):
                state, metrics = train_step(state, {"image": jnp.asarray(x, jnp.float64), "label": y})
                losses.append(float(metrics["loss"]))
        assert len(compiled) == 1
        return losses, *jax.device_get((state.all_params, state.batch_stats))


def _train_torch(network, images: list[np.ndarray], labels: np.ndarray) -> list[float]:
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    losses = []
    for x, y in zip(images, labels, strict=True):
        loss = torch.nn.functional.cross_entropy(
            network(torch_reference.torch_images(x).double()), torch.from_numpy(y.copy())
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
