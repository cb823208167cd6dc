"""Writes `jaxtl/pretrained/tables/FAMILY.jsonl` from timm's registry: `python tools/tags_from_timm.py [FAMILY ...]`.

A family is one of timm's model modules. timm's order of an architecture's tags is kept: its first is the default.

timm fetches `model.safetensors` from `cfg.hf_hub_id`, also where `cfg.custom_load` is set: that speaks of the original
files at `cfg.url`. A row is marked where that file does not hold all of timm's own names and no others.
"""

from __future__ import annotations

import json
import re
import sys

from timm.models import get_arch_pretrained_cfgs, list_models

from jaxtl.pretrained.tags import DEFAULTS, TABLES

FAMILIES = (
    "convnext",
    "deit",
    "densenet",
    "efficientnet",
    "eva",
    "inception_v3",
    "mobilenetv3",
    "regnet",
    "resnet",
    "resnetv2",
    "swin_transformer",
    "swin_transformer_v2",
    "vgg",
    "vision_transformer",
)
LEFT_OUT = re.compile(r".*_pruned")
LACKING = re.compile(r"convnextv2_\w+\.fcmae")  # their files have no "head.norm", which timm leaves as it starts
FOREIGN = re.compile(r"vit_\w+_sapiens2\.fb")  # the layout of the original code, renamed by timm's filter


def table(family: str) -> str:
    """The text of one family's table."""
    architectures = [name for name in list_models(module=family) if not LEFT_OUT.fullmatch(name)]
    return "".join(f"{json.dumps(row)}\n" for architecture in architectures for row in _rows(architecture))


def _rows(architecture: str) -> list[dict]:
    cfgs = get_arch_pretrained_cfgs(architecture)
    pretrained = {name: cfg for name, cfg in cfgs.items() if cfg.has_weights}
    if not pretrained:
        (cfg,) = cfgs.values()
        return [{"name": architecture, **_fields(cfg)}]
    return [{"name": name, **_where(name, cfg), **_fields(cfg)} for name, cfg in pretrained.items()]


def _where(name: str, cfg) -> dict:
    """How the place and the contents of a tag's weights differ from `model.safetensors` in `timm/NAME`."""
    if not cfg.hf_hub_id:
        return {"hub_id": None, "obstacle": f"its weights lie at {cfg.url} and not on the hub"}
    if cfg.hf_hub_filename or cfg.custom_load == "hf":
        return {"hub_id": cfg.hf_hub_id, "obstacle": f"its weights are a file of their own kind, {cfg.hf_hub_filename}"}
    place = {} if cfg.hf_hub_id == f"timm/{name}" else {"hub_id": cfg.hf_hub_id}
    if FOREIGN.fullmatch(name):
        return {**place, "obstacle": "its weights are stored in the layout of their original code"}
    return {**place, "lacks": ["head.norm"]} if LACKING.fullmatch(name) else place


def _fields(cfg) -> dict:
    return {key: value for key, default in DEFAULTS.items() if (value := getattr(cfg, key)) != default}


if __name__ == "__main__":
    for family in sys.argv[1:] or FAMILIES:
        (TABLES / f"{family}.jsonl").write_text(table(family), encoding="utf-8")
