from __future__ import annotations

import pytest

import jaxtl
from jaxtl.errors import InputError
from jaxtl.finetune.labels import Unbound, base_group, bound, by_group, from_groups, groups_of, with_depth
from jaxtl.models.graph import Graph

GRAPH = Graph("cifar_resnet20")


def test_the_first_part_that_matches_wins() -> None:
    label = from_groups({"*.bn1.scale": "norms", "layer3": "slow", "head": "fast", "*": "frozen"}, GRAPH)
    expected = {
        "layer3.0.bn1.scale": "norms",
        "layer3.0.bn1.bias": "slow",
        "layer3.2.conv2.kernel": "slow",
        "fc.bias": "fast",
        "conv1.kernel": "frozen",
    }
    assert {path: label(path, None) for path in expected} == expected
    assert set(groups_of(dict.fromkeys(GRAPH.params), label)) == set(GRAPH.params)


def test_the_stem_is_a_stage() -> None:
    label = from_groups({"stem": "slow", "*": "frozen"}, GRAPH)
    assert [path for path in GRAPH.params if label(path, None) == "slow"] == ["bn1.bias", "bn1.scale", "conv1.kernel"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"layer33": "slow", "*": "frozen"}, r"'layer33' match no parameter .*did you mean 'layer3'.*stem, layer1"),
        ({"layer3": "a", "layer3.*": "b", "a*": "c", "*": "frozen"}, r"groups: 'a\*' match no parameter"),
        ({"head": "fast"}, r"nothing matches bn1.bias, bn1.scale, conv1.kernel, .* and \d+ more; add a last line"),
    ],
)
def test_parts_that_match_nothing_and_parameters_without_a_part(groups: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_groups(groups, GRAPH)


def test_labels_that_are_no_names_are_all_listed() -> None:
    params = {"fc": {"kernel": 0, "bias": 0}, "conv1": {"kernel": 0}}
    labels = {"fc.kernel": None, "fc.bias": 3, "conv1.kernel": ""}
    with pytest.raises(InputError) as error:
        groups_of(params, lambda path, leaf: labels[path])
    for path in labels:
        assert path in str(error.value)


def test_labels_that_cannot_be_called_so() -> None:
    for label in (lambda path: "fast", lambda path, leaf, more: "fast", jaxtl.labels.head_only):
        with pytest.raises(InputError, match=r"called as label\(path, leaf\)|call it, jaxtl.labels.head_only\(\)"):
            groups_of({"fc": {"bias": 0}}, label)
    assert groups_of({"fc": {"bias": 0}}, lambda *given: given[0]) == {"fc.bias": "fc.bias"}


# --- parts ---------------------------------------------------------------------------------------------------------

RESNET = Graph("resnet50", num_classes=5)


def _paths(part: str, graph: Graph) -> set[str]:
    label = from_groups({part: "in", "*": "frozen"}, graph)
    return {path for path in graph.params if label(path, None) == "in"}


def test_norms_are_scales_and_biases_of_normalisation_layers() -> None:
    norms = {f"{norm}.{leaf}" for norm in RESNET.batch_norms for leaf in ("scale", "bias")}
    assert len(norms) == 2 * 53
    assert _paths("norms", RESNET) == norms
    assert _paths("biases", RESNET) == {"fc.bias"}
    grouped = Graph("resnet50_gn")
    assert len(_paths("norms", grouped)) == 2 * 53
    squeezed = _paths("biases", Graph("seresnet50"))
    assert {path.split(".")[-2] for path in squeezed} == {"fc", "fc1", "fc2"}


def test_from_a_stage_on_the_head_is_included_unless_matched_earlier() -> None:
    behind = {path for path in GRAPH.params if path.startswith(("layer2.", "layer3.", "fc."))}
    assert _paths("from layer2", GRAPH) == behind
    label = from_groups({"head": "fast", "from layer2": "slow", "*": "frozen"}, GRAPH)
    assert {label(path, None) for path in behind if path.startswith("fc")} == {"fast"}
    assert _paths("from stem", GRAPH) == set(GRAPH.params)


def test_the_last_blocks_end_in_front_of_the_head() -> None:
    assert _paths("last 1 block", GRAPH) == {path for path in GRAPH.params if path.startswith("layer3.2.")}
    four = ("layer3.", "layer2.2.")
    assert _paths("last 4 blocks", GRAPH) == {path for path in GRAPH.params if path.startswith(four)}
    assert _paths("last 10 blocks", GRAPH) == {path for path in GRAPH.params if not path.startswith("fc.")}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("from layre3", r"'from layre3': no stage of cifar_resnet20 is called 'layre3'; did you mean 'layer3'"),
        ("from head", r"no stage of cifar_resnet20 is called 'head'; its stages are stem, layer1"),
        ("last 11 blocks", r"'last 11 blocks': cifar_resnet20 has 10 blocks in front of its head, so give 1 to 10"),
        ("last 0 blocks", r"so give 1 to 10"),
        ("last two blocks", r"'last two blocks' match no parameter .*'last N blocks'"),
        ("norm", r"'norm' match no parameter of cifar_resnet20; did you mean 'norms'"),
    ],
)
def test_parts_that_are_not_there(part: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_groups({part: "slow", "*": "frozen"}, GRAPH)


# --- ready-made labels ---------------------------------------------------------------------------------------------


def _groups(label: Unbound, graph: Graph = GRAPH) -> dict[str, set[str]]:
    return {group: set(paths) for group, paths in by_group(groups_of(graph.params, label.bind(graph))).items()}


def test_ready_made_labels() -> None:
    everything = set(GRAPH.params)
    head = {"fc.kernel", "fc.bias"}
    assert _groups(jaxtl.labels.head_only()) == {"fast": head, "frozen": everything - head}

    layer3 = {path for path in everything if path.startswith("layer3.")}
    assert _groups(jaxtl.labels.from_stage("layer3")) == {
        "fast": head,
        "slow": layer3,
        "frozen": everything - head - layer3,
    }
    assert _groups(jaxtl.labels.last_blocks(3)) == _groups(jaxtl.labels.from_stage("layer3"))

    norms = {path for path in everything if ".bn" in path or path.startswith("bn1.")}
    assert _groups(jaxtl.labels.norm_and_bias_only()) == {
        "fast": head,
        "slow": norms,
        "frozen": everything - head - norms,
    }
    ordered = jaxtl.labels.by_pattern({"layer3.2.*": "a", "layer3": "b", "*": "frozen"})
    assert _groups(ordered)["a"] == {path for path in layer3 if path.startswith("layer3.2.")}
    assert _groups(ordered)["b"] == layer3 - _groups(ordered)["a"]


def test_equal_labels_are_equal() -> None:
    assert jaxtl.labels.head_only() == jaxtl.labels.by_pattern({"head": "fast", "*": "frozen"})
    assert jaxtl.labels.layerwise(0.5) == jaxtl.labels.layerwise(0.5) != jaxtl.labels.layerwise(0.6)
    assert len({jaxtl.labels.last_blocks(2), jaxtl.labels.last_blocks(2)}) == 1


def test_unbound_labels_say_how_they_are_used() -> None:
    for label in (jaxtl.labels.head_only(), jaxtl.labels.layerwise()):
        with pytest.raises(InputError, match=r"does not know its network yet.*multi_transform.*\.bind\(model\.graph\)"):
            label("fc.bias", None)


def test_a_bound_label_is_for_one_network() -> None:
    label = bound(jaxtl.labels.head_only(), GRAPH)
    assert bound(label, GRAPH) is label
    with pytest.raises(InputError, match=r"bound to cifar_resnet20, which has no parameter 'layer4.0.bn1.scale'"):
        label("layer4.0.bn1.scale", None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jaxtl.labels.last_blocks(0), "number of blocks from 1 on, not 0"),
        (lambda: jaxtl.labels.last_blocks(1.5), "number of blocks from 1 on, not 1.5"),
        (lambda: jaxtl.labels.layerwise(0.0), "above 0 and at most 1, not 0.0"),
        (lambda: jaxtl.labels.layerwise(1.5), "above 0 and at most 1, not 1.5"),
        (lambda: jaxtl.labels.layerwise("0.5"), "above 0 and at most 1, not '0.5'"),
        (lambda: jaxtl.labels.by_pattern({"head": 3}), "parts and groups by name"),
        (lambda: jaxtl.labels.by_pattern(["head"]), "parts and groups by name"),
        (lambda: jaxtl.labels.from_stage("layer5").bind(GRAPH), "no stage of cifar_resnet20 is called 'layer5'"),
    ],
)
def test_labels_that_cannot_be(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


# --- depth ---------------------------------------------------------------------------------------------------------

RESNET18_DEPTHS = {
    "fc": 0,
    "layer4.1": 1,
    "layer4.0": 2,
    "layer3.1": 3,
    "layer3.0": 4,
    "layer2.1": 5,
    "layer2.0": 6,
    "layer1.1": 7,
    "layer1.0": 8,
    "conv1": 9,
    "bn1": 9,
}


def test_one_group_for_each_block() -> None:
    graph = Graph("resnet18")
    groups = groups_of(graph.params, jaxtl.labels.layerwise().bind(graph))
    for path, group in groups.items():
        (depth,) = (depth for block, depth in RESNET18_DEPTHS.items() if path.startswith(f"{block}."))
        assert group == f"depth{depth}", path
    assert jaxtl.labels.layerwise(0.5).scales(graph) == {f"depth{depth}": 0.5**depth for depth in range(10)}


def test_groups_are_split_by_depth_and_lead_back() -> None:
    plain = jaxtl.labels.by_pattern({"head": "fast", "norms": "norms", "from layer3": "slow", "*": "frozen"})
    label, scales = with_depth(plain, GRAPH, decay=0.5)
    split, before = groups_of(GRAPH.params, label), groups_of(GRAPH.params, plain.bind(GRAPH))
    assert {path: base_group(group) for path, group in split.items()} == before
    assert split["layer3.1.conv1.kernel"] == "slow.d2"
    assert split["bn1.scale"] == "norms.d10"
    assert split["layer2.0.conv1.kernel"] == "frozen"
    expected = {"fast.d0": 1.0, **{f"norms.d{d}": 0.5**d for d in range(1, 11)}}
    assert scales == expected | {"slow.d1": 0.5, "slow.d2": 0.25, "slow.d3": 0.125}
    assert set(scales) == set(split.values()) - {"frozen"}


def test_group_names_that_splitting_would_mix_up() -> None:
    with pytest.raises(InputError, match=r"'slow.d3' cannot be split by depth"):
        with_depth(lambda path, leaf: "slow.d3", GRAPH, 0.5)
    assert [base_group(name) for name in ("slow.d3", "slow.d12", "slow.dx", "a.d1.d2")] == [
        "slow",
        "slow",
        "slow.dx",
        "a.d1",
    ]
