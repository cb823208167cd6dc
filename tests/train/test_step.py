"""What is frozen is neither moved, nor paid for, nor remembered."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compilations
from flax import nnx
from small_models import batch, bits, leaf_bits, small_model, training

import jaxtl
from jaxtl.models import convolution
from jaxtl.recipe import Softmax
from jaxtl.train.checkpoint import Checkpoints
from jaxtl.train.losses import make_task, softmax_cross_entropy
from jaxtl.train.step import train_step_function
from jaxtl.trees import flatten


def _trained(model: jaxtl.Model, optimizer, steps: int = 3, seed: int = 0, train_step=None):
    state = jaxtl.TrainState.create(model, optimizer, seed=seed)
    train_step = train_step or jaxtl.make_train_step(model, optimizer)
    losses = []
    for step in range(steps):
        state, metrics = train_step(state, batch(seed=step))
        losses.append(float(metrics["loss"]))
    return state, train_step, losses


@pytest.fixture(scope="module")
def half_frozen():
    """A network of which stem to layer2 are frozen, its optimizer, its bits before, and the state after three steps."""
    model = small_model()
    before = bits(model.params), bits(model.batch_stats)
    optimizer = jaxtl.multi_transform({"all": optax.adamw(1e-2, weight_decay=0.1)}, training("layer3", "fc"))
    state, train_step, _ = _trained(model, optimizer)
    return model, optimizer, before, state, train_step


def test_frozen_parameters_and_statistics_keep_their_bits_and_the_others_move(half_frozen) -> None:
    _, _, (params, stats), state, _ = half_frozen
    for before, after in ((params, bits(state.all_params)), (stats, bits(state.batch_stats))):
        assert before.keys() == after.keys()
        moved = {path for path in before if before[path] != after[path]}
        assert moved == {path for path in before if path.startswith(("layer3", "fc"))}


def test_a_train_step_keeps_even_the_numbers_that_additions_lose() -> None:
    model = small_model(until="layer1")
    special = jnp.resize(jnp.asarray([-0.0, 1e-45, jnp.finfo(jnp.float32).tiny, 1.0]), (16,))
    model = model.replace(params={**model.params, "bn1": {**model.params["bn1"], "scale": special}})
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    state, _, _ = _trained(model, optimizer)
    assert np.asarray(state.frozen["bn1"]["scale"]).tobytes() == np.asarray(special).tobytes()
    assert np.asarray(special).view(np.uint32)[1] == 1


def test_the_model_is_unchanged_and_usable_after_donated_steps(half_frozen) -> None:
    model, _, before, state, _ = half_frozen
    assert (bits(model.params), bits(model.batch_stats)) == before
    images = batch()["image"]
    tuned = state.to_model(model)
    assert not np.allclose(model(images), tuned(images), atol=1e-3)
    expected, _ = model.graph.apply(state.all_params, state.batch_stats, jnp.asarray(images))
    np.testing.assert_allclose(tuned(images), expected, rtol=1e-4, atol=1e-5)


def test_a_state_is_made_by_one_program() -> None:
    """Not by one for each shape, which would stay in memory: of an optimizer whose state holds the parameters too."""
    model = small_model(until="layer2")
    start = {"start": lambda params: params, "zeros": lambda params: jax.tree.map(jnp.zeros_like, params)}
    keeps = optax.GradientTransformation(
        lambda p: {name: of(p) for name, of in start.items()}, lambda u, s, _=None: (u, s)
    )
    optimizer = jaxtl.multi_transform({"all": optax.chain(keeps, optax.adamw(0.1))}, training("layer2", "fc"))
    with compilations("init") as init, compilations("copy") as copy, compilations("broadcast_in_dim") as zeros:
        state = jaxtl.TrainState.create(model, optimizer)
    assert (len(init), copy, zeros) == (1, [], [])
    arrays = [leaf for leaf in jax.tree.leaves((state, model.params, model.batch_stats)) if leaf is not state.rng]
    assert len({leaf.unsafe_buffer_pointer() for leaf in arrays}) == len(arrays)


def test_a_tuned_model_survives_further_steps(half_frozen) -> None:
    model, optimizer, _, _, train_step = half_frozen
    state, _, _ = _trained(model, optimizer, steps=1, train_step=train_step)
    tuned = state.to_model(model)
    before = bits(tuned.params)
    train_step(state, batch())
    assert bits(tuned.params) == before


def test_the_optimizer_remembers_nothing_of_what_is_frozen(half_frozen) -> None:
    model, _, _, state, _ = half_frozen
    frozen, trained = flatten(state.frozen), flatten(state.params)
    assert frozen.keys().isdisjoint(trained)
    assert frozen.keys() | trained.keys() == flatten(model.params).keys()
    keyed = jax.tree_util.tree_flatten_with_path(state.opt_state)[0]
    names = {".".join(str(key.key) for key in keys if isinstance(key, jax.tree_util.DictKey)) for keys, _ in keyed}
    assert {name.removeprefix("all.") for name in names} == {*trained, "all"}
    held = sum(leaf.size for _, leaf in keyed if leaf.ndim)
    assert held == 2 * sum(leaf.size for leaf in trained.values())


def test_one_compilation_serves_all_steps_also_after_a_restore(half_frozen, tmp_path) -> None:
    model, optimizer, _, _, _ = half_frozen
    with compilations("train_step") as compiled:
        state, train_step, _ = _trained(model, optimizer, steps=2)
        with Checkpoints(tmp_path / "checkpoints", {}) as checkpoints:
            checkpoints.save(1, state, [{"val_accuracy": 0.5}])
            restored, history = checkpoints.restore(1, jaxtl.TrainState.create(model, optimizer))
        assert history == [{"val_accuracy": 0.5}]
        assert leaf_bits(restored) == leaf_bits(state)
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(restored.replace(rng=())))
        once, first = train_step(state, batch(seed=9))
        twice, second = train_step(restored, batch(seed=9))
    assert leaf_bits(once) == leaf_bits(twice)
    assert leaf_bits(first) == leaf_bits(second)
    assert len(compiled) == 1


def _flops(function, *arguments) -> float:
    """As XLA counts them; a loop's body counts once, so convolutions must have no loops."""
    return function.lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("wrapped", ["plain", "clip_norm", "apply_if_finite"])
def test_a_step_of_the_head_costs_a_forward_pass(wrapped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "on_cpu", lambda: False)
    model = small_model()
    transform = optax.adamw(1e-3)
    if wrapped == "apply_if_finite":
        transform = optax.apply_if_finite(transform, 3)
    clip_norm = 1.0 if wrapped == "clip_norm" else None
    optimizer = jaxtl.multi_transform({"all": transform}, training("fc"), clip_norm=clip_norm)
    state = jaxtl.TrainState.create(model, optimizer)
    example = batch(size=32)
    forward = _flops(jax.jit(lambda m, images: m.graph.apply(m.params, m.batch_stats, images)), model, example["image"])
    step = _flops(jaxtl.make_train_step(model, optimizer), state, example)
    assert forward > 1e6
    assert step <= 1.05 * forward


def test_training_everything_costs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the comparison with the forward pass would prove nothing."""
    monkeypatch.setattr(convolution, "on_cpu", lambda: False)
    model = small_model(until="layer1")

    def cost(*stages: str) -> float:
        optimizer = jaxtl.multi_transform({"all": optax.sgd(1e-3)}, training(*stages))
        state = jaxtl.TrainState.create(model, optimizer)
        return _flops(jaxtl.make_train_step(model, optimizer), state, batch())

    assert cost("fc") < 0.4 * cost("conv1", "bn1", "layer1", "fc")


def test_clipping_ignores_the_gradients_of_what_is_frozen() -> None:
    """With the head alone in training, a clipped step is a step along the head's own gradient, of length clip_norm."""
    model = small_model()
    clipped = jaxtl.multi_transform({"all": optax.sgd(1.0)}, training("fc"), clip_norm=0.01)
    free = jaxtl.multi_transform({"all": optax.sgd(1.0)}, training("fc"))

    def moved(optimizer) -> np.ndarray:
        state, _, _ = _trained(model, optimizer, steps=1)
        return np.ravel(np.asarray(state.params["fc"]["kernel"]) - np.asarray(model.params["fc"]["kernel"]))

    ours, whole = moved(clipped), moved(free)
    assert np.linalg.norm(ours) == pytest.approx(0.01, rel=0.05)  # the bias takes its part
    assert ours @ whole == pytest.approx(np.linalg.norm(ours) * np.linalg.norm(whole), rel=1e-3)


@pytest.fixture(scope="module")
def random_part():
    model = small_model(until="layer1", drop_rate=0.5, drop_path_rate=0.5)
    optimizer = jaxtl.multi_transform({"all": optax.sgd(1e-3)}, training("layer1", "fc"))
    return model, optimizer, jaxtl.make_train_step(model, optimizer)


def test_dropout_is_a_function_of_seed_and_step(random_part) -> None:
    model, optimizer, train_step = random_part

    def loss(seed: int, step: int) -> float:
        state = jaxtl.TrainState.create(model, optimizer, seed=seed).replace(step=jnp.asarray(step, jnp.int32))
        return float(train_step(state, batch())[1]["loss"])

    assert loss(0, 0) == loss(0, 0)
    assert len({loss(0, 0), loss(1, 0), loss(0, 1), loss(0, 2)}) == 4
    first, second = (_trained(model, optimizer, seed=7, train_step=train_step) for _ in range(2))
    assert first[2] == second[2]
    assert leaf_bits(first[0]) == leaf_bits(second[0])


def test_what_is_frozen_draws_nothing() -> None:
    model = small_model(until="layer1", drop_path_rate=0.9)
    optimizer = jaxtl.multi_transform({"all": optax.sgd(1e-3)}, training("fc"))
    losses = [_trained(model, optimizer, steps=1, seed=seed)[2][0] for seed in (0, 1)]
    evaluated = float(jaxtl.make_eval_step(model)(model, batch())["loss"])
    assert losses[0] == losses[1] == pytest.approx(evaluated, rel=1e-5)


def test_label_smoothing_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    logits, labels = generator.standard_normal((6, 5), np.float32), generator.integers(0, 5, 6)
    for smoothing in (0.0, 0.1, 0.5):
        expected = torch.nn.functional.cross_entropy(
            torch.tensor(logits), torch.tensor(labels), label_smoothing=smoothing, reduction="none"
        )
        ours = softmax_cross_entropy(smoothing)(jnp.asarray(logits), jnp.asarray(labels))
        np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-5)


def test_uint8_images_are_normalised_on_the_device_and_floats_are_taken_as_they_are() -> None:
    model = small_model(until="layer1")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    labels = np.array([0, 1, 2])
    eval_step = jaxtl.make_eval_step(model)
    raw = eval_step(model, {"image": pixels, "label": labels})
    normal = jaxtl.normalise(pixels, model.preprocess.mean, model.preprocess.std)
    ready = eval_step(model, {"image": normal, "label": labels})
    assert float(raw["loss"]) == pytest.approx(float(ready["loss"]), rel=1e-5)
    masked = eval_step(model, {"image": pixels, "label": labels, "mask": np.array([True, False, True])})
    alone = eval_step(model, {"image": pixels[[0, 2]], "label": labels[[0, 2]]})
    assert int(masked["count"]) == 2
    assert float(masked["loss"]) == pytest.approx(float(alone["loss"]), rel=1e-5)
    assert int(masked["correct"]) == int(alone["correct"])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.bool_])
def test_images_of_other_types_are_refused(dtype) -> None:
    """Nothing would normalise them, and layers would take the weights to their type."""
    model = small_model(until="layer1")
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    images = {"image": np.ones((3, 16, 16, 3), dtype), "label": np.array([0, 1, 2])}
    message = r"the batch's images are (int32|bool); give pixels from 0 to 255 as uint8"
    with pytest.raises(jaxtl.InputError, match=message):
        jaxtl.make_train_step(model, optimizer)(jaxtl.TrainState.create(model, optimizer), images)
    with pytest.raises(jaxtl.InputError, match=message):
        jaxtl.make_eval_step(model)(model, images)


@pytest.mark.parametrize("stranger", [4, -1])
def test_a_label_that_is_no_class_moves_nothing(half_frozen, stranger: int) -> None:
    model, optimizer, _, _, train_step = half_frozen
    images = batch()
    images["label"][1] = stranger
    state = jaxtl.TrainState.create(model, optimizer)
    kept = bits(state.params), bits(state.batch_stats)
    state, metrics = train_step(state, images)
    assert not metrics["finite"]
    assert (bits(state.params), bits(state.batch_stats)) == kept


def _squared(logits, labels):
    return (logits[:, 0] - labels) ** 2


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_of_ones_own_may_take_labels_that_have_no_accuracy(accumulate: int) -> None:
    model = small_model(until="layer1")
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    numbers = batch() | {"label": np.array([0.5, -1.0, 2.0, 0.0], np.float32)}
    step = jaxtl.make_train_step(model, optimizer, loss=_squared, accumulate=accumulate)
    _, metrics = step(jaxtl.TrainState.create(model, optimizer), numbers)
    found = jaxtl.make_eval_step(model, loss=_squared)(model, numbers)
    logits = model(numbers["image"])
    assert sorted(metrics) == ["finite", "loss"]
    assert sorted(found) == ["answers", "count", "loss"]
    expected = float(_squared(logits, numbers["label"]).mean())
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-4)
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(found["answers"], logits, rtol=1e-4, atol=1e-5)


def test_a_loss_of_ones_own_for_classes_has_an_accuracy() -> None:
    model, images = small_model(until="layer1"), batch()
    own = jaxtl.make_eval_step(model, loss=lambda x, y: softmax_cross_entropy()(x, y))(model, images)
    expected = jaxtl.make_eval_step(model)(model, images)
    assert leaf_bits(own) == leaf_bits(expected)


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda logits, labels: (logits - jax.nn.one_hot(labels, 4)) ** 2, r"\(4, 4\)"),
        (lambda logits, labels: softmax_cross_entropy()(logits, labels).mean(), r"\(\)"),
    ],
    ids=["each output", "the mean"],
)
def test_a_loss_that_gives_no_number_an_image_is_refused(loss, shape: str) -> None:
    """With as many images as classes nothing else would tell."""
    model = small_model(until="layer1")
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    with pytest.raises(jaxtl.InputError, match=f"the loss gives float32 {shape} .* one number an image, ") as error:
        jaxtl.make_train_step(model, optimizer, loss=loss)(jaxtl.TrainState.create(model, optimizer), batch())
    with pytest.raises(jaxtl.InputError) as again:
        jaxtl.make_eval_step(model, loss=loss)(model, batch())
    assert str(again.value) == str(error.value)


def test_a_batch_that_is_filled_up_is_not_trained_on(half_frozen) -> None:
    model, optimizer, _, _, train_step = half_frozen
    filled = batch() | {"mask": np.array([True, True, True, False])}
    with pytest.raises(jaxtl.InputError, match=r"the training batch has a mask, .*data\.train_batches"):
        train_step(jaxtl.TrainState.create(model, optimizer), filled)


def test_rates_that_the_optimizer_would_not_use_are_refused(half_frozen) -> None:
    model, optimizer, _, _, train_step = half_frozen
    with pytest.raises(jaxtl.InputError, match="rates are given, and the optimizer of 'all' has its own"):
        train_step(jaxtl.TrainState.create(model, optimizer), batch(), {"all": 0.5})


def test_a_state_of_another_optimizer_is_refused(half_frozen) -> None:
    model, _, _, _, train_step = half_frozen
    head = jaxtl.multi_transform({"all": optax.adamw(1e-2)}, training("fc"))
    with pytest.raises(
        jaxtl.InputError, match=r"the step alone trains layer3\..* and \d+ more: make it with the optim"
    ):
        train_step(jaxtl.TrainState.create(model, head), batch())
    more = jaxtl.multi_transform({"all": optax.adamw(1e-2)}, training("layer2", "layer3", "fc"))
    with pytest.raises(jaxtl.InputError, match=r"the state alone trains layer2\..*TrainState\.create"):
        train_step(jaxtl.TrainState.create(model, more), batch())
    other = jaxtl.multi_transform({"all": optax.sgd(1e-2)}, training("layer3", "fc"))
    with pytest.raises(jaxtl.InputError, match="the memory of another optimizer than this step's: make it with"):
        train_step(jaxtl.TrainState.create(model, other), batch())


def test_transforms_that_go_by_the_loss_get_it() -> None:
    model = small_model(until="layer1")
    plateau = optax.contrib.reduce_on_plateau(accumulation_size=4)
    optimizer = jaxtl.multi_transform({"all": optax.chain(optax.sgd(1e-3), plateau)}, training("fc"))
    state, _, losses = _trained(model, optimizer, steps=3)
    (seen,) = (
        node
        for node in jax.tree.leaves(state.opt_state, is_leaf=lambda node: hasattr(node, "plateau_count"))
        if hasattr(node, "plateau_count")
    )
    assert float(seen.avg_value) == pytest.approx(np.mean(losses), rel=1e-5)
    assert jaxtl.explain(model, optimizer).rows[-1].rate == pytest.approx(1e-3)


def test_mixing_draws_by_a_key_of_its_own(monkeypatch) -> None:
    model = small_model(until="layer1", drop_path_rate=0.5)
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("layer1", "fc"))
    state, keys = jaxtl.TrainState.create(model, optimizer), []

    def mix(key, images, labels, classes, **alphas):
        keys.append(key)
        return images, jax.nn.one_hot(labels, classes)

    monkeypatch.setattr("jaxtl.train.step.mix", mix)
    step = train_step_function(
        model,
        optimizer,
        task=make_task(Softmax()),
        batch_norm="frozen",
        accumulate=1,
        mixup=0.2,
        cutmix=0.0,
        ema=None,
        precision="f32",
        after=None,
    )
    step(state, jax.tree.map(jnp.asarray, batch()))
    of_dropouts = nnx.Rngs(jax.random.fold_in(state.rng, 0))
    drawn = {np.asarray(jax.random.key_data(of_dropouts.dropout())).tobytes() for _ in range(100)}
    assert len(drawn) == 100
    assert np.asarray(jax.random.key_data(keys[0])).tobytes() not in drawn


def test_a_step_can_be_exported_for_every_platform() -> None:
    model = small_model(until="layer1")
    optimizer = jaxtl.multi_transform({"all": optax.adamw(1e-3)}, training("layer1", "fc"))
    state = jaxtl.TrainState.create(model, optimizer)
    platforms = ("cpu", "cuda", "tpu")
    exported = jax.export.export(jaxtl.make_train_step(model, optimizer), platforms=platforms)(state, batch())
    assert exported.platforms == platforms


def test_an_optimizer_without_groups_is_refused():
    model = small_model()
    for use in (jaxtl.make_train_step, jaxtl.explain, jaxtl.TrainState.create):
        with pytest.raises(jaxtl.InputError, match=r"make it with jaxtl\.multi_transform"):
            use(model, optax.adam(1e-3))
