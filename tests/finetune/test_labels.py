from __future__ import annotations

import pytest

from jaxtl.errors import InputError
from jaxtl.finetune.labels import from_groups, groups_of
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
