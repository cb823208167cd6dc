from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_models import bits, small_model, training

import jaxtl
from jaxtl.errors import InputError
from jaxtl.trees import flatten, map_with_path, partition


def test_every_misfit_is_listed_with_its_paths() -> None:
    model = small_model()

    def label(path: str, leaf: object) -> str:
        return "haed" if path.startswith("fc") else "slow" if path.startswith("layer3") else "frozen"

    optimizer = jaxtl.multi_transform({"head": optax.sgd(1), "slow": optax.sgd(1), "stem": optax.sgd(1)}, label)
    for use in (
        lambda: optimizer.init(model.params),
        lambda: jaxtl.TrainState.create(model, optimizer),
        lambda: jaxtl.make_train_step(model, optimizer),
        lambda: jaxtl.explain(model, optimizer),
    ):
        with pytest.raises(InputError) as error:
            use()
        message = str(error.value)
        assert "no transform for the group 'haed', which the label function gives to fc." in message
        assert "no parameter is in the group 'head'" in message
        assert "no parameter is in the group 'stem'" in message
        assert "'slow'" not in message.partition("no parameter")[0]
        assert "bn1, conv1, fc, layer1, layer2, layer3" in message


def test_a_label_that_is_no_name() -> None:
    optimizer = jaxtl.multi_transform(
        {"fast": optax.sgd(1)}, lambda path, leaf: "fast" if path.startswith("fc") else None
    )
    with pytest.raises(InputError, match=r"returned 'None' for bn1.bias, bn1.scale, conv1.kernel, .* more"):
        optimizer.init(small_model().params)


def test_everything_frozen() -> None:
    optimizer = jaxtl.multi_transform({}, lambda path, leaf: "frozen")
    with pytest.raises(InputError, match="freezes every parameter"):
        jaxtl.TrainState.create(small_model(), optimizer)


def test_a_transform_for_frozen_may_not_move_it() -> None:
    with pytest.raises(InputError, match='"frozen" is never updated'):
        jaxtl.multi_transform({"frozen": optax.adamw(1e-9), "all": optax.sgd(1)}, training("fc"))
    accepted = jaxtl.multi_transform({"frozen": optax.set_to_zero(), "all": optax.sgd(1.0)}, training("fc"))
    without = jaxtl.multi_transform({"all": optax.sgd(1.0)}, training("fc"))
    params = small_model().params
    assert jax.tree.structure(accepted.init(params)) == jax.tree.structure(without.init(params))


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("compiled", [jax.jit, lambda step: step], ids=["jit", "eager"])
def test_in_a_loop_of_ones_own_frozen_leaves_keep_their_bits(compiled, clip_norm: float | None) -> None:
    """The whole tree goes in, with gradients for everything, -0.0 among the frozen numbers and decay on the rest."""
    model = small_model(until="layer1")
    special = jnp.asarray([-0.0, 0.0, jnp.nan, -jnp.inf, 1.2e-38, 1.0], jnp.float32)
    params = map_with_path(
        lambda path, leaf: jnp.resize(special, leaf.shape) if path == "bn1.scale" else leaf, model.params
    )
    optimizer = jaxtl.multi_transform(
        {"all": optax.adamw(1e-2, weight_decay=0.1)}, training("layer1", "fc"), clip_norm=clip_norm
    )

    @compiled
    def step(params, opt_state):
        gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.5), params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    before, opt_state = bits(params), optimizer.init(params)
    for _ in range(3):
        params, opt_state = step(params, opt_state)
    after = bits(params)
    moved = {path for path in before if before[path] != after[path]}
    assert moved == {path for path in before if path.startswith(("layer1", "fc"))}


def test_no_memory_is_held_for_what_is_frozen() -> None:
    model = small_model()
    optimizer = jaxtl.multi_transform({"all": optax.adam(1e-3)}, training("fc"))
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(optimizer.init(model.params)))
    assert shapes == sorted([(), (64, 4), (64, 4), (4,), (4,)])


def test_clipping_counts_the_gradients_of_what_trains_alone() -> None:
    model = small_model()
    label = training("fc")
    optimizer = jaxtl.multi_transform({"all": optax.sgd(1.0)}, label, clip_norm=1.0)
    gradients = map_with_path(
        lambda path, leaf: jnp.full_like(leaf, 3.0 if path.startswith("fc") else jnp.nan), model.params
    )
    updates = flatten(optimizer.update(gradients, optimizer.init(model.params), model.params)[0])
    head = np.concatenate([np.ravel(updates[path]) for path in ("fc.bias", "fc.kernel")])
    assert np.linalg.norm(head) == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_allclose(head, head[0], rtol=1e-6)

    head_alone, _ = partition(model.params, lambda path: path.startswith("fc"))
    reference = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
    of_head, _ = partition(gradients, lambda path: path.startswith("fc"))
    expected, _ = reference.update(of_head, reference.init(head_alone))
    np.testing.assert_array_equal(updates["fc.kernel"], expected["fc"]["kernel"])


def test_groups_get_their_own_transforms() -> None:
    params = {"a": {"kernel": jnp.ones(2)}, "b": {"kernel": jnp.ones(2)}, "c": {"kernel": jnp.ones(2)}}
    label = {"a.kernel": "slow", "b.kernel": "fast", "c.kernel": "frozen"}
    optimizer = jaxtl.multi_transform({"slow": optax.sgd(0.25), "fast": optax.sgd(0.5)}, lambda path, leaf: label[path])
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert {name: float(leaf["kernel"][0]) for name, leaf in updates.items()} == {"a": -0.25, "b": -0.5, "c": 0.0}


def test_what_is_no_transformation_is_named():
    with pytest.raises(InputError, match=r"no optax transformation: 'fast'"):
        jaxtl.multi_transform({"fast": 1e-3}, lambda path, leaf: "fast")
