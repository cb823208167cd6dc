from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtl.errors import InputError
from jaxtl.finetune.optimizer import multi_transform
from jaxtl.finetune.transforms import make_transform
from jaxtl.recipe import LAMB, LARS, SGD, Adafactor, Adam, AdamW, Lion, Muon
from jaxtl.trees import flatten, map_with_path

STEPS = 5
RATES = (0.02, 0.05, 0.03, 0.0, 0.01)
SHAPES = {
    "conv1": {"kernel": (3, 3, 2, 4)},
    "bn1": {"scale": (4,), "bias": (4,)},
    "fc": {"kernel": (4, 3), "bias": (3,)},
}
KERNELS = {"conv1.kernel", "fc.kernel"}
ENTRIES = [AdamW, Adam, SGD, LAMB, LARS, Lion, Adafactor, Muon]


def _tree(seed: int, dtype=np.float32):
    generator = np.random.default_rng(seed)
    return map_with_path(lambda path, shape: np.asarray(generator.standard_normal(shape), dtype), SHAPES)


def _constant(rate: float = 0.1) -> optax.Schedule:
    return optax.constant_schedule(rate)


def _update(transform, kind: type):
    """Op by op, because most compiled ops serve many tests; Muon's many ops are faster compiled as one."""
    return jax.jit(transform.update) if kind is Muon else transform.update


def _run(transform, rates, dtype=np.float32, kind: type = AdamW) -> dict[str, np.ndarray]:
    """Parameters after a step for each rate; None: the transform's own."""
    params = jax.tree.map(jnp.asarray, _tree(100, dtype))
    state = transform.init(params)
    update = _update(transform, kind)
    for step, rate in enumerate(rates):
        extra = {} if rate is None else {"rates": {"all": rate}}
        updates, state = update(_tree(step, dtype), state, params, **extra)
        params = optax.apply_updates(params, updates)
    return flatten(params)


def _run_torch(make, rates, *, l2_sp: float = 0.0, everywhere: bool = False) -> dict[str, np.ndarray]:
    """The same in torch, float64, with two parameter groups: ``make(params, weight_decay_groups)``."""
    torch = pytest.importorskip("torch")
    params = {p: torch.nn.Parameter(torch.tensor(a)) for p, a in flatten(_tree(100, np.float64)).items()}
    start = {path: parameter.detach().clone() for path, parameter in params.items()}
    decayed = [p for path, p in params.items() if everywhere or path in KERNELS]
    others = [p for path, p in params.items() if not everywhere and path not in KERNELS]
    optimizer = make(torch, [{"params": decayed}, *([{"params": others, "weight_decay": 0.0}] if others else [])])
    for step, rate in enumerate(rates):
        gradients = flatten(_tree(step, np.float64))
        for path, parameter in params.items():
            parameter.grad = torch.tensor(gradients[path])
            if everywhere or path in KERNELS:
                parameter.grad += l2_sp * (parameter.detach() - start[path])
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return {path: parameter.detach().numpy() for path, parameter in params.items()}


TORCH = {
    "adamw": (AdamW(lr=1, weight_decay=0.3), lambda torch, groups: torch.optim.AdamW(groups, weight_decay=0.3)),
    "adam": (
        Adam(lr=1, weight_decay=0.3, b1=0.8, b2=0.95, eps=1e-6),
        lambda torch, groups: torch.optim.Adam(groups, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3),
    ),
    "sgd": (SGD(lr=1, weight_decay=0.3), lambda torch, groups: torch.optim.SGD(groups, momentum=0.9, weight_decay=0.3)),
    "plain sgd": (
        SGD(lr=1, weight_decay=0.3, momentum=0.0),
        lambda torch, groups: torch.optim.SGD(groups, lr=1.0, weight_decay=0.3),
    ),
    "nesterov": (
        SGD(lr=1, weight_decay=0.3, nesterov=True, momentum=0.8),
        lambda torch, groups: torch.optim.SGD(groups, momentum=0.8, nesterov=True, weight_decay=0.3),
    ),
}


@pytest.mark.parametrize(("everywhere", "l2_sp"), [(False, 0.7), (True, 0.0)])
@pytest.mark.parametrize("kind", TORCH)
def test_five_steps_are_torchs(kind: str, everywhere: bool, l2_sp: float) -> None:
    entry, make = TORCH[kind]
    expected = _run_torch(make, RATES, l2_sp=l2_sp, everywhere=everywhere)
    with jax.enable_x64(True):
        entry = entry.model_copy(update={"decay_norm_and_bias": everywhere, "l2_sp": l2_sp})
        ours = _run(make_transform(entry, "all", _constant()), RATES, np.float64)
    for path, value in expected.items():
        np.testing.assert_allclose(ours[path], value, rtol=1e-10, atol=1e-12, err_msg=path)


def _plain_muon(mask) -> optax.GradientTransformation:
    """Muon by hand on matrices: optax's own for 2-D arrays, on kernels reshaped to (everything else, last axis)."""
    muon = optax.contrib.muon(0.1, beta=0.95, weight_decay=0.3)
    adamw = optax.adamw(0.1, weight_decay=0.0)

    def flat(tree):
        return {path: leaf.reshape(-1, leaf.shape[-1]) for path, leaf in flatten(tree).items() if path in KERNELS}

    def rest(tree):
        return {path: leaf for path, leaf in flatten(tree).items() if path not in KERNELS}

    def update(gradients, state, params):
        first, one = muon.update(flat(gradients), state[0], flat(params))
        second, two = adamw.update(rest(gradients), state[1], rest(params))
        updates = first | second
        return map_with_path(lambda path, leaf: updates[path].reshape(leaf.shape), params), (one, two)

    return optax.GradientTransformation(lambda params: (muon.init(flat(params)), adamw.init(rest(params))), update)


PLAIN = {
    LAMB: lambda mask: optax.lamb(0.1, weight_decay=0.3, mask=mask),
    LARS: lambda mask: optax.lars(0.1, weight_decay=0.3, weight_decay_mask=mask),
    Lion: lambda mask: optax.lion(0.1, weight_decay=0.3, mask=mask),
    Adafactor: lambda mask: optax.adafactor(0.1, weight_decay_rate=0.1 * 0.3, weight_decay_mask=mask),
    Muon: _plain_muon,
}


@pytest.mark.parametrize("kind", PLAIN)
def test_at_a_constant_rate_it_is_plain_optax(kind: type) -> None:
    def mask(params):
        return map_with_path(lambda path, _: path in KERNELS, params)

    entry = kind(lr=0.1, weight_decay=0.3)
    ours = _run(make_transform(entry, "all", _constant()), [None] * STEPS, kind=kind)
    for path, value in _run(PLAIN[kind](mask), [None] * STEPS, kind=kind).items():
        np.testing.assert_allclose(ours[path], value, rtol=2e-5, atol=1e-6, err_msg=path)


def test_adafactor_with_momentum_is_plain_optax() -> None:
    ours = _run(make_transform(Adafactor(lr=0.1, momentum=0.9), "all", _constant()), [None] * STEPS)
    for path, value in _run(optax.adafactor(0.1, momentum=0.9), [None] * STEPS).items():
        np.testing.assert_allclose(ours[path], value, rtol=2e-5, atol=1e-6, err_msg=path)


def test_muon_orthogonalises_a_convolution_as_a_matrix() -> None:
    transform = make_transform(Muon(lr=1.0, weight_decay=0.0), "all", _constant(1.0))
    params = _tree(100)
    updates, _ = jax.jit(transform.update)(_tree(0), transform.init(params), params)
    values = np.linalg.svd(np.asarray(updates["conv1"]["kernel"]).reshape(18, 4), compute_uv=False)
    assert values.min() > 0.6
    assert values.max() < 1.3
    gradient = np.linalg.svd(np.asarray(_tree(0)["conv1"]["kernel"]).reshape(18, 4), compute_uv=False)
    assert gradient.max() / gradient.min() > values.max() / values.min()


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("everywhere", [False, True])
def test_weight_decay_acts_on_kernels_and_only_if_asked_on_norms_and_biases(kind: type, everywhere: bool) -> None:
    params, no_gradient = _tree(100), jax.tree.map(jnp.zeros_like, _tree(100))
    entry = kind(lr=0.1, weight_decay=0.5, decay_norm_and_bias=everywhere)
    transform = make_transform(entry, "all", _constant())
    updates, _ = _update(transform, kind)(no_gradient, transform.init(params), params)
    moved = {path for path, update in flatten(updates).items() if np.asarray(update).any()}
    assert moved == (set(flatten(params)) if everywhere else KERNELS)
    for path in moved:
        assert (np.sign(flatten(updates)[path]) == -np.sign(flatten(params)[path])).all(), path
    if kind in (AdamW, SGD, Lion, Adafactor, Muon):
        np.testing.assert_allclose(updates["fc"]["kernel"], -0.05 * params["fc"]["kernel"], rtol=1e-5)


@pytest.mark.parametrize("kind", [AdamW, SGD, LARS])
def test_given_rates_take_the_schedules_place(kind: type) -> None:
    entry = kind(lr=0.1, weight_decay=0.1, l2_sp=0.1)
    transform = make_transform(entry, "all", lambda step: 0.1 / (1 + step))
    own = _run(transform, [None] * STEPS)
    given = _run(transform, [0.1 / (1 + step) for step in range(STEPS)])
    for path in own:
        np.testing.assert_allclose(own[path], given[path], rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("kind", ENTRIES)
def test_no_rate_costs_a_compilation_and_a_rate_of_0_moves_nothing(kind: type) -> None:
    transform = make_transform(kind(lr=0.1, weight_decay=0.1, l2_sp=0.1), "all", _constant())
    traces = 0

    @jax.jit
    def update(gradients, state, params, rates):
        nonlocal traces
        traces += 1
        return transform.update(gradients, state, params, rates=rates)

    params = _tree(100)
    state = transform.init(params)
    for step, rate in enumerate((0.3, 0.02, 0.0)):
        updates, state = update(_tree(step), state, params, {"all": rate, "another": 9.0})
        size = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(updates))
        assert (size == 0) == (rate == 0)
    assert traces == 1
    assert int(state.step) == 3
    assert state.step.dtype == jnp.int32


@pytest.mark.parametrize(("kind", "labels"), [*((kind, "all trained") for kind in ENTRIES), (Muon, "norms alone")])
def test_it_works_as_one_of_several_groups_with_clipping(kind: type, labels: str) -> None:
    def label(path: str, leaf) -> str:
        return "fast" if path.startswith("fc") else "slow" if labels == "all trained" or "bn" in path else "frozen"

    entries = {"slow": kind(lr=0.1, l2_sp=0.1), "fast": AdamW(lr=0.1)}
    transforms = {group: make_transform(entry, group, _constant()) for group, entry in entries.items()}
    optimizer = multi_transform(transforms, label, clip_norm=1.0)
    params = _tree(100)
    state = jax.jit(optimizer.init)(params)
    update = jax.jit(optimizer.update)
    updates, state = update(_tree(0), state, params, rates={"slow": 0.0, "fast": 0.5})
    moved = {path for path, leaf in flatten(updates).items() if np.asarray(leaf).any()}
    assert moved == {"fc.kernel", "fc.bias"}
    updates, state = update(_tree(0), state, params, rates={"slow": 0.1, "fast": 0.0})
    moved = {path for path, leaf in flatten(updates).items() if np.asarray(leaf).any()}
    trained = {"bn1.scale", "bn1.bias"} | ({"conv1.kernel"} if labels == "all trained" else set())
    assert moved == trained


@pytest.mark.parametrize("kind", ENTRIES)
def test_every_array_of_the_state_lies_under_its_parameters_path(kind: type) -> None:
    params = _tree(100)
    paths = flatten(params)
    state = make_transform(kind(lr=0.1, l2_sp=0.1), "all", _constant()).init(params)
    arrays = 0
    for keys, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        names = [str(key.key) for key in keys if isinstance(key, jax.tree_util.DictKey)]
        found = [".".join(names[i:]) for i in range(len(names)) if ".".join(names[i:]) in paths]
        assert found or leaf.size <= 3, jax.tree_util.keystr(keys)
        arrays += bool(found)
    assert arrays >= len(KERNELS)


def test_the_start_is_held_only_for_l2_sp_only_where_it_pulls_and_as_a_copy() -> None:
    params = _tree(100)

    def starts(**fields) -> list[np.ndarray]:
        state = make_transform(SGD(lr=0.1, momentum=0.0, **fields), "all", _constant()).init(params)
        return [leaf for leaf in jax.tree.leaves(state.inner) if leaf.size > 1]

    assert starts() == []
    assert sorted(leaf.shape for leaf in starts(l2_sp=0.1)) == [(3, 3, 2, 4), (4, 3)]
    assert len(starts(l2_sp=0.1, decay_norm_and_bias=True)) == 5
    params = jax.tree.map(jnp.asarray, params)
    own = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)}
    assert not own & {leaf.unsafe_buffer_pointer() for leaf in starts(l2_sp=0.1)}


def test_missing_rates_and_parameters_are_named() -> None:
    params = _tree(100)
    transform = make_transform(AdamW(lr=0.1), "slow", _constant())
    with pytest.raises(InputError, match="group 'slow', only for 'slwo'; did you mean 'slwo'"):
        transform.update(params, transform.init(params), params, rates={"slwo": 0.1})
    with pytest.raises(InputError, match="'slow' needs the parameters"):
        transform.update(params, transform.init(params))
