"""The same weights give the same numbers as in timm, for every architecture.

A normal run compares a network for each kind of option and a few more that change with the date; ``-m ""`` and
``make parity`` compare all.
"""

from __future__ import annotations

from functools import partial

import families
import jax
import pytest
import torch_reference
from families import FAMILIES, rotating
from flax import nnx

from jaxtl.models.layers import BatchNorm
from jaxtl.models.network import Network

TOLERANCE = 1e-4  # of the largest value, float32
A_DAY = 4

ALWAYS = [name for family in FAMILIES.values() for name in family.always]
VARIANTS = [variant for family in FAMILIES.values() for variant in family.variants]


def compare(name: str, **options) -> float:
    """The largest difference of logits and features, in parts of the largest value, over all sizes of images."""
    import torch

    family = FAMILIES[families.family_of(name)]
    options = {**family.options(name), **family.too_large.get(name, {}), **options}
    sizes = [options["img_size"]] if "img_size" in options else family.sizes
    reference = torch_reference.randomised(name, size=sizes[0], **options)
    run = _compiled(torch_reference.ported(name, reference, **options))
    worst = 0.0
    for size in sizes:
        x = torch_reference.images(size, options.get("in_chans", 3))
        with torch.no_grad():
            maps = reference.forward_features(torch_reference.torch_images(x))
            logits, features = reference.forward_head(maps), reference.forward_head(maps, pre_logits=True)
        assert (logits[0] - logits[1]).abs().max() > 0.01 * logits.abs().max(), "the logits do not depend on the image"
        our_logits, our_features = run(x)
        worst = max(
            worst,
            torch_reference.difference(our_logits, logits),
            torch_reference.difference(our_features, features),
        )
    return worst


def _compiled(network: Network):
    """``images -> (logits, features)``; as one program where that is faster than one for each kind of operation, which
    a transformer's equal blocks share."""
    graph, variables = nnx.split(network)

    def run(variables, x):
        network = nnx.merge(graph, variables)
        return network(x), network.pooled_features(x)

    has_batch_norm = any(isinstance(module, BatchNorm) for _, module in nnx.iter_modules(network))
    return partial(jax.jit(run) if has_batch_norm else run, nnx.to_pure_dict(variables))


@pytest.mark.parametrize("name", rotating(families.names(), A_DAY, ALWAYS))
def test_architecture(name: str) -> None:
    assert compare(name) < TOLERANCE


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{name}-{'-'.join(o)}" for name, o in VARIANTS])
def test_options(name: str, options: dict) -> None:
    assert compare(name, **options) < TOLERANCE
