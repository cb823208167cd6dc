"""In training mode a network computes and stores the batch statistics that torch does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_reference
from flax import nnx
from small_models import bits, small_model

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.graph import Modes
from jaxtl.pretrained.names import state_dict
from jaxtl.trees import flatten


@pytest.fixture(scope="module")
def reference():
    return torch_reference.randomised("resnet18").double()


def test_batch_statistics_and_logits_equal_torchs_in_float64(reference) -> None:
    with jax.enable_x64(True):
        network = torch_reference.ported("resnet18", reference)
        graph, variables = nnx.split(nnx.view(network, use_running_average=False))
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), nnx.to_pure_dict(variables))
        images = torch_reference.images(64, batch=4)

        def run(variables, x):
            network = nnx.merge(graph, variables)
            return network(x), nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

        logits, stats = jax.jit(run)(variables, images.astype(np.float64))
        logits, stats = np.asarray(logits), state_dict({}, stats)

    expected = reference.train()(torch_reference.torch_images(images).double()).detach().numpy()
    assert np.abs(logits - expected).max() < 1e-8 * np.abs(expected).max()
    moved = {key: value.numpy() for key, value in reference.state_dict().items() if "running" in key}
    assert len(moved) == 40
    for key, value in moved.items():
        np.testing.assert_allclose(stats[key], value, rtol=1e-8, atol=1e-8, err_msg=key)


def test_only_the_viewed_batch_norms_adapt() -> None:
    network = _filled("cifar_resnet20")
    before = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
    view = nnx.view(network, only=lambda path, _: path[:1] == ("layer3",), use_running_average=False)
    graph, variables = nnx.split(view)
    view = nnx.merge(graph, variables)
    view(jnp.asarray(torch_reference.images(32)))
    after = nnx.to_pure_dict(nnx.state(view, nnx.BatchStat))
    assert not np.array_equal(before["layer3"]["0"]["bn1"]["mean"], after["layer3"]["0"]["bn1"]["mean"])
    for stage in ("bn1", "layer1", "layer2"):
        jax.tree.map(np.testing.assert_array_equal, before[stage], after[stage])


def test_observing_gives_evaluations_logits_and_the_statistics_of_each_batch_norms_input(reference) -> None:
    model = jaxtl.from_torch(reference.float().state_dict(), "resnet18")
    images = torch_reference.images(64, batch=4)
    modes = Modes(observe=frozenset(model.graph.batch_norms))
    logits, stats = model.apply(model.params, model.batch_stats, images, modes)
    evaluated, untouched = model.apply(model.params, model.batch_stats, images)
    np.testing.assert_array_equal(logits, evaluated)
    assert untouched is model.batch_stats

    inputs = {}
    norms = {name: module for name, module in reference.named_modules() if hasattr(module, "running_mean")}
    hooks = [
        module.register_forward_pre_hook(lambda _, x, name=name: inputs.update({name: x[0].detach().numpy()}))
        for name, module in norms.items()
    ]
    reference.double().eval()(torch_reference.torch_images(images).double())
    for hook in hooks:
        hook.remove()
    stats = flatten(stats)
    assert len(inputs) == 20
    for name, x in inputs.items():
        scale = x.std()
        np.testing.assert_allclose(stats[f"{name}.mean"], x.mean((0, 2, 3)), atol=1e-4 * scale, err_msg=name)
        np.testing.assert_allclose(stats[f"{name}.var"], x.var((0, 2, 3), ddof=1), rtol=2e-3, err_msg=name)


def test_adapting_and_observing_gives_trainings_logits_and_the_batchs_statistics() -> None:
    model = small_model(until="layer1")
    images = torch_reference.images(16, batch=4)
    norms = frozenset(model.graph.batch_norms)
    logits, moved = model.apply(model.params, model.batch_stats, images, Modes(adapt=norms))
    same, own = model.apply(model.params, model.batch_stats, images, Modes(adapt=norms, observe=norms))
    np.testing.assert_array_equal(logits, same)
    old, moved, own = flatten(model.batch_stats), flatten(moved), flatten(own)
    for path in old:
        np.testing.assert_allclose(moved[path], 0.9 * old[path] + 0.1 * own[path], rtol=1e-5, atol=1e-6)


def test_only_what_observes_changes() -> None:
    model = small_model(until="layer1")
    images = torch_reference.images(16, batch=4)
    _, stats = model.apply(model.params, model.batch_stats, images, Modes(observe=frozenset({"layer1.1.bn2"})))
    before, after = bits(model.batch_stats), bits(stats)
    assert {path for path in before if before[path] != after[path]} == {"layer1.1.bn2.mean", "layer1.1.bn2.var"}


def test_dropout_and_drop_path_need_random_numbers_in_training_mode_alone() -> None:
    network = _filled("cifar_resnet20", until="layer1", drop_rate=0.5, drop_path_rate=0.2)
    images = jnp.asarray(torch_reference.images(32))
    np.testing.assert_array_equal(network(images), network(images, nnx.Rngs(0)))
    training = nnx.view(network, deterministic=False)
    with pytest.raises(InputError, match=r"DropPath .* no random numbers"):
        training(images)
    first, again, other = (training(images, nnx.Rngs(dropout=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_network_computes_in_the_dtype_of_the_images() -> None:
    network = _filled("cifar_resnet20", until="layer1")
    images = jnp.asarray(torch_reference.images(32))
    exact, rounded = network(images), network(images.astype(jnp.bfloat16))
    assert rounded.dtype == jnp.bfloat16
    assert np.abs(exact - rounded.astype(np.float32)).max() < 0.1 * np.abs(exact).max()


def _filled(name: str, **options):
    generator = np.random.default_rng(0)
    graph, variables = nnx.split(registry.build(name, **options))
    for _, variable in nnx.to_flat_state(variables):
        array = variable.get_metadata("init")(generator, variable.get_value().shape)
        variable.set_value(jnp.asarray(array + 0.1 * generator.standard_normal(array.shape, np.float32)))
    return nnx.merge(graph, variables)
