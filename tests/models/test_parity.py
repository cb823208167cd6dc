"""The same weights give the same numbers as in timm, for every architecture.

A normal run compares a network for each kind of option, or a copy of it with fewer blocks, on images whose height is
one of the family's sizes and whose width another, so that one compiled program sees both; and a few more networks,
which change with the date. ``-m ""`` and ``make parity`` compare all.
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
A_DAY = 3

ALWAYS = [name for family in FAMILIES.values() for name in family.always if name not in family.shorter]
VARIANTS = [variant for family in FAMILIES.values() for variant in (*family.shorter.items(), *family.variants)]


def compare(name: str, *, oblong: bool = False, **options) -> float:
    """The largest difference of logits and features, in parts of the largest value, over all sizes of images; with
    ``oblong`` over images of the first size times the last."""
    import torch

    family = FAMILIES[families.family_of(name)]
    options = {**family.options(name), **family.too_large.get(name, {}), **options}
    sizes: tuple = (options["img_size"],) if "img_size" in options else family.sizes
    if oblong and len(sizes) > 1:
        sizes = ((sizes[0], sizes[-1]),)
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
    assert compare(name, oblong=name in ALWAYS) < TOLERANCE


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{name}-{'-'.join(o)}" for name, o in VARIANTS])
def test_options(name: str, options: dict) -> None:
    assert compare(name, oblong=True, **options) < TOLERANCE
