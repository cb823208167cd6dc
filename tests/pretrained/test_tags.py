from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from timm_guest import import_timm

from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.pretrained import tags

ROOT = Path(tags.__file__).parents[2]


@pytest.fixture(scope="module")
def timm():
    return import_timm()


@pytest.fixture
def generator(timm, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import tags_from_timm

    yield tags_from_timm
    del sys.modules["tags_from_timm"]


def test_tables_are_what_the_generator_writes(generator):
    for family in generator.FAMILIES:
        assert (tags.TABLES / f"{family}.jsonl").read_text() == generator.table(family), (
            f"tables/{family}.jsonl is not up to date: python tools/tags_from_timm.py {family}"
        )


def test_every_pretrained_resnet_of_timm_is_there(timm):
    timms = {name for name in timm.list_models(module="resnet", pretrained=True) if "_pruned" not in name}
    assert timms == {name for name in tags.list_models(pretrained=True) if not name.startswith("cifar_")}


def test_every_tag_means_what_timm_means(timm):
    from timm.data import resolve_data_config

    for name in timm.list_models(module="resnet"):
        if name.endswith("_pruned"):
            continue
        for full_name, cfg in timm.models.get_arch_pretrained_cfgs(name).items():
            if not cfg.has_weights and tags.find(name).kind == "hub":
                continue  # timm's mark for training from scratch, beside weights
            tag = tags.find(full_name if cfg.has_weights else name)
            assert tag.preprocess_dict() == resolve_data_config({}, pretrained_cfg=cfg.to_dict()), full_name
            assert tag.hub_id == cfg.hf_hub_id, full_name
            for field, value in tag.pretrained_cfg.items():
                assert value == getattr(cfg, field), f"{full_name}: {field}"


def test_default_tag_is_timms(timm):
    for name in timm.list_models(module="resnet"):
        cfg = timm.models.get_pretrained_cfg(name)
        if cfg.has_weights and not name.endswith("_pruned"):
            assert tags.find(name).name == f"{name}.{cfg.tag}"


def test_every_architecture_of_the_tables_can_be_built():
    assert {name.partition(".")[0] for name in tags.list_models()} == set(registry.names())


def test_tables_say_nothing_that_is_not_used():
    for path in tags.TABLES.glob("*.jsonl"):
        names = [json.loads(line)["name"] for line in path.read_text().splitlines()]
        assert len(set(names)) == len(names)
        for line in path.read_text().splitlines():
            assert json.loads(line).keys() <= {"name", "hub_id", "folder", *tags.DEFAULTS}


def test_find_tag_and_architecture():
    tag = tags.find("resnet50.a1_in1k")
    assert (tag.architecture, tag.tag, tag.hub_id, tag.kind) == ("resnet50", "a1_in1k", "timm/resnet50.a1_in1k", "hub")
    assert tag.pretrained_cfg["test_input_size"] == (3, 288, 288)
    assert tag.preprocess_dict()["input_size"] == (3, 224, 224)


def test_one_architecture_different_preprocessing():
    settings = {str(tags.find(name).preprocess_dict()) for name in tags.list_models("resnet50", pretrained=True)}
    assert len(settings) >= 6


def test_find_architecture_without_weights():
    tag = tags.find("resnet50t")
    assert (tag.name, tag.tag, tag.hub_id, tag.kind) == ("resnet50t", None, None, "untrained")
    assert tag.pretrained_cfg["first_conv"] == "conv1.0"


@pytest.mark.parametrize("prefix", ["hf_hub:", "hf-hub:"])
def test_find_hub_repository(prefix):
    tag = tags.find(f"{prefix}org/my.model-2@v1")
    assert (tag.hub_id, tag.revision, tag.architecture, tag.kind) == ("org/my.model-2", "v1", None, "hub")
    assert tags.find(f"{prefix}org/model").revision is None


def test_typos_are_told_apart():
    cases = {
        "resnet5O.a1_in1k": r"unknown architecture 'resnet5O'; did you mean 'resnet50",
        "resnet5": r"unknown architecture 'resnet5'; did you mean",
        "resnet50.a1in1k": r"resnet50 has no pretrained weights 'a1in1k'; did you mean 'a1_in1k'.* it has a1_in1k, a1h",
        "resnet50.qqq": r"resnet50 has no pretrained weights 'qqq'; it has a1_in1k",
        "resnet50t.a1_in1k": r"resnet50t has no pretrained weights, so not 'a1_in1k' either; weights=None",
        "zzzzzz": r"unknown architecture 'zzzzzz'; jaxtl list",
        "timm/resnet50.a1_in1k": r"hub repository is written hf_hub:",
        "hf_hub:too/many/parts": r"does not name a hub repository",
        "hf_hub:": r"does not name a hub repository",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            tags.find(name)


def test_list_models():
    assert tags.list_models("resnet1*_in1k")[:3] == ["resnet10t.c3_in1k", "resnet14t.c3_in1k", "resnet18.a1_in1k"]
    assert "resnet50.tv_in1k" in tags.list_models("resnet50")
    assert all(name.startswith("resnet50.") for name in tags.list_models("resnet50"))
    assert tags.list_models("resnet50t") == ["resnet50t"]
    assert tags.list_models("resnet50t", pretrained=True) == []
    assert tags.list_models("nothing*") == []
    names = tags.list_models()
    assert names.index("resnet18.a1_in1k") < names.index("resnet101.a1_in1k")
    assert len(names) == len(set(names))
    assert set(tags.list_models(pretrained=True)) < set(names)


def test_every_listed_name_is_found():
    for name in tags.list_models():
        assert tags.find(name).name == name


def test_carried_weights_come_with_their_preprocessing():
    tag = tags.find("cifar_resnet20.letters")
    assert tag.kind == "carried"
    assert tag.hub_id is None
    assert (tag.folder / "model.safetensors").is_file()
    assert tag.preprocess_dict()["input_size"] == (1, 32, 32)
    assert len(tag.preprocess_dict()["mean"]) == len(tag.preprocess_dict()["std"]) == 1
