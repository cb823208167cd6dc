from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from small_models import batch, bits, small_model, training

import jaxtl
from jaxtl.errors import InputError
from jaxtl.finetune.batch_norm import modes_of, small_batch_warning
from jaxtl.finetune.frozen_prefix import frozen_prefix
from jaxtl.finetune.labels import groups_of
from jaxtl.models.graph import POOLED, Graph, Modes
from jaxtl.trees import combine, partition


def test_each_batch_norm_follows_the_label_of_its_own_scale() -> None:
    model = small_model()

    def label(path: str, leaf: object) -> str:
        if path == "layer2.1.bn1.scale":
            return "norms"
        if path.startswith("layer3") and path != "layer3.0.bn2.scale":
            return "all"
        return "frozen"

    expected = {f"layer3.{block}.bn{norm}" for block in range(3) for norm in (1, 2)} - {"layer3.0.bn2"}
    assert jaxtl.training_modes(model, label).adapt == expected | {"layer2.1.bn1"}


def test_all_or_nothing() -> None:
    model = small_model()
    everything = jaxtl.training_modes(model, lambda path, leaf: "all")
    assert everything.adapt == set(model.graph.batch_norms)
    assert len(everything.adapt) == 19
    assert jaxtl.training_modes(model, training("fc")) == type(everything)()


def test_dropout_and_drop_path_are_active_beside_what_is_trained_alone() -> None:
    model = small_model(drop_rate=0.2, drop_path_rate=0.3)
    in_layer3 = {f"layer3.{block}.drop_path" for block in range(3)}
    assert jaxtl.training_modes(model, training("layer3")).random == in_layer3
    assert jaxtl.training_modes(model, training("fc")).random == {"head_drop"}
    assert jaxtl.training_modes(model, training("layer3", "fc")).random == in_layer3 | {"head_drop"}
    one = jaxtl.training_modes(model, lambda path, _: "a" if path == "layer2.1.conv1.kernel" else "frozen")
    assert one.random == {"layer2.1.drop_path"}
    assert jaxtl.training_modes(small_model(), lambda path, leaf: "all").random == set()


def test_dropout_outside_of_all_modules_belongs_to_its_stage() -> None:
    graph = Graph("test_vit", num_classes=4, drop_rate=0.1, pos_drop_rate=0.1)
    head, stem = (
        {path: "all" if graph.stage_of(path) == stage else "frozen" for path in graph.params}
        for stage in (graph.head, graph.stages[0])
    )
    assert modes_of(graph, head).random == {"head_drop"}
    assert modes_of(graph, stem).random == {"pos_drop"}
    assert frozen_prefix(graph, head, modes_of(graph, head)) == POOLED
    assert frozen_prefix(graph, stem, modes_of(graph, stem)) is None


ALL = {f"layer{stage}.{block}.bn{norm}" for stage in (1, 2, 3) for block in range(3) for norm in (1, 2)} | {"bn1"}
LAYER3 = {norm for norm in ALL if norm.startswith("layer3")}


@pytest.mark.parametrize(
    ("policy", "adapting"),
    [
        ("follow", LAYER3),
        ("frozen", set()),
        ("adapt", ALL),
        ({}, LAYER3),
        ({"layer3": "frozen"}, set()),
        ({"stem": "adapt"}, LAYER3 | {"bn1"}),
        ({"layer3.0.*": "frozen", "layer3": "adapt"}, LAYER3 - {"layer3.0.bn1", "layer3.0.bn2"}),
        ({"layer3": "adapt", "layer3.0.*": "frozen"}, LAYER3),
        ({"*.bn1": "adapt"}, LAYER3 | {norm for norm in ALL if norm.endswith(".bn1")}),
        ({"from layer2": "adapt", "*": "frozen"}, {norm for norm in ALL if norm.startswith(("layer2", "layer3"))}),
        ({"last 1 blocks": "frozen", "norms": "adapt"}, ALL - {"layer3.2.bn1", "layer3.2.bn2"}),
        ({"layer1": "follow", "*": "adapt"}, {norm for norm in ALL if not norm.startswith("layer1")}),
    ],
    ids=lambda value: "" if isinstance(value, set) else str(value),
)
def test_a_policy_says_which_batch_norms_adapt(policy, adapting) -> None:
    modes = jaxtl.training_modes(small_model(), training("layer3", "fc"), policy)
    assert modes.adapt == adapting
    assert modes.observe == modes.random == set()


def test_policies_leave_dropout_to_the_label() -> None:
    model = small_model(drop_rate=0.2, drop_path_rate=0.3)
    follow = jaxtl.training_modes(model, training("layer3"))
    for policy in ("frozen", "adapt", {"layer1": "adapt"}):
        assert jaxtl.training_modes(model, training("layer3"), policy).random == follow.random


@pytest.mark.parametrize("trained", [("fc",), ("bn1", "layer1", "fc")], ids=["head", "all"])
@pytest.mark.parametrize("policy", ["follow", "frozen", "adapt", {"layer1.1.*": "adapt", "*": "frozen"}], ids=str)
def test_after_a_step_statistics_have_moved_where_the_policy_says_and_nowhere_else(policy, trained) -> None:
    model = small_model(until="layer1")
    groups = groups_of(model.params, training(*trained))
    modes = modes_of(model.graph, groups, policy)
    params, frozen = partition(model.params, lambda path: groups[path] != "frozen")
    data = batch(size=8)

    @jax.jit
    def step(params, stats):
        def objective(params):
            logits, moved = model.apply(combine(params, frozen), stats, data["image"], modes)
            return optax.softmax_cross_entropy_with_integer_labels(logits, data["label"]).mean(), moved

        gradients, moved = jax.grad(objective, has_aux=True)(params)
        return optax.apply_updates(params, jax.tree.map(lambda leaf: -0.1 * leaf, gradients)), moved

    _, moved = step(params, model.batch_stats)
    before, after = bits(model.batch_stats), bits(moved)
    assert before.keys() == after.keys()
    changed = {path for path in before if before[path] != after[path]}
    follow = set(model.graph.batch_norms) if "layer1" in trained else set()
    expected = {
        "follow": follow,
        "frozen": set(),
        "adapt": set(model.graph.batch_norms),
    }.get(str(policy), {"layer1.1.bn1", "layer1.1.bn2"})
    assert changed == {f"{norm}.{leaf}" for norm in expected for leaf in ("mean", "var")}


def test_a_frozen_policy_normalises_with_the_stored_statistics() -> None:
    model, images = small_model(until="layer1"), batch(size=8)["image"]
    everything = jaxtl.training_modes(model, lambda path, leaf: "all", "frozen")
    logits, _ = model.apply(model.params, model.batch_stats, images, everything)
    np.testing.assert_array_equal(logits, model.apply(model.params, model.batch_stats, images)[0])


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("frozn", r"batch_norm: 'frozn' is no policy; did you mean 'frozen'\?; there are 'follow', 'frozen', 'adapt'"),
        ({"layer1": "eval"}, "batch_norm, 'layer1': 'eval' is no policy"),
        ({"layr1": "frozen"}, "'layr1' matches no BatchNorm of cifar_resnet20; did you mean 'layer1'"),
        ({"head": "adapt"}, r"'head' matches no BatchNorm of cifar_resnet20; there are bn1, .* and 15 more, in the "),
        ({"layer3.0.bn3": "adapt"}, "did you mean .*'layer3.0.bn2'"),
        ({"from layr2": "adapt"}, "did you mean 'layer2'"),
        (True, "batch_norm is a bool; give 'follow', 'frozen', 'adapt', or parts"),
    ],
    ids=str,
)
def test_what_is_no_policy(policy, message) -> None:
    with pytest.raises(InputError, match=message):
        jaxtl.training_modes(small_model(), training("fc"), policy)


def test_a_network_without_batch_norm(caplog) -> None:
    graph = Graph("resnet50_gn")
    groups = dict.fromkeys(graph.params, "all")
    with caplog.at_level("INFO", "jaxtl"):
        assert modes_of(graph, groups) == Modes()
        assert not caplog.messages
        for _ in range(2):
            assert modes_of(graph, groups, "frozen") == Modes()
        assert caplog.messages == ["batch_norm: 'frozen' changes nothing, because resnet50_gn has no BatchNorm"]
    with pytest.raises(InputError, match="'layer1' matches nothing, because resnet50_gn has no BatchNorm"):
        modes_of(graph, groups, {"layer1": "frozen"})


def test_small_batches_are_warned_of_where_batch_norms_adapt() -> None:
    model = small_model()
    adapting = jaxtl.training_modes(model, training("layer3"))
    warning = small_batch_warning(adapting, 8)
    assert warning is not None
    for word in ("6 BatchNorms", "batches of 8 images", "larger batch", "batch_norm: frozen"):
        assert word in warning
    assert small_batch_warning(adapting, 32) is None
    assert small_batch_warning(jaxtl.training_modes(model, training("layer3"), "frozen"), 8) is None
