from __future__ import annotations

import json

import pytest

from jaxtl.errors import InputError
from jaxtl.pretrained.config import read_config


@pytest.fixture
def read(tmp_path):
    def write_and_read(content):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "config.json").write_text(text)
        return read_config(tmp_path)

    return write_and_read


def test_what_timm_writes(read):
    config = read(
        {
            "architecture": "resnet50",
            "num_classes": 2,
            "num_features": 2048,
            "pretrained_cfg": {"tag": "a1_in1k", "input_size": [3, 224, 224], "num_classes": 1000},
            "label_names": ["cat", "dog"],
            "model_args": {"in_chans": 1},
        }
    )
    assert config["architecture"] == "resnet50"
    assert config["num_classes"] == 2
    assert config["num_features"] == 2048
    assert config["pretrained_cfg"]["input_size"] == [3, 224, 224]
    assert config["label_names"] == ["cat", "dog"]
    assert config["model_args"] == {"in_chans": 1}


def test_what_may_be_left_out(read):
    config = read({"architecture": "resnet50", "pretrained_cfg": {"num_classes": 7}})
    assert (config["num_classes"], config["model_args"], config["label_names"]) == (7, {}, None)


def test_fields_on_the_top_level_are_the_preprocessing(read):
    config = read({"architecture": "resnet50", "num_classes": 7, "mean": [0.5, 0.5, 0.5], "input_size": [3, 96, 96]})
    assert config["pretrained_cfg"] == {"num_classes": 7, "mean": [0.5, 0.5, 0.5], "input_size": [3, 96, 96]}


def test_label_names_as_an_object(read):
    names = {"0": "cat", "1": "dog"}
    assert read({"architecture": "a", "num_classes": 2, "label_names": names})["label_names"] == ["cat", "dog"]


def test_all_problems_at_once(read):
    with pytest.raises(InputError) as error:
        read({"num_classes": -1, "pretrained_cfg": 3, "model_args": [], "label_names": ["cat", 5]})
    for problem in (
        "architecture is missing",
        "num_classes must not be negative, not -1",
        "pretrained_cfg must be an object, not 3",
        "model_args must be an object, not []",
        "label_names must be a list of strings",
    ):
        assert problem in str(error.value)


def test_label_names_must_match_the_classes(read):
    with pytest.raises(InputError, match="label_names has 1 names for 3 classes"):
        read({"architecture": "a", "num_classes": 3, "label_names": ["cat"]})


@pytest.mark.parametrize("text", ['{"architecture": "res', "[1, 2]", ""])
def test_not_a_json_object(read, text):
    with pytest.raises(InputError, match=r"config\.json"):
        read(text)


def test_missing_file_names_the_folder(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} has no config.json"):
        read_config(tmp_path)


def test_label_names_where_timm_keeps_those_of_the_weights(read):
    cfg = {"label_names": ["cat", "dog"]}
    assert read({"architecture": "a", "num_classes": 2, "pretrained_cfg": cfg})["label_names"] == ["cat", "dog"]


def test_a_class_without_a_name_is_called_by_its_number(read):
    names = {"0": "cat", "3": "dog"}
    assert read({"architecture": "a", "num_classes": 4, "label_names": names})["label_names"] == [
        "cat",
        "1",
        "2",
        "dog",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"jaxtl": "yes"}, "jaxtl must be an object, not 'yes'"),
        ({"jaxtl": {"task": "ranking"}}, "jaxtl.task must be class, multi-label or regression, not 'ranking'"),
        ({"pretrained_cfg": {"mean": "x"}}, "pretrained_cfg.mean must be a list of numbers, not 'x'"),
        ({"pretrained_cfg": {"std": [1, None, 1]}}, "pretrained_cfg.std must be a list of numbers"),
        ({"pretrained_cfg": {"input_size": 32}}, "pretrained_cfg.input_size must be a list of whole numbers, not 32"),
    ],
)
def test_fields_that_loading_needs(read, fields, message):
    with pytest.raises(InputError, match=message):
        read({"architecture": "a", "num_classes": 2, **fields})
