from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.numpy import save_file
from small_models import small_model
from timm_guest import import_timm

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models import registry
from jaxtl.models.convolution import pair
from jaxtl.models.graph import Graph
from jaxtl.pretrained import hub, tags
from jaxtl.pretrained.names import state_dict
from jaxtl.pretrained.source import resolve
from jaxtl.trees import unflatten

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


def _architectures(timm, generator) -> list[str]:
    """All of timm's in these families that jaxtl has."""
    names = [name for family in generator.FAMILIES for name in timm.list_models(module=family)]
    return sorted({*names} & {*registry.names()})


def test_every_pretrained_network_of_timm_is_there(timm, generator):
    timms = set()
    for name in _architectures(timm, generator):
        cfgs = timm.models.get_arch_pretrained_cfgs(name)
        timms |= {full_name for full_name, cfg in cfgs.items() if cfg.has_weights}
    listed = {name for name in tags.list_models() if "." in name and not name.startswith("cifar_")}
    assert listed == timms
    assert set(tags.list_models(pretrained=True)) - {"cifar_resnet20.letters"} <= listed


def test_every_tag_means_what_timm_means(timm, generator):
    from timm.data import resolve_model_data_config

    for name in _architectures(timm, generator):
        for full_name, cfg in timm.models.get_arch_pretrained_cfgs(name).items():
            if not cfg.has_weights and tags.find(name).tag:
                continue  # timm's mark for training from scratch, beside weights
            tag = tags.find(full_name if cfg.has_weights else name)
            model = SimpleNamespace(pretrained_cfg=cfg.to_dict())
            assert tag.preprocess_dict() == resolve_model_data_config(model), full_name
            assert tag.hub_id == cfg.hf_hub_id, full_name
            assert cfg.num_classes >= 0
            for field, value in tag.pretrained_cfg.items():
                assert value == getattr(cfg, field), f"{full_name}: {field}"


def test_default_tag_is_timms(timm, generator):
    for name in _architectures(timm, generator):
        cfg = timm.models.get_pretrained_cfg(name)
        if cfg.has_weights:
            assert tags.find(name).name == f"{name}.{cfg.tag}"


def _default(name: str, option: str):
    """What a network is built with when nobody says else."""
    architecture = registry._architectures[name]
    said = inspect.signature(architecture.family.__init__).parameters.get(option)
    return architecture.options.get(option, said and said.default)


def test_a_tag_says_no_more_about_the_network_than_its_classes(timm, generator):
    """timm's networks also take a fixed size of images from the tag; it is the same for all tags of an architecture, so
    that an architecture of jaxtl, which has one, is right for each."""
    for name in _architectures(timm, generator):
        cfgs = timm.models.get_arch_pretrained_cfgs(name).values()
        assert {cfg.input_size[0] for cfg in cfgs} == {3}, name
        assert _default(name, "num_classes") == timm.models.get_pretrained_cfg(name).num_classes, name
        (size,) = {cfg.input_size[1:] if cfg.fixed_input_size else None for cfg in cfgs}
        default = _default(name, "img_size")
        assert None in (size, default) or pair(default) == size, name


def test_tables_are_small_and_name_enough_weights():
    lines = [line for path in tags.TABLES.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert max(map(len, lines)) < 500
    special = {"hub_id", "obstacle", "folder"}
    fetched = [
        name for line in lines if "." in (name := (row := json.loads(line))["name"]) and not special & row.keys()
    ]
    assert len(fetched) >= 900


def test_every_architecture_of_the_tables_can_be_built():
    assert {name.partition(".")[0] for name in tags.list_models()} == set(registry.names())


def test_tables_say_nothing_that_is_not_used():
    for path in tags.TABLES.glob("*.jsonl"):
        names = [json.loads(line)["name"] for line in path.read_text().splitlines()]
        assert len(set(names)) == len(names)
        for line in path.read_text().splitlines():
            assert json.loads(line).keys() <= {"name", "hub_id", "folder", "obstacle", "lacks", *tags.DEFAULTS}


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


def test_what_jaxtl_has_no_network_for_is_not_there(monkeypatch):
    monkeypatch.setattr(tags, "_registered", lambda: {"resnet18", "resnet34d"})
    tags._table.cache_clear()
    try:
        assert {name.partition(".")[0] for name in tags.list_models()} == {"resnet18", "resnet34d"}
        with pytest.raises(InputError, match="unknown architecture 'resnet50'"):
            tags.find("resnet50.a1_in1k")
        assert all(hub_id.startswith(("timm/resnet18.", "timm/resnet34d.")) for hub_id in tags.hub_ids())
    finally:
        tags._table.cache_clear()


def test_weights_that_cannot_be_read_are_refused_in_a_sentence():
    for name, reason in (
        ("vit_base_patch16_sapiens2.fb", "its weights are stored in the layout of their original code"),
        ("vit_huge_patch14_gap_224.in1k_ijepa", r"its weights lie at https://.* and not on the hub"),
    ):
        tag = tags.find(name)
        assert tag.kind == "foreign"
        assert name in tags.list_models()
        assert name not in tags.list_models(pretrained=True)
        with pytest.raises(InputError, match=rf"weights of {name}: {reason}; timm can: .*create_model\('{name}', pre"):
            jaxtl.load(name)


def test_weights_without_a_norm_give_it_a_fresh_one(monkeypatch, tmp_path):
    graph = Graph("convnextv2_atto", num_classes=0)
    state = state_dict(unflatten(graph.initialise(graph.params, 3)), {})
    stored = {name: array for name, array in state.items() if not name.startswith("head.norm.")}
    save_file(stored, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "convnextv2_atto", "num_classes": 0}))
    monkeypatch.setattr(hub, "fetch", lambda hub_id, revision, check: tmp_path)
    model = jaxtl.load("convnextv2_atto.fcmae")
    assert model.notes == ("head.norm is not in the weights and starts afresh",)
    assert model.num_classes == 0
    assert (model.params["head"]["norm"]["scale"] == 1).all()
    assert (model.params["stem"]["0"]["kernel"].transpose(3, 2, 0, 1) == stored["stem.0.weight"]).all()
    assert jaxtl.load("convnextv2_atto.fcmae", num_classes=5).num_classes == 5
    with pytest.raises(InputError, match=r"missing from the weights \(2\):\n  head.norm"):
        jaxtl.load("hf_hub:timm/convnextv2_atto.fcmae")


def test_the_table_says_what_a_hub_repository_holds(monkeypatch, tmp_path):
    """As for timm, which reads the repository's weights alone; some repositories serve two networks."""
    model = small_model()
    save_file(state_dict(model.params, model.batch_stats), tmp_path / "model.safetensors")
    said = {"architecture": "cifar_resnet32", "num_classes": 4, "model_args": {"block_reduce_first": 2}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    monkeypatch.setattr(hub, "fetch", lambda hub_id, revision, check: tmp_path)
    row = {"hub_id": "timm/cifar_resnet32.letters"}
    monkeypatch.setattr(tags, "_table", lambda: {"cifar_resnet20": {"letters": row}})
    assert jaxtl.load("cifar_resnet20.letters").num_classes == 4
    row["hub_id"] = "timm/cifar_resnet44.letters"
    with pytest.raises(InputError, match="holds a cifar_resnet32 and not a cifar_resnet20"):
        jaxtl.load("cifar_resnet20.letters")


def test_random_weights_of_a_tag_are_for_its_classes():
    assert jaxtl.load("test_convnext", weights=None).num_classes == 1000
    assert resolve("convnext_base.fb_in22k", None).num_classes == 21841


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
