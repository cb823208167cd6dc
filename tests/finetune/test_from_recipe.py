from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_models import small_model

from jaxtl.errors import InputError
from jaxtl.finetune.from_recipe import make_optimizer
from jaxtl.pretrained.names import state_dict, torch_name
from jaxtl.recipe import SGD, AdamW, Recipe
from jaxtl.trees import flatten, map_with_path

STEPS = 5


def _recipe(optimizer: dict, **fields) -> Recipe:
    groups = {"head": "fast", "layer1": "slow", "*": "frozen"}
    return Recipe.from_keywords(groups=groups, optimizer=optimizer, schedule={"name": "one_cycle"}, epochs=1, **fields)


def _gradients(params, step: int):
    generator = np.random.default_rng(step)
    return map_with_path(lambda path, leaf: jnp.asarray(generator.standard_normal(leaf.shape, np.float32)), params)


def _run(recipe: Recipe, model) -> dict[str, np.ndarray]:
    optimizer = make_optimizer(recipe, model, steps_per_epoch=STEPS)
    params, opt_state = model.params, jax.jit(optimizer.init)(model.params)
    update = jax.jit(optimizer.update)
    for step in range(STEPS):
        updates, opt_state = update(_gradients(params, step), opt_state, params)
        params = optax.apply_updates(params, updates)
    return state_dict(params, {})


@pytest.mark.parametrize("kind", ["adamw", "sgd", "nesterov"])
@pytest.mark.parametrize("decay_norm_and_bias", [False, True])
def test_two_groups_are_torchs_two_parameter_groups(kind: str, decay_norm_and_bias: bool) -> None:
    torch = pytest.importorskip("torch")
    model = small_model(until="layer1")
    both = {"weight_decay": 0.1, "decay_norm_and_bias": decay_norm_and_bias}
    if kind == "adamw":
        entries = {"slow": AdamW(lr=1e-2, **both), "fast": AdamW(lr=5e-2, **both)}
    else:
        entries = {name: SGD(lr=lr, nesterov=kind != "sgd", **both) for name, lr in (("slow", 1e-2), ("fast", 5e-2))}
    ours = _run(_recipe(entries), model)

    theirs = {name: torch.nn.Parameter(torch.tensor(a)) for name, a in state_dict(model.params, {}).items()}
    groups = []
    for prefix, lr in (("layer1", 1e-2), ("fc", 5e-2)):
        members = [parameter for name, parameter in theirs.items() if name.startswith(prefix)]
        kernels = [p for p in members if p.ndim > 1]
        rest = [p for p in members if p.ndim <= 1]
        groups += [
            {"params": kernels, "lr": lr, "weight_decay": 0.1},
            {"params": rest, "lr": lr, "weight_decay": 0.1 if decay_norm_and_bias else 0.0},
        ]
    if kind == "adamw":
        optimizer = torch.optim.AdamW(groups)
    else:
        optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=kind != "sgd")
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in groups], total_steps=STEPS, cycle_momentum=False
    )
    for step in range(STEPS):
        gradients = state_dict(_gradients(model.params, step), {})
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(gradients[name])
        optimizer.step()
        if step < STEPS - 1:
            schedule.step()

    for name, parameter in theirs.items():
        np.testing.assert_allclose(ours[name], parameter.detach().numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
    assert not np.allclose(ours["fc.weight"], state_dict(model.params, {})["fc.weight"], atol=1e-3)


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_weight_decay_leaves_norms_and_biases_alone(kind: type) -> None:
    model = small_model(until="layer1")
    recipe = _recipe({"slow": kind(lr=0.1, weight_decay=0.5), "fast": kind(lr=0.1, weight_decay=0.5)})
    optimizer = make_optimizer(recipe, model, steps_per_epoch=STEPS)
    zeros = jax.tree.map(jnp.zeros_like, model.params)
    updates, _ = optimizer.update(zeros, optimizer.init(model.params), model.params)
    moved = {path for path, update in flatten(updates).items() if np.asarray(update).any()}
    assert moved == {path for path in flatten(model.params) if path.startswith(("layer1", "fc")) and "kernel" in path}
    assert torch_name("fc.kernel") == "fc.weight"


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"from layer2": "slow", "head": "fast", "*": "frozen"},
            r"groups: nothing is left for 'fast', because all of 'head' goes to 'from layer2' in front of it; put "
            r"'head' first, or leave it out$",
        ),
        (
            {"head": "slow", "layer1": "slow", "layer2": "slow", "from layer1": "fast", "*": "frozen"},
            r"'fast', because all of 'from layer1' goes to 'head', 'layer1', 'layer2' in front of it; put ",
        ),
        (
            {"conv1.*": "rest", "*.*": "frozen", "layer1": "fast", "head": "fast", "biases": "slow", "*": "frozen"},
            r"'fast', because all of 'layer1', 'head' goes to '\*\.\*' .*; nothing is left for 'slow', because all ",
        ),
    ],
    ids=["one", "several", "two groups"],
)
def test_a_group_for_which_others_leave_nothing_is_refused(groups: dict[str, str], message: str) -> None:
    """Its optimizer would be dropped, and the parameters train at the rate of the group before it."""
    used = [group for group in dict.fromkeys(groups.values()) if group != "frozen"]
    recipe = Recipe.from_keywords(groups=groups, optimizer={group: AdamW(lr=0.1) for group in used})
    with pytest.raises(InputError, match=message):
        make_optimizer(recipe, small_model(until="layer2"), steps_per_epoch=STEPS)


def test_parts_may_be_taken_where_their_group_has_others() -> None:
    groups = {"head": "fast", "norms": "slow", "biases": "slow", "from layer1": "frozen", "*": "frozen"}
    optimizer = make_optimizer(Recipe.from_keywords(groups=groups), small_model(until="layer2"), steps_per_epoch=STEPS)
    assert set(optimizer.transforms) == {"fast", "slow"}


def test_clip_norm_of_a_recipe_clips() -> None:
    model = small_model(until="layer1")
    entries = {"slow": SGD(lr=1.0, momentum=0.0), "fast": SGD(lr=1.0, momentum=0.0)}
    optimizer = make_optimizer(_recipe(entries, clip_norm=0.25), model, steps_per_epoch=STEPS)
    updates, _ = optimizer.update(_gradients(model.params, 0), optimizer.init(model.params), model.params)
    norm = float(optax.tree.norm(updates))
    assert norm == pytest.approx(0.25 * float(optimizer.rates["fast"](0)), rel=1e-5)
