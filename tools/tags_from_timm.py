"""Writes `jaxtl/pretrained/tables/FAMILY.jsonl` from timm's registry: `python tools/tags_from_timm.py [FAMILY ...]`.

A family is one of timm's model modules. timm's order of an architecture's tags is kept: its first is the default.
"""

from __future__ import annotations

import json
import re
import sys

from timm.models import get_arch_pretrained_cfgs, list_models

from jaxtl.pretrained.tags import DEFAULTS, TABLES

FAMILIES = {"resnet": re.compile(r".*_pruned")}  # module: the architectures that are left out


def table(family: str) -> str:
    """The text of one family's table."""
    left_out = FAMILIES[family]
    architectures = [name for name in list_models(module=family) if not left_out.fullmatch(name)]
    return "".join(f"{json.dumps(row)}\n" for architecture in architectures for row in _rows(architecture))


def _rows(architecture: str) -> list[dict]:
    cfgs = get_arch_pretrained_cfgs(architecture)
    pretrained = {name: cfg for name, cfg in cfgs.items() if cfg.has_weights}
    if not pretrained:
        (cfg,) = cfgs.values()
        return [{"name": architecture, **_fields(cfg)}]
    rows = []
    for name, cfg in pretrained.items():
        if not cfg.hf_hub_id or cfg.hf_hub_filename or cfg.custom_load:
            raise SystemExit(f"{name}: jaxtl can fetch only model.safetensors of a hub repository, which it has not")
        hub_id = {} if cfg.hf_hub_id == f"timm/{name}" else {"hub_id": cfg.hf_hub_id}
        rows.append({"name": name, **hub_id, **_fields(cfg)})
    return rows


def _fields(cfg) -> dict:
    return {key: value for key, default in DEFAULTS.items() if (value := getattr(cfg, key)) != default}


if __name__ == "__main__":
    for family in sys.argv[1:] or FAMILIES:
        (TABLES / f"{family}.jsonl").write_text(table(family), encoding="utf-8")
