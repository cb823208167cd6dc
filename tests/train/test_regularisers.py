"""Decay, clipping, L2-SP and averages over five steps with three groups are torch's; and what a step keeps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_reference
from families import rotating
from small_models import batch, bits, small_model, training

import jaxtl
from jaxtl.finetune.from_recipe import make_optimizer
from jaxtl.pretrained.names import state_dict
from jaxtl.recipe import Recipe

torch = pytest.importorskip("torch")

STEPS = 5
GROUPS = {"head": "fast", "layer2": "slow", "layer1": "still", "*": "deep"}
RATES = {"fast": 5e-2, "slow": 1e-2, "deep": 2e-3}
CLIP, EMA, PULL, DECAY = 0.5, 0.95, 0.05, 0.1


def _recipe(kind: str) -> Recipe:
    entries = {name: {"name": kind, "lr": rate, "weight_decay": DECAY} for name, rate in RATES.items()}
    entries["slow"] |= {"weight_decay": 0.0, "l2_sp": PULL}
    groups = {part: "frozen" if group == "still" else group for part, group in GROUPS.items()}
    return Recipe.from_keywords(
        groups=groups, optimizer=entries, schedule={"name": "constant"}, clip_norm=CLIP, ema=EMA, batch_norm="frozen"
    )


def _ours(kind: str, images, labels):
    with jax.enable_x64(True):
        model = _wide(small_model(until="layer2"))
        recipe = _recipe(kind)
        optimizer = make_optimizer(recipe, model, STEPS)
        state = jaxtl.TrainState.create(model, optimizer, ema=True)
        train_step = jaxtl.make_train_step(model, optimizer, batch_norm="frozen", ema=EMA)
        for x, y in zip(images, labels, strict=True):
            rates = {group: np.float64(rate) for group, rate in RATES.items()}
            state, _ = train_step(state, {"image": jnp.asarray(x, jnp.float64), "label": y}, rates)
        averaged = state.averaged
        return state_dict(state.all_params, {}), state_dict(averaged.all_params, {})


def _wide(model: jaxtl.Model) -> jaxtl.Model:
    params, stats = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (model.params, model.batch_stats))
    return model.replace(params=params, batch_stats=stats)


def _theirs(kind: str, images, labels):
    from torch_cifar_resnet import CifarResNet

    network = CifarResNet(3)
    network.layer3 = torch.nn.Identity()
    network.fc = torch.nn.Linear(32, 4)
    start = small_model(until="layer2")
    wanted = {k: torch.tensor(np.asarray(v)) for k, v in state_dict(start.params, start.batch_stats).items()}
    missing, unexpected = network.load_state_dict(wanted, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    network = network.double().eval()  # stored statistics, as with batch_norm="frozen"
    members: dict[str, list] = {"fast": [], "slow": [], "deep": []}
    pretrained = {}
    for name, parameter in network.named_parameters():
        group = {"fc": "fast", "layer2": "slow", "layer1": None}.get(name.split(".")[0], "deep")
        if group is None:
            parameter.requires_grad_(False)
            continue
        members[group].append(parameter)
        if group == "slow" and parameter.ndim > 1:
            pretrained[parameter] = parameter.detach().clone()
    groups = []
    for group, parameters in members.items():
        decay = 0.0 if group == "slow" else DECAY
        for some, its in (
            ([p for p in parameters if p.ndim > 1], decay),
            ([p for p in parameters if p.ndim <= 1], 0.0),
        ):
            groups.append({"params": some, "lr": RATES[group], "weight_decay": its})
    optimizer = {
        "adamw": lambda: torch.optim.AdamW(groups),
        "adam": lambda: torch.optim.Adam(groups),
        "sgd": lambda: torch.optim.SGD(groups, momentum=0.9),
    }[kind]()
    trained = [parameter for parameters in members.values() for parameter in parameters]
    average = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    norms = []
    for step, (x, y) in enumerate(zip(images, labels, strict=True)):
        loss = torch.nn.functional.cross_entropy(network(torch_reference.torch_images(x).double()), torch.tensor(y))
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, CLIP)))
        for parameter, first in pretrained.items():
            parameter.grad += PULL * (parameter.detach() - first)
        optimizer.step()
        decay = min(EMA, (1 + step) / (10 + step))
        for name, parameter in network.named_parameters():
            average[name].mul_(decay).add_(parameter.detach(), alpha=1 - decay)
    assert max(norms) > CLIP, "nothing would be clipped"
    return {name: p.detach().numpy() for name, p in network.named_parameters()}, average


@pytest.mark.parametrize("kind", rotating(["adamw", "adam", "sgd"], 1))
def test_decay_clipping_pull_and_average_follow_torch(kind: str) -> None:
    generator = np.random.default_rng(3)
    images = generator.standard_normal((STEPS, 4, 16, 16, 3))
    labels = generator.integers(0, 4, (STEPS, 4))
    ours, our_average = _ours(kind, images, labels)
    theirs, their_average = _theirs(kind, images, labels)
    start = state_dict(small_model(until="layer2").params, {})
    for name, expected in theirs.items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(our_average[name], their_average[name], rtol=1e-5, atol=1e-7, err_msg=name)
        moved = np.abs(start[name] - expected).max() > 1e-6
        assert moved != name.startswith("layer1"), name


def _step(**options):
    model = small_model(until="layer1")
    recipe = Recipe.from_keywords(
        schedule={"name": "constant"}, optimizer={g: {"name": "sgd", "lr": 0.1} for g in ("slow", "fast")}
    )
    optimizer = make_optimizer(recipe, model, STEPS)
    state = jaxtl.TrainState.create(model, optimizer, ema="ema" in options)
    return state, jaxtl.make_train_step(model, optimizer, **options)


def test_parts_of_a_batch_add_up_to_its_gradient() -> None:
    """With stored statistics a batch in four parts is the batch."""
    whole, one = _step(batch_norm="frozen")
    parts, four = _step(batch_norm="frozen", accumulate=4)
    images = batch(count=8)
    (whole, first), (parts, second) = one(whole, images), four(parts, images)
    assert float(second["loss"]) == pytest.approx(float(first["loss"]), rel=1e-5)
    assert float(second["accuracy"]) == pytest.approx(float(first["accuracy"]))
    for ours, theirs in zip(jax.tree.leaves(parts.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_parts_of_a_batch_take_less_memory_than_the_batch() -> None:
    images = batch(count=32)

    def compiled(**options):
        state, step = _step(batch_norm="frozen", **options)
        return step.lower(state, images).compile()

    whole, parts = compiled(), compiled(accumulate=4)
    assert parts.memory_analysis().temp_size_in_bytes < 0.7 * whole.memory_analysis().temp_size_in_bytes
    if jax.default_backend() == "cpu":
        assert " while(" not in parts.as_text()  # convolutions in it would take twenty times as long


def test_batch_norms_see_the_parts_one_after_the_other() -> None:
    state, step = _step(accumulate=2)
    before = bits(state.batch_stats)
    state, _ = step(state, batch(count=8))
    assert all(before[path] != now for path, now in bits(state.batch_stats).items())


def test_a_step_that_is_not_finite_changes_nothing_but_its_count() -> None:
    state, step = _step(ema=0.9)
    kept = [bits(tree) for tree in (state.params, state.batch_stats, state.average)]
    images = batch()
    images["image"][0, 0, 0, 0] = np.nan
    state, metrics = step(state, images)
    assert not metrics["finite"]
    assert int(state.step) == 1
    assert [bits(tree) for tree in (state.params, state.batch_stats, state.average)] == kept
    state, metrics = step(state, batch())
    assert metrics["finite"]
    assert bits(state.params) != kept[0]


@pytest.mark.parametrize("mixing", rotating([{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}], 1))
def test_mixing_is_a_function_of_seed_and_step(mixing: dict) -> None:
    losses = []
    for seed in (0, 0, 1):
        state, step = _step(**mixing)
        state = state.replace(rng=jax.random.key(seed))
        losses.append([float((found := step(state, batch()))[1]["loss"])])
        losses[-1].append(float(step(found[0], batch())[1]["loss"]))
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert np.isfinite(losses).all()


def test_states_and_steps_agree_about_averages() -> None:
    model = small_model(until="layer1")
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    state = jaxtl.TrainState.create(model, optimizer, ema=True)
    with pytest.raises(jaxtl.InputError, match="give both or neither"):
        jaxtl.make_train_step(model, optimizer)(state, batch())
    without = jaxtl.TrainState.create(model, optimizer)
    with pytest.raises(jaxtl.InputError, match=r"keeps no moving averages; make it with .*ema=True.*both or neither"):
        jaxtl.make_train_step(model, optimizer, ema=0.9)(without, batch())


def test_averages_of_statistics_that_stay_keep_their_bits() -> None:
    model = small_model()
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("layer3", "fc"))
    state = jaxtl.TrainState.create(model, optimizer, ema=True)
    before = bits(state.average["batch_stats"])
    step = jaxtl.make_train_step(model, optimizer, ema=0.9)
    for number in range(20):
        state, _ = step(state, batch(seed=number))
    changed = {path for path, now in bits(state.average["batch_stats"]).items() if now != before[path]}
    assert changed == {path for path in before if path.startswith("layer3")}


def test_statistics_that_stop_to_adapt_go_on_as_their_averages() -> None:
    """As the parameters beside them: what is frozen is the network that is validated and returned."""
    model = small_model()
    everything = jaxtl.multi_transform({"all": optax.sgd(0.1)}, lambda path, leaf: "all")
    head = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    state, _ = jaxtl.make_train_step(model, everything, ema=0.9)(
        jaxtl.TrainState.create(model, everything, ema=True), batch()
    )
    averages, raw = bits(state.average["batch_stats"]), bits(state.batch_stats)
    assert averages != raw
    assert bits(state.advance(model, everything).batch_stats) == raw
    assert bits(state.advance(model, head, {"bn1": "adapt"}).batch_stats) == {
        **averages,
        **{path: raw[path] for path in raw if path.startswith("bn1.")},
    }
    state = state.advance(model, head)
    assert bits(state.batch_stats) == bits(state.averaged.batch_stats) == averages
    state, _ = jaxtl.make_train_step(model, head, ema=0.9)(state, batch())
    assert bits(state.batch_stats) == bits(state.averaged.batch_stats) == averages
