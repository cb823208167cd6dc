from __future__ import annotations

import re

import jax
import optax
import pytest
from small_models import small_model, training

import jaxtl
from jaxtl.errors import InputError
from jaxtl.finetune.from_recipe import make_optimizer
from jaxtl.recipe import Recipe
from jaxtl.trees import flatten


def _rows(transform: optax.GradientTransformation) -> dict[str, object]:
    optimizer = jaxtl.multi_transform({"all": transform}, training("layer3", "fc"))
    return {row.stage: row for row in jaxtl.explain(small_model(), optimizer).rows}


@pytest.mark.parametrize(
    ("transform", "rate", "decay"),
    [
        (optax.adamw(3e-4, weight_decay=0.05), 3e-4, (0.05, 0.05)),
        (optax.sgd(0.1, momentum=0.9), 0.1, (0.0, 0.0)),
        (optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.2)), 0.2, (0.01, 0.01)),
        (
            optax.adamw(1e-3, weight_decay=0.1, mask=lambda p: jax.tree.map(lambda leaf: leaf.ndim > 1, p)),
            1e-3,
            (0.0, 0.1),
        ),
        (optax.chain(optax.sgd(1.0), optax.scale_by_schedule(lambda step: 0.5)), 0.5, (0.0, 0.0)),
        (optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100), weight_decay=0.1), 1e-3, (0.1, 0.1)),
        (
            optax.inject_hyperparams(optax.adamw)(optax.linear_schedule(0.0, 1e-3, 5_000), weight_decay=0.1),
            1e-3,
            (0.1, 0.1),
        ),
        (optax.MultiSteps(optax.adamw(1e-3, weight_decay=0.1), 4).gradient_transformation(), 1e-3, (0.1, 0.1)),
        (
            optax.MultiSteps(optax.sgd(optax.linear_onecycle_schedule(50, 0.2)), 3).gradient_transformation(),
            0.2,
            (0.0, 0.0),
        ),
    ],
    ids=["adamw", "sgd", "chain", "mask", "schedule", "warm-up", "injected", "accumulated", "accumulated schedule"],
)
def test_rates_and_decays_are_measured(transform, rate: float, decay: tuple[float, float]) -> None:
    rows = _rows(transform)
    for stage in ("layer3", "fc"):
        assert rows[stage].rate == pytest.approx(rate, rel=1e-5)
        assert rows[stage].decay == pytest.approx(decay, rel=1e-5, abs=1e-12)
    assert rows["layer1"].group == "frozen"
    assert rows["layer1"].rate is rows["layer1"].decay is None


def test_counts_and_bytes_are_those_of_the_arrays() -> None:
    model = small_model()
    optimizer = jaxtl.multi_transform({"all": optax.adam(1e-3)}, training("layer3", "fc"))
    state = jaxtl.TrainState.create(model, optimizer)
    rows = jaxtl.explain(model, optimizer).rows
    assert [row.stage for row in rows] == list(model.stages)
    for row in rows:
        leaves = [leaf for path, leaf in flatten(model.params).items() if model.graph.stage_of(path) == row.stage]
        assert row.parameters == sum(leaf.size for leaf in leaves)
        assert row.bytes == sum(leaf.nbytes for leaf in leaves)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    assert sum(row.optimizer_bytes for row in rows) == held > 0
    assert [row.batch_norms for row in rows] == [(0, 1), (0, 6), (0, 6), (6, 0), (0, 0)]


def test_the_table_says_it_all() -> None:
    model = small_model().replace(notes=("something was adapted",))
    optimizer = jaxtl.multi_transform({"all": optax.adamw(3e-4, weight_decay=0.05)}, training("layer3", "fc"))
    explanation = jaxtl.explain(model, optimizer)
    text = str(explanation)
    for word in (*model.stages, "frozen", "all", "0.0003", "0.05", "6 adapt", "6 frozen", "something was adapted"):
        assert word in text
    total = sum(leaf.size for leaf in flatten(model.params).values())
    assert f"trains {explanation.trained:,} of {total:,} parameters" in text
    layer3 = next(line for line in text.splitlines() if line.strip().startswith("layer3"))
    assert layer3.split()[:3] == ["layer3", "all", "0.0003"]


def test_a_stage_in_two_groups_has_two_rows() -> None:
    optimizer = jaxtl.multi_transform(
        {"norms": optax.sgd(0.1), "fast": optax.sgd(0.2)},
        lambda path, leaf: "fast" if path.startswith("fc") else "norms" if ".bn" in path else "frozen",
    )
    rows = jaxtl.explain(small_model(), optimizer).rows
    assert {(row.stage, row.group) for row in rows if row.stage == "layer2"} == {
        ("layer2", "norms"),
        ("layer2", "frozen"),
    }


def test_a_recipes_peak_is_shown_and_not_its_first_step() -> None:
    model = small_model()
    recipe = Recipe.from_keywords(epochs=4, groups={"head": "fast", "*": "slow"}, schedule={"name": "one_cycle"})
    rows = jaxtl.explain(model, make_optimizer(recipe, model, steps_per_epoch=25)).rows
    assert {row.group: pytest.approx(row.rate, rel=1e-3) for row in rows} == {"slow": 1e-4, "fast": 1e-3}
    assert [row.decay for row in rows if row.stage == "layer1"] == [pytest.approx((0.0, 0.01), rel=1e-3)]


@pytest.mark.parametrize(
    ("policy", "layer2", "layer3"),
    [
        ("follow", "6 frozen", "6 adapt"),
        ("frozen", "6 frozen", "6 frozen stats, affine trained"),
        ("adapt", "6 adapt, affine frozen", "6 adapt"),
        ({"layer3.0.*": "frozen"}, "6 frozen", "4 adapt, 2 frozen stats"),
        ({"layer2.1.*": "adapt"}, "2 adapt, affine frozen, 4 frozen", "6 adapt"),
    ],
    ids=str,
)
def test_each_row_says_what_the_policy_does(policy, layer2: str, layer3: str) -> None:
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("layer3", "fc"))
    explanation = jaxtl.explain(small_model(), optimizer, batch_norm=policy)
    for row, text in zip(explanation.rows[2:4], (layer2, layer3), strict=True):
        line = next(line for line in str(explanation).splitlines() if line.split()[:1] == [row.stage])
        assert re.search(rf"  {re.escape(text)}  ", line)
        adapting = int(text.split()[0]) if "adapt" in text else 0
        assert row.batch_norms == (adapting, 6 - adapting)


def test_a_policy_that_does_not_fit_is_refused() -> None:
    optimizer = jaxtl.multi_transform({"all": optax.sgd(0.1)}, training("fc"))
    with pytest.raises(InputError, match="'layr1' matches no BatchNorm"):
        jaxtl.explain(small_model(), optimizer, batch_norm={"layr1": "frozen"})


@pytest.mark.parametrize(
    ("entry", "decay", "in_gradient"),
    [
        ({"name": "adamw", "weight_decay": 0.05}, (0.0, 0.05), False),
        ({"name": "adamw", "weight_decay": 0.05, "decay_norm_and_bias": True}, (0.05, 0.05), False),
        ({"name": "sgd", "weight_decay": 0.05}, (0.0, 0.05), False),
        ({"name": "lion", "weight_decay": 0.05}, (0.0, 0.05), False),
        ({"name": "adafactor", "weight_decay": 0.05}, (0.0, 0.05), False),
        ({"name": "muon", "weight_decay": 0.05}, (0.0, 0.05), False),
        ({"name": "adam", "weight_decay": 0.05}, None, True),
        ({"name": "lamb", "weight_decay": 0.05}, None, True),
        ({"name": "lars", "weight_decay": 0.05}, None, True),
        ({"name": "adam", "weight_decay": 0.0}, (0.0, 0.0), False),
    ],
    ids=str,
)
def test_rates_and_decays_of_every_recipes_optimizer(entry, decay, in_gradient) -> None:
    model = small_model()
    recipe = Recipe.from_keywords(
        epochs=2, groups={"layer3": "all", "*": "frozen"}, optimizer={"all": {**entry, "lr": 3e-4}}
    )
    (row,) = [
        row for row in jaxtl.explain(model, make_optimizer(recipe, model, steps_per_epoch=5)).rows if row.group == "all"
    ]
    assert row.rate == pytest.approx(3e-4, rel=1e-4)
    assert row.decay == (None if decay is None else pytest.approx(decay, rel=1e-3, abs=1e-9))
    assert row.decay_in_gradient == in_gradient


def test_tables_of_two_axes_have_no_decay_though_kernels_do() -> None:
    small = {"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4), "img_size": 32}
    model = jaxtl.load("swin_tiny_patch4_window7_224", weights=None, num_classes=3, **small)
    first, second = model.stages[1:3]
    recipe = Recipe.from_keywords(
        epochs=2,
        groups={f"{first}.*relative_position_bias_table": "all", f"{second}.*": "all", "*": "frozen"},
        optimizer={"all": {"lr": 1e-3, "weight_decay": 0.05}},
    )
    rows = jaxtl.explain(model, make_optimizer(recipe, model, steps_per_epoch=5)).rows
    found = {row.stage: row.decay for row in rows if row.group == "all"}
    assert found == {first: (0.0, 0.0), second: pytest.approx((0.0, 0.05), rel=1e-3)}


def test_a_row_for_each_block_stays_readable() -> None:
    model = small_model()
    recipe = Recipe.from_keywords(epochs=2, layer_decay=0.5)
    explanation = jaxtl.explain(model, make_optimizer(recipe, model, steps_per_epoch=5), batch_norm="frozen")
    assert len(explanation.rows) == 11
    lines = [line for line in str(explanation).splitlines() if line and line not in explanation.notes]
    assert [line.split()[:3] for line in lines[-2:]] == [
        ["layer3", "slow.d1", "5e-05"],
        ["fc", "fast.d0", "0.001"],
    ]
    assert len(lines) == 3 + 11
    assert max(map(len, lines)) <= 140
