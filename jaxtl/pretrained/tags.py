"""Which pretrained weights exist, where they are, and the preprocessing they were trained with.

The tables in `tables/` hold one line of JSON a tag, grouped by architecture, whose first line is its default. A line
names the fields in which it differs from `DEFAULTS`, and what is special about where its weights are: `hub_id` (another
repository than `timm/NAME`), `folder` (they come with jaxtl), `obstacle` (why jaxtl cannot read them) and `lacks`
(modules that the file has not and that start afresh). `tools/tags_from_timm.py` writes the tables of timm's families.
What jaxtl has no network for is passed over.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtl.errors import InputError, nearest
from jaxtl.pretrained.config import read_config

TABLES = Path(__file__).with_name("tables")

DEFAULTS: dict[str, Any] = {
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "test_input_size": None,
    "min_input_size": None,
    "fixed_input_size": False,
    "pool_size": None,
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "test_crop_pct": None,
    "crop_mode": "center",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "label_offset": None,
    "first_conv": None,
    "classifier": None,
    "license": None,
}

_PREPROCESS = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
_HUB_PREFIX = re.compile(r"hf[_-]hub:")


@dataclass(frozen=True)
class Tag:
    """One set of weights, or an architecture that has none.

    Attributes:
        name: What the user wrote, completed: `"resnet50.a1_in1k"`, `"resnet50t"`, `"hf_hub:org/repo"`.
        architecture: Name in `jaxtl.models.registry`; None until the repository's `config.json` has been read.
        tag: The part after the first dot; None for a hub repository and for an architecture without weights.
        hub_id: Repository on the Hugging Face hub; None when the weights are carried or there are none.
        pretrained_cfg: timm's fields, those of `DEFAULTS`, complete; empty for a hub repository.
        revision: Branch, git tag or commit of the hub repository; None for its main branch.
        folder: Folder with `config.json` and `model.safetensors` of weights that come with jaxtl.
        obstacle: Why jaxtl cannot read the weights, as a clause; None when it can.
        lacks: Modules in front of the head of which the weights hold nothing.
    """

    name: str
    architecture: str | None
    tag: str | None
    hub_id: str | None
    pretrained_cfg: dict[str, Any]
    revision: str | None = None
    folder: Path | None = None
    obstacle: str | None = None
    lacks: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """`"hub"`: to be downloaded; `"carried"`: in `folder`; `"foreign"`: not readable here, see `obstacle`;
        `"untrained"`: no weights exist."""
        if self.folder is not None:
            return "carried"
        if self.obstacle is not None:
            return "foreign"
        return "untrained" if self.hub_id is None else "hub"

    def preprocess_dict(self) -> dict[str, Any]:
        """The evaluation preprocessing of these weights; see `preprocess_dict`."""
        return preprocess_dict(self.pretrained_cfg)


def preprocess_dict(pretrained_cfg: dict[str, Any]) -> dict[str, Any]:
    """The evaluation preprocessing in a `pretrained_cfg`, in timm's keys, with timm's defaults for what is not said.

    It is the preprocessing at the size of the training, which `timm.data.resolve_data_config({}, model=model)` gives;
    `test_input_size` and `test_crop_pct`, with which some weights do a little better, stay in `pretrained_cfg`.

    >>> preprocess_dict({"input_size": (3, 176, 176), "test_input_size": (3, 224, 224)})["input_size"]
    (3, 176, 176)
    """
    chosen = {key: pretrained_cfg.get(key) for key in _PREPROCESS}
    return {key: DEFAULTS[key] if value is None else _as_tuple(value) for key, value in chosen.items()}


def find(name: str) -> Tag:
    """The weights that a name means.

    Args:
        name: `"resnet50.a1_in1k"`; or `"resnet50"` for that architecture's default weights (timm's choice); or
            `"hf_hub:org/repo"`, `"hf-hub:org/repo@revision"` for any repository on the Hugging Face hub.

    Raises:
        InputError: no such architecture, or no such tag for this architecture; the message names the nearest ones.

    >>> find("resnet50").name
    'resnet50.a1_in1k'
    >>> find("resnet50.a3_in1k").preprocess_dict()["input_size"]
    (3, 160, 160)
    >>> find("hf_hub:somebody/flowers").hub_id
    'somebody/flowers'
    >>> find("resnet50.a4_in1k")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxtl.errors.InputError: resnet50 has no pretrained weights 'a4_in1k'; did you mean ...
    """
    if prefix := _HUB_PREFIX.match(name):
        return _hub_tag(name, name[prefix.end() :])
    architecture, _, wanted = name.partition(".")
    rows = _table().get(architecture)
    if rows is None:
        if architecture not in _registered():
            raise InputError(_unknown_architecture(name, architecture))
        rows = {"": {}}
    if not wanted:
        wanted = next(iter(rows))
    elif wanted not in rows:
        raise InputError(_unknown_tag(architecture, wanted, [tag for tag in rows if tag]))
    return _tag(architecture, wanted, rows[wanted])


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """The names that `find` and `jaxtl.load` know, in natural order (`resnet18` before `resnet101`).

    Args:
        pattern: A shell pattern (`*`, `?`, `[...]`), matched against the whole name; one without a dot also matches
            all tags of the architectures it matches, so `"resnet50"` lists every set of weights of that network.
        pretrained: Leave out the architectures without weights, and weights that jaxtl cannot read.

    Returns:
        `"architecture.tag"` for each set of weights, `"architecture"` where there are none. Empty when nothing matches.

    >>> list_models("resnet18.a*")
    ['resnet18.a1_in1k', 'resnet18.a2_in1k', 'resnet18.a3_in1k']
    >>> list_models("no-such-model")
    []
    """
    rows = [(architecture, tag, row) for architecture, tags in _table().items() for tag, row in tags.items()]
    names = {
        f"{architecture}.{tag}" for architecture, tag, row in rows if tag and not (pretrained and "obstacle" in row)
    }
    if not pretrained:
        names |= {architecture for architecture, tag, _ in rows if not tag}
        names |= _registered() - _table().keys()
    patterns = [pattern] if "." in pattern else [pattern, f"{pattern}.*"]
    return sorted({name for p in patterns for name in fnmatch.filter(names, p)}, key=_natural)


def hub_ids() -> list[str]:
    """Every hub repository in the tables."""
    rows = ((architecture, tag, row) for architecture, rows in _table().items() for tag, row in rows.items())
    return [hub_id for architecture, tag, row in rows if (hub_id := _hub_id(architecture, tag, row))]


@functools.cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    """{architecture: {tag: row}} of all networks there are, the tag "" for an architecture without weights."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    registered = _registered()
    for path in sorted(TABLES.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            architecture, _, tag = row.pop("name").partition(".")
            if architecture in registered:
                table.setdefault(architecture, {})[tag] = row
    return table


def _tag(architecture: str, tag: str, row: dict[str, Any]) -> Tag:
    name = f"{architecture}.{tag}" if tag else architecture
    folder = TABLES.parent / row["folder"] if "folder" in row else None
    said = row if folder is None else _carried_cfg(folder)
    cfg = {key: _as_tuple(said.get(key, default)) for key, default in DEFAULTS.items()}
    return Tag(
        name,
        architecture,
        tag or None,
        _hub_id(architecture, tag, row),
        cfg,
        folder=folder,
        obstacle=row.get("obstacle"),
        lacks=tuple(row.get("lacks", ())),
    )


def _carried_cfg(folder: Path) -> dict[str, Any]:
    config = read_config(folder)
    return {**config["pretrained_cfg"], "num_classes": config["num_classes"]}


def _hub_id(architecture: str, tag: str, row: dict[str, Any]) -> str | None:
    if not tag or "folder" in row:
        return None
    return row.get("hub_id", f"timm/{architecture}.{tag}")


def _hub_tag(name: str, repository: str) -> Tag:
    hub_id, _, revision = repository.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", hub_id):
        raise InputError(f"{name!r} does not name a hub repository: write hf_hub:ORGANISATION/REPOSITORY")
    return Tag(name, None, None, hub_id, {}, revision=revision or None)


def _unknown_architecture(name: str, architecture: str) -> str:
    if "/" in name:
        return f"there is no file, folder or model {name!r}; a hub repository is written hf_hub:ORGANISATION/REPOSITORY"
    known = sorted(_registered(), key=_natural)
    hint = nearest(architecture, known)
    return f"unknown architecture {architecture!r}{hint or '; jaxtl list shows all models'}"


def _unknown_tag(architecture: str, wanted: str, tags: list[str]) -> str:
    if not tags:
        return (
            f"{architecture} has no pretrained weights, so not {wanted!r} either; weights=None starts from random ones"
        )
    hint = nearest(wanted, tags)
    return f"{architecture} has no pretrained weights {wanted!r}{hint or ';'} it has {', '.join(tags)}"


def _registered() -> set[str]:
    from jaxtl.models import registry

    return set(registry.names())


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(digits or 0), text) for digits, text in re.findall(r"(\d+)|(\D+)", name)]
