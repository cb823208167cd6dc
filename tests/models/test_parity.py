"""The same weights give the same numbers as in timm, for every architecture.

For each kind of option there is a network, or a copy of one with fewer blocks, which is compared on images whose
height is one of the family's sizes and whose width another, so that one compiled program sees both. A normal run
compares every second of these and two more networks, and on the next day the others. ``-m ""`` and ``make parity``
compare all.
"""

from __future__ import annotations

from functools import partial

import families
import jax
import numpy as np
import pytest
import torch_reference
from families import FAMILIES, in_turns, rotating, shared_out
from flax import nnx

from jaxtl.models.layers import BatchNorm
from jaxtl.models.network import Network

TOLERANCE = 1e-4  # of the largest value, float32
EXACT = 1e-6  # the same, float64 but for tables that timm has in float32
A_DAY = 2
DAYS = 6  # until each that takes seconds has come round

ALWAYS = [name for family in FAMILIES.values() for name in family.always if name not in family.shorter]
VARIANTS = [variant for family in FAMILIES.values() for variant in (*family.shorter.items(), *family.variants)]

NAMES_OF_VARIANTS = [f"{name}-{'-'.join(options)}" for name, options in VARIANTS]


@jax.default_matmul_precision("highest")
def compare(name: str, *, oblong: bool = False, exact: bool = False, **options) -> float:
    """The largest difference of logits and features, in parts of the largest value, over all sizes of images; with
    ``oblong`` over images of the first size times the last, with ``exact`` in float64. Products are of full float32
    on any device."""
    import torch

    family = FAMILIES[families.family_of(name)]
    options = {**family.options(name), **family.too_large.get(name, {}), **options}
    sizes: tuple = (options["img_size"],) if "img_size" in options else family.sizes
    if oblong and len(sizes) > 1:
        sizes = ((sizes[0], sizes[-1]),)
    reference = torch_reference.randomised(name, size=sizes[0], **options)
    network = torch_reference.ported(name, reference, **options)
    dtype = np.float64 if exact else np.float32
    if exact:
        reference = reference.double()
    run = _compiled(network, dtype)
    worst = 0.0
    for size in sizes:
        x = torch_reference.images(size, options.get("in_chans", 3)).astype(dtype)
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


def agree(name: str, **options) -> bool:
    """Whether all differences are within the tolerance. Networks of random numbers may enlarge rounding errors beyond
    it, by how much depends on the processor: then float64 must tell that it was rounding."""
    if compare(name, **options) < TOLERANCE:
        return True
    with jax.enable_x64(True):
        return compare(name, exact=True, **options) < EXACT


def _compiled(network: Network, dtype):
    """``images -> (logits, features)``; as one program where that is faster than one for each kind of operation, which
    a transformer's equal blocks share."""
    graph, variables = nnx.split(network)

    def run(variables, x):
        network = nnx.merge(graph, variables)
        return network(x), network.pooled_features(x)

    has_batch_norm = any(isinstance(module, BatchNorm) for _, module in nnx.iter_modules(network))
    arrays = jax.tree.map(lambda array: array.astype(dtype), nnx.to_pure_dict(variables))
    return partial(jax.jit(run) if has_batch_norm else run, arrays)


@pytest.mark.parametrize("name", rotating(families.names(), A_DAY, in_turns(ALWAYS, DAYS)))
def test_architecture(name: str) -> None:
    assert agree(name, oblong=name in ALWAYS)


@pytest.mark.parametrize(("name", "options"), shared_out(VARIANTS, DAYS), ids=NAMES_OF_VARIANTS)
def test_options(name: str, options: dict) -> None:
    assert agree(name, oblong=True, **options)
