from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_models import batch, bits, small_model, training

import jaxtl
from jaxtl.errors import InputError
from jaxtl.finetune.optimizer import groups_in
from jaxtl.models.graph import Graph
from jaxtl.trees import flatten, map_with_path, partition, unflatten


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


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_two_sets_of_parameters(clip_norm: float | None) -> None:
    model = small_model(until="layer1")
    twice = optax.lookahead(optax.sgd(0.1), sync_period=5, slow_step_size=0.5)
    optimizer = jaxtl.multi_transform({"all": twice}, training("fc"), clip_norm=clip_norm)
    for use in (
        lambda: optimizer.init(model.params),
        lambda: jaxtl.TrainState.create(model, optimizer),
        lambda: jaxtl.explain(model, optimizer),
    ):
        with pytest.raises(InputError, match=r"optax\.lookahead trains two sets of parameters, and there is one"):
            use()


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


# --- labels that are bound later -----------------------------------------------------------------------------------

CIFAR_BLOCKS = [f"layer{stage}.{block}" for stage in (3, 2, 1) for block in (2, 1, 0)]
HAND_MADE = {
    "cifar_resnet20": {"fc": 1.0}
    | dict(zip(CIFAR_BLOCKS, (0.5, 0.25, 0.125, 0.0625, 2**-5, 2**-6, 2**-7, 2**-8, 2**-9), strict=True))
    | {"conv1": 2**-10, "bn1": 2**-10},
    "resnet18": {
        "fc": 1.0,
        "layer4.1": 0.5,
        "layer4.0": 0.25,
        "layer3.1": 0.125,
        "layer3.0": 0.0625,
        "layer2.1": 2**-5,
        "layer2.0": 2**-6,
        "layer1.1": 2**-7,
        "layer1.0": 2**-8,
        "conv1": 2**-9,
        "bn1": 2**-9,
    },
}


@pytest.mark.parametrize("name", sorted(HAND_MADE))
def test_layerwise_rates_are_those_of_a_hand_made_table(name: str) -> None:
    """One step of SGD on a gradient of 1 moves each parameter by its own rate."""
    graph = Graph.shared(name, num_classes=4)
    optimizer = jaxtl.multi_transform(lambda scale: optax.sgd(0.5 * scale), jaxtl.labels.layerwise(0.5)).bind(graph)
    params = unflatten({path: jnp.zeros((1,) * leaf.ndim) for path, leaf in graph.params.items()})
    gradients = jax.tree.map(jnp.ones_like, params)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    for path, update in flatten(updates).items():
        (factor,) = (factor for block, factor in HAND_MADE[name].items() if path.startswith(f"{block}."))
        assert float(update.ravel()[0]) == -0.5 * factor, path


def test_layerwise_in_a_train_step() -> None:
    """The same loss with and without: the updates differ by the table's factors."""
    model = small_model(until="layer1")
    factors = {"fc": 1.0, "layer1.2": 0.5, "layer1.1": 0.25, "layer1.0": 0.125, "conv1": 0.0625, "bn1": 0.0625}
    optimizer = jaxtl.multi_transform(lambda scale: optax.sgd(scale), jaxtl.labels.layerwise(0.5)).bind(model.graph)
    plain = jaxtl.multi_transform({"all": optax.sgd(1.0)}, lambda path, leaf: "all")
    moves = []
    for each in (optimizer, plain):
        state = jaxtl.TrainState.create(model, each)
        state, _ = jaxtl.make_train_step(model, each)(state, batch(8))
        moves.append({k: np.asarray(v) - flatten(model.params)[k] for k, v in flatten(state.all_params).items()})
    for path, move in moves[1].items():
        (factor,) = (f for block, f in factors.items() if path.startswith(f"{block}."))
        np.testing.assert_allclose(moves[0][path], factor * move, rtol=1e-3, atol=1e-6)


def test_binding_is_pure_and_leaves_bound_optimizers_alone() -> None:
    model = small_model()
    unbound = jaxtl.multi_transform(
        {"fast": optax.adam(1e-3), "slow": optax.adam(1e-4)}, jaxtl.labels.from_stage("layer3"), clip_norm=1.0
    )
    first, second = unbound.bind(model.graph), unbound.bind(model.graph)
    assert jax.tree.structure(first.init(model.params)) == jax.tree.structure(second.init(model.params))
    assert first.bind(model.graph) is first
    assert (first.clip_norm, set(first.transforms)) == (1.0, {"fast", "slow"})
    ordinary = jaxtl.multi_transform({"all": optax.sgd(1.0)}, training("fc"))
    assert ordinary.bind(model.graph) is ordinary


def test_an_unbound_optimizer_says_so() -> None:
    model = small_model()
    for optimizer in (
        jaxtl.multi_transform({"fast": optax.sgd(1.0)}, jaxtl.labels.head_only(), clip_norm=1.0),
        jaxtl.multi_transform(lambda scale: optax.sgd(scale), jaxtl.labels.layerwise()),
    ):
        bound = optimizer.bind(model.graph)
        for use in (
            lambda optimizer=optimizer: optimizer.init(model.params),
            lambda optimizer=optimizer, bound=bound: optimizer.update(
                model.params, bound.init(model.params), model.params
            ),
        ):
            with pytest.raises(InputError, match="does not know its network yet"):
                use()


def test_who_takes_a_model_binds() -> None:
    model = small_model(until="layer1")
    label = jaxtl.labels.from_stage("layer1")
    optimizer = jaxtl.multi_transform({"fast": optax.sgd(1e-1), "slow": optax.sgd(1e-2)}, label)
    rows = jaxtl.explain(model, optimizer).rows
    assert [(row.stage, row.group) for row in rows][-2:] == [("layer1", "slow"), ("fc", "fast")]
    assert groups_in(optimizer, model)["fc.bias"] == "fast"
    assert "layer1.0.bn1" in jaxtl.training_modes(model, label).adapt
    state = jaxtl.TrainState.create(model, optimizer)
    assert set(state.params) == {"fc", "layer1"}
    state, metrics = jaxtl.make_train_step(model, optimizer)(state, batch(8))
    assert np.isfinite(float(metrics["loss"]))


def test_misfits_show_when_it_is_bound() -> None:
    model = small_model()
    optimizer = jaxtl.multi_transform({"fats": optax.sgd(1.0)}, jaxtl.labels.head_only())
    with pytest.raises(InputError, match="no transform for the group 'fast'"):
        groups_in(optimizer, model)


@pytest.mark.parametrize(
    ("transforms", "label", "message"),
    [
        (lambda scale: optax.sgd(scale), jaxtl.labels.head_only(), "needs a label that has scales"),
        (lambda scale: optax.sgd(scale), training("fc"), "needs a label that has scales"),
        ([optax.sgd(1.0)], training("fc"), "transforms is a list"),
        ({"fast": optax.sgd(1.0)}, {"head": "fast"}, r"the label is a dict; .*jaxtl.labels.by_pattern"),
        ({"fast": optax.sgd(1.0)}, jaxtl.labels.head_only, r"call it, jaxtl.labels.head_only\(\)"),
        ({"fast": optax.sgd(1.0)}, jaxtl.labels.layerwise, r"call it, jaxtl.labels.layerwise\(decay"),
        ({"fast": optax.sgd(1.0)}, lambda path: "fast", r"called as label\(path, leaf\) .* this one takes \(path\)"),
    ],
)
def test_what_does_not_go_together(transforms, label, message: str) -> None:
    with pytest.raises(InputError, match=message):
        jaxtl.multi_transform(transforms, label)


def test_a_function_that_gives_no_transformation() -> None:
    optimizer = jaxtl.multi_transform(lambda scale: 1e-3 * scale, jaxtl.labels.layerwise())
    with pytest.raises(InputError, match="no optax transformation: 'depth0'"):
        optimizer.bind(small_model().graph)


@pytest.mark.parametrize("clip_norm", [None, 1e6])
def test_extra_arguments_reach_the_transforms_that_take_them(clip_norm: float | None) -> None:
    def by_rate(group: str) -> optax.GradientTransformationExtraArgs:
        def update(updates, state, params=None, *, rates, **others):
            return jax.tree.map(lambda leaf: -rates[group] * leaf, updates), state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    optimizer = jaxtl.multi_transform(
        {"fast": optax.chain(optax.identity(), by_rate("fast")), "slow": by_rate("slow"), "plain": optax.sgd(1.0)},
        lambda path, leaf: path.partition(".")[0],
        clip_norm=clip_norm,
    )
    params = {group: {"kernel": jnp.ones(2)} for group in ("fast", "slow", "plain", "frozen")}
    state = optimizer.init(params)
    step = jax.jit(lambda rates: optimizer.update(params, state, params, rates=rates)[0])
    for rates in ({"fast": 0.5, "slow": 0.25}, {"fast": 0.125, "slow": 0.0}):
        updates = step({group: jnp.float32(rate) for group, rate in rates.items()})
        expected = {group: -rate for group, rate in rates.items()} | {"plain": -1.0, "frozen": 0.0}
        assert {group: float(leaf["kernel"][0]) for group, leaf in updates.items()} == expected


def test_multi_steps_are_taken_as_they_are() -> None:
    model = small_model(until="stem")
    optimizer = jaxtl.multi_transform({"all": optax.MultiSteps(optax.sgd(0.1), 2)}, lambda path, leaf: "all")
    state, step = jaxtl.TrainState.create(model, optimizer), jaxtl.make_train_step(model, optimizer)
    moved = []
    for _ in range(2):
        before = bits(state.params)
        state, _ = step(state, batch())
        moved.append(bits(state.params) != before)
    assert moved == [False, True]


@pytest.mark.parametrize(
    "look",
    [
        lambda leaf: float(abs(leaf).mean()),
        lambda leaf: np.asarray(leaf).std(),
        lambda leaf: range(1000)[(999 * jnp.clip(jnp.std(leaf), 0, 1)).astype(int)],
        lambda leaf: leaf[leaf > 0.1].size / leaf.size,
    ],
    ids=["number", "array", "index", "choice"],
)
def test_a_label_may_go_by_the_values_of_the_parameters(look) -> None:
    model = small_model(until="stem")
    middle = np.median([look(leaf) for leaf in flatten(model.params).values()])
    large = {path for path, leaf in flatten(model.params).items() if look(leaf) > middle}
    assert 0 < len(large) < len(flatten(model.params))
    optimizer = jaxtl.multi_transform(
        {"large": optax.adam(0.1)}, lambda path, leaf: "large" if look(leaf) > middle else "frozen", clip_norm=1.0
    )
    state = jaxtl.TrainState.create(model, optimizer)
    step = jaxtl.make_train_step(model, optimizer)
    for _ in range(3):
        state, _ = step(state, batch())
    before, after = bits(model.params), bits(state.to_model(model).params)
    assert {path for path in before if before[path] != after[path]} == large == set(flatten(state.params))
    assert jaxtl.explain(model, optimizer).trained == sum(flatten(model.params)[path].size for path in large)
