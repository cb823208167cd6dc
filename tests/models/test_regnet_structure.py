"""What is RegNet's own: widths that follow a line, blocks called b1, b2, ..., a convolution behind the last stage."""

from __future__ import annotations

import pytest

from jaxtl.errors import InputError
from jaxtl.models.graph import Graph
from jaxtl.models.regnet import stage_plan


def test_blocks_carry_timms_names() -> None:
    graph = Graph("regnety_002")
    assert graph.blocks == ("stem", "s1.b1", "s2.b1", *(f"s3.b{i + 1}" for i in range(4)), *_s4(7), "head.fc")
    assert graph.depth_of("s4.b7.se.fc1.kernel") == 1
    assert graph.depth_of("s1.b1.downsample.conv.kernel") == 13


def _s4(count: int) -> tuple[str, ...]:
    return tuple(f"s4.b{i + 1}" for i in range(count))


def test_the_last_convolution_is_a_stage_that_can_be_cut() -> None:
    whole = Graph("regnetz_005")
    assert whole.stages[-2:] == ("final_conv", "head.fc")
    cut = Graph("regnetz_005", until="s4")
    assert cut.stages[-2:] == ("s4", "head.fc")
    assert not any(path.startswith("final_conv") for path in cut.params)
    assert (whole.network.num_features, cut.network.num_features) == (1024, 256)


def test_blocks_that_change_the_shape_may_have_no_shortcut() -> None:
    graph = Graph("regnetz_005", drop_path_rate=0.5)
    assert not any("downsample" in path for path in graph.params)
    assert any("downsample" in path for path in Graph("regnetz_005", downsample="avg").params)


def test_two_ways_to_make_widths_fit_groups() -> None:
    assert [width for _, width, _ in stage_plan(24, 24.48, 2.54, 22, 16)] == [32, 64, 160, 384]
    assert [width for _, width, _ in stage_plan(24, 24.48, 2.54, 22, 16, group_min_ratio=0.9)] == [32, 64, 160, 400]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 2}, "give 2 stages"),
        ({"norm_layer": "groupnrm"}, "norm_layer is 'groupnrm'.*groupnorm"),
        ({"downsample": "max"}, "downsample is 'max'"),
        ({"output_stride": 4}, "output_stride is 4"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Graph("regnety_002", **options)
