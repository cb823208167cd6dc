"""Computing in bfloat16 changes what lies between layers, and nothing that is kept."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from families import rotating
from small_models import batch, small_model, training

import jaxtl
from jaxtl.jitted import jit
from jaxtl.models.layers import ACTIVATIONS
from jaxtl.train.precision import computed_in, settled
from jaxtl.trees import flatten


@pytest.fixture(scope="module")
def model():
    return small_model(until="layer2")


def _stepped(model, precision: str):
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.05, momentum=0.9)}, training("layer2", "fc"))
    state = jaxtl.TrainState.create(model, optimizer)
    step = jaxtl.make_train_step(model, optimizer, precision=precision)
    for seed in range(2):
        state, metrics = step(state, batch(seed=seed))
    return state, metrics


def test_what_is_kept_stays_float32_and_follows_float32(model) -> None:
    (wide, wide_metrics), (narrow, narrow_metrics) = (_stepped(model, precision) for precision in ("f32", "bf16"))
    kept = (narrow.params, narrow.batch_stats, narrow.opt_state, narrow_metrics["loss"])
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} <= {jnp.dtype("float32"), jnp.dtype("int32")}
    assert float(narrow_metrics["loss"]) == pytest.approx(float(wide_metrics["loss"]), rel=0.03)
    assert float(narrow_metrics["loss"]) != float(wide_metrics["loss"])
    start = flatten(model.params)
    for path, leaf in flatten(wide.params).items():
        moved, ours = np.ravel(leaf - start[path]), np.ravel(flatten(narrow.params)[path] - start[path])
        cosine = moved @ ours / (np.linalg.norm(moved) * np.linalg.norm(ours))
        assert cosine > 0.9, path


@pytest.mark.parametrize(
    ("platform", "capability", "expected"),
    [
        ("cpu", None, "f32"),
        ("gpu", "9.0", "bf16"),
        ("gpu", "7.5", "f32"),
        ("gpu", "gfx90a", "f32"),
        ("tpu", None, "bf16"),
    ],
)
def test_what_a_recipe_leaves_open_follows_the_device(monkeypatch, capsys, platform, capability, expected) -> None:
    device = SimpleNamespace(platform=platform, compute_capability=capability, device_kind="this one")
    monkeypatch.setattr(jax, "local_devices", lambda **_: [device])
    assert settled(jaxtl.Recipe()).precision == expected
    assert ("computed in bfloat16" in capsys.readouterr().err) == (expected == "bf16")
    for precision in ("f32", "bf16"):
        assert settled(jaxtl.Recipe(precision=precision)).precision == computed_in(jaxtl.Recipe(precision=precision))


def test_convolutions_compute_in_bfloat16(model) -> None:
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.05)}, training("layer2", "fc"))
    state = jaxtl.TrainState.create(model, optimizer)
    for precision, expected in (("f32", "f32"), ("bf16", "bf16")):
        step = jaxtl.make_train_step(model, optimizer, precision=precision)
        text = step.lower(state, batch()).as_text()
        results = {
            line.rpartition("x")[2].rstrip("> ") for line in text.splitlines() if "stablehlo.convolution" in line
        }
        assert results == {expected}


def test_evaluation_in_bfloat16_sums_in_float32(model) -> None:
    images = batch(count=6)
    wide, narrow = (jaxtl.make_eval_step(model, precision=precision)(model, images) for precision in ("f32", "bf16"))
    assert narrow["loss"].dtype == jnp.float32
    assert float(narrow["loss"]) == pytest.approx(float(wide["loss"]), rel=0.03)


@pytest.mark.parametrize("compiled", [jit, jax.jit])
@pytest.mark.parametrize("name", rotating(sorted(ACTIVATIONS), 2, always=("gelu", "relu")))
def test_activations_in_front_of_a_sum_follow_float32(name, compiled) -> None:
    """Two of them and a sum, as in a network's last block and pooling, on a map that is large enough for YNNPACK. Of
    two ReLUs XLA of jaxlib 0.11 made NaN on CPUs, and of a GELU that of 0.10 half of its value."""

    def pooled(x):
        x = ACTIVATIONS[name](ACTIVATIONS[name](x) - 0.5)
        return x.astype(jnp.float32).mean(0)

    x = np.random.default_rng(0).standard_normal((256, 256), np.float32)
    np.testing.assert_allclose(compiled(pooled)(x.astype(jnp.bfloat16)), pooled(x), atol=0.02)
