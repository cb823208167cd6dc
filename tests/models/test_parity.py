"""The same weights give the same numbers as in timm, for every architecture.

A normal run compares a network for each kind of option and two more that change with the date; ``-m ""`` and
``make parity`` compare all.
"""

from __future__ import annotations

import datetime

import pytest
import torch_reference

from jaxtl.models import registry
from jaxtl.models.resnet import ARCHITECTURES

TOLERANCE = 1e-4  # of the largest value, float32
SIZES = (64, 97)

ALWAYS = (
    "ecaresnet26t",
    "resnet18",
    "resnet50_gn",
    "resnetaa34d",
    "resnetblur18",
    "resnetrs50",
    "seresnext26d_32x4d",
    "test_resnet",
)
OPTIONS = (
    ("senet154", {"layers": (1, 1, 1, 1)}),
    ("resnet26", {"output_stride": 8, "in_chans": 1}),
    ("resnet10t", {"output_stride": 16}),
    ("resnetblur18", {"output_stride": 8, "replace_stem_pool": True}),
    ("resnet10t", {"act_layer": "silu", "num_classes": 7}),
)


def _cases() -> list:
    others = [name for name in registry.names() if name in ARCHITECTURES and name not in ALWAYS]
    day = datetime.date.today().toordinal()
    today = {others[(2 * day + i) % len(others)] for i in range(2)}
    return [
        *ALWAYS,
        *(pytest.param(name, marks=[] if name in today else pytest.mark.slow) for name in others),
    ]


def compare(name: str, **options) -> float:
    """The largest difference of logits and features, in parts of the largest value, over two sizes of images."""
    import torch

    reference = torch_reference.randomised(name, **options)
    network = torch_reference.ported(name, reference, **options)
    worst = 0.0
    for size in SIZES:
        x = torch_reference.images(size, options.get("in_chans", 3))
        with torch.no_grad():
            maps = reference.forward_features(torch_reference.torch_images(x))
            logits, features = reference.forward_head(maps), reference.forward_head(maps, pre_logits=True)
        assert (logits[0] - logits[1]).abs().max() > 0.02 * logits.abs().max(), "the logits do not depend on the image"
        worst = max(
            worst,
            torch_reference.difference(network(x), logits),
            torch_reference.difference(network.features(x), features),
        )
    return worst


@pytest.mark.parametrize("name", _cases())
def test_architecture(name: str) -> None:
    assert compare(name) < TOLERANCE


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=[f"{name}-{'-'.join(o)}" for name, o in OPTIONS])
def test_options(name: str, options: dict) -> None:
    assert compare(name, **options) < TOLERANCE
