"""What every family owes the rest of jaxtl: stages, blocks, cuts, heads and counts."""

from __future__ import annotations

import families
import jax
import jax.numpy as jnp
import pytest
import torch_reference
from families import FAMILIES, rotating

from jaxtl.models import registry
from jaxtl.models.graph import POOLED, Graph, Modes
from jaxtl.trees import unflatten

MEMBERS = {family.member: family for family in FAMILIES.values()}
SMALL = [name for family in FAMILIES.values() for name in family.always]


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_belongs_to_a_stage_and_a_block(name: str) -> None:
    graph = Graph(name, num_classes=7)
    for path in (*graph.params, *graph.batch_stats):
        assert graph.stage_of(path) in graph.stages
    depths = {graph.depth_of(path) for path in graph.params}
    assert depths == set(range(len(graph.blocks)))
    assert all(graph.depth_of(path) == 0 for path in graph.params if graph.in_head(path))
    by_stage = [max(graph.depth_of(p) for p in graph.params if graph.stage_of(p) == s) for s in graph.stages]
    assert by_stage == sorted(by_stage, reverse=True)


@pytest.mark.parametrize("name", SMALL)
def test_parameters_are_timms_in_number_and_name(name: str) -> None:
    reference = torch_reference.timm_network(name)
    graph = Graph(name)
    assert sum(leaf.size for leaf in graph.params.values()) == sum(p.numel() for p in reference.parameters())
    shapes = {path: leaf.shape for path, leaf in (graph.params | graph.batch_stats).items()}
    torch_reference.check_names(reference, shapes)
    assert graph.network.num_features == getattr(reference, "head_hidden_size", reference.num_features)


@pytest.mark.parametrize("name", MEMBERS)
def test_cuts_heads_and_channels(name: str) -> None:
    family = MEMBERS[name]
    whole = registry.build(name, **family.member_options)
    for until in (whole.stage_names[0], whole.stage_names[len(whole.stage_names) // 2], whole.stage_names[-2]):
        graph = Graph(name, **family.member_options, until=until, num_classes=3, in_chans=5, head=(6,))
        images = jnp.zeros((2, family.member_size, family.member_size, 5))
        logits = jax.eval_shape(lambda p, s, x, g=graph: g.apply(p, s, x)[0], *_abstract(graph), images)
        features = jax.eval_shape(graph.features, *_abstract(graph), images)
        assert logits.shape == (2, 3)
        assert features.shape == (2, graph.network.num_features)
        assert graph.stages[-2:] == (until, whole.stage_names[-1])
    headless = Graph(name, **family.member_options, num_classes=0)
    assert not any(headless.in_head(path) for path in headless.params)
    pooled = jax.eval_shape(
        lambda p, s, x: headless.apply(p, s, x)[0],
        *_abstract(headless),
        jnp.zeros((2, family.member_size, family.member_size, 3)),
    )
    assert pooled.shape == (2, headless.network.num_features)


@pytest.mark.parametrize("name", [*MEMBERS, "cifar_resnet20"])
def test_dropout_between_the_layers_of_a_head_gets_random_numbers(name: str) -> None:
    options = MEMBERS[name].member_options if name in MEMBERS else {}
    graph = Graph(name, **options, num_classes=3, head=(6, 5), drop_rate=0.5)
    modes = Modes(random=frozenset(path for path in graph.random if graph.in_head(path)))
    assert len(modes.random) == 2

    def classified(params, stats, features, key):
        return graph.apply(params, stats, features, modes, key, after=POOLED)[0]

    features = jnp.zeros((2, graph.network.num_features))
    assert jax.eval_shape(classified, *_abstract(graph), features, jax.random.key(0)).shape == (2, 3)


@pytest.mark.parametrize("name", rotating(MEMBERS, 1))
def test_drop_path_dropout_and_remat(name: str) -> None:
    family = MEMBERS[name]
    options = {**family.member_options, "num_classes": 3, "head": (6,), "drop_rate": 0.5}
    graph = Graph(name, **options, drop_path_rate=0.5)
    params, stats = (unflatten(graph.initialise(leaves, 0)) for leaves in (graph.params, graph.batch_stats))
    params, stats = jax.tree.map(jnp.asarray, (params, stats))
    images = jnp.asarray(torch_reference.images(family.member_size, batch=4))
    modes = Modes(random=frozenset(graph.random), adapt=frozenset(graph.batch_norms))

    def loss(graph: Graph):
        def of(params, key):
            logits, moved = graph.apply(params, stats, images, modes, key)
            return jnp.square(logits).sum(), moved

        return jax.jit(jax.value_and_grad(of, has_aux=True))

    (first, moved), gradients = loss(graph)(params, jax.random.key(0))
    (other, _), _ = loss(graph)(params, jax.random.key(1))
    assert graph.random
    assert first != other
    checkpointed = Graph(name, **options, drop_path_rate=0.5, remat=True)
    (again, moved_again), gradients_again = loss(checkpointed)(params, jax.random.key(0))
    assert jnp.allclose(first, again, rtol=1e-4)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients))
    for one, two in zip(jax.tree.leaves(gradients), jax.tree.leaves(gradients_again), strict=True):
        assert jnp.allclose(one, two, atol=1e-4 * largest)
    for one, two in zip(jax.tree.leaves(moved), jax.tree.leaves(moved_again), strict=True):
        assert jnp.allclose(one, two, rtol=1e-4, atol=1e-6)


def _abstract(graph: Graph):
    return unflatten(graph.params), unflatten(graph.batch_stats)


def test_every_file_of_a_family_is_tested() -> None:
    from timm_guest import import_timm

    timm = import_timm()
    missing = [n for n in registry.names() if families.family_of(n) is None and n in timm.list_models()]
    assert not missing
