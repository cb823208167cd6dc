"""Weights with torchvision's names: read as timm's, and written.

torchvision's files are known by their names. Nothing in a file says which preprocessing belongs to it, and nothing in
that of a ResNet tells it from timm's, because the names are the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flax import nnx

from jaxtl.data.preprocess import IMAGENET_MEAN, IMAGENET_STD
from jaxtl.models.graph import Graph
from jaxtl.models.layers import BatchNorm
from jaxtl.models.registry import defaults, option_names
from jaxtl.pretrained import names
from jaxtl.pretrained.source import Source
from jaxtl.pretrained.torchvision_names import BUILDERS, EARLIER, UNUSED, Builder, Place, is_known, places

_WITHOUT_EFFECT = ("num_classes", "in_chans", "drop_rate", "drop_path_rate", "bn_eps", "remat")
"""Options that leave the names and the structure of a network as they are."""


def adopted(source: Source, options: Mapping[str, Any], notes: list[str]) -> Source:
    """The same source under timm's names, where its names are torchvision's; any other source as it is.

    Preprocessing of which nothing is known becomes torchvision's, and ``options`` of the source what torchvision's
    network has otherwise than timm's.
    """
    if source.arrays is None or not (wanted := _shapes(source.architecture, options)):
        return source
    found = names.source_shapes(source.arrays)
    stored = {_of_today(name): name for name in found if not re.fullmatch(UNUSED, name)}
    table = places(source.architecture, wanted)
    theirs = sum(table[name][0] in stored for name in table) > sum(name in stored for name in table)
    if not theirs:
        same = {name: (key, "same") for name, key in stored.items()}
        return source if stored.keys() == found.keys() else replace(source, arrays=_Renamed(source.arrays, same, {}))
    kept = {name: (stored[place], form) for name, (place, form) in table.items() if place in stored}
    known = {place for place, _ in table.values()}
    kept |= {name: (key, "same") for name, key in stored.items() if name not in known}
    builder = BUILDERS.get(source.architecture)
    notes.append(f"the weights have torchvision's names{f' ({builder.name})' if builder else ''}")
    preprocess, more = source.preprocess, dict(source.options)
    if source.assumed:
        preprocess = _preprocess(preprocess, builder)
        side = preprocess["input_size"][-1]
        pixels = f"{side} pixels of {round(side / preprocess['crop_pct'])}"
        colours = f"mean {preprocess['mean']}, std {preprocess['std']}"
        notes.append(f"preprocessing is torchvision's: {pixels}, {preprocess['interpolation']}, {colours}")
    if builder and builder.bn_eps and "bn_eps" in option_names(source.architecture) and "bn_eps" not in options:
        more["bn_eps"] = builder.bn_eps
        notes.append(f"bn_eps={builder.bn_eps}, as torchvision has it")
    return replace(source, arrays=_Renamed(source.arrays, kept, wanted), preprocess=preprocess, options=more)


def _shapes(architecture: str, options: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """timm's name -> torch's shape in the whole network, with a head; empty for a family that torchvision has not."""
    if not is_known(architecture):
        return {}
    graph = Graph.shared(architecture, **{**options, "num_classes": 1, "head": (), "until": None})
    leaves = graph.params | graph.batch_stats
    return {names.torch_name(path): names.torch_shape(path, leaf.shape) for path, leaf in leaves.items()}


def _of_today(name: str) -> str:
    for pattern, today in EARLIER:
        name = re.sub(pattern, today, name)
    return name


def _preprocess(assumed: Mapping[str, Any], builder: Builder | None) -> dict[str, Any]:
    mean, std = ((0.5,) * 3, (0.5,) * 3) if builder and builder.half else (IMAGENET_MEAN, IMAGENET_STD)
    known = {**assumed, "mean": mean, "std": std}
    if builder:
        known |= {
            "input_size": (3, builder.size, builder.size),
            "interpolation": builder.interpolation,
            "crop_pct": builder.size / builder.resize,
            "crop_mode": "center",
        }
    return known


def builder_of(graph: Graph) -> Builder | None:
    """torchvision's function that makes the network of a graph, where it has one: whole, with a head for RGB images."""
    usual = defaults(graph.architecture)
    changed = [key for key, value in graph.options.items() if key not in _WITHOUT_EFFECT and value != usual[key]]
    if changed or graph.options.get("in_chans", 3) != 3 or not graph.network.num_classes:
        return None
    return BUILDERS.get(graph.architecture)


def to_torchvision(state: Mapping[str, np.ndarray], graph: Graph) -> dict[str, np.ndarray]:
    """A state dict for the network that ``builder_of(graph).name`` makes, from one with timm's names.

    Where torchvision's BatchNorms have another epsilon, the variances make up for it: the sum of both stays.
    """
    builder = BUILDERS[graph.architecture]
    eps = {module.eps for _, module in nnx.iter_modules(graph.network) if isinstance(module, BatchNorm)}
    shift = np.float32((eps.pop() if len(eps) == 1 else 0.0) - (builder.bn_eps or 1e-5)) if eps else np.float32(0)
    stored: dict[str, np.ndarray] = {}
    for name, (place, form) in places(graph.architecture, state).items():
        array = state[name]
        if form == "matrix":
            array = array.reshape(len(array), -1)
        elif form == "column":
            array = array[:, None, None]
        elif form == "first third":
            array = np.concatenate([array, np.zeros_like(array), state[name.replace("q_bias", "v_bias")]])
        elif form == "last third":
            continue
        elif name.endswith("running_var"):
            array = array + shift
        stored[place] = array
    return dict(sorted((stored | _swin_tables(stored, graph.architecture)).items()))


def _swin_tables(stored: Mapping[str, np.ndarray], architecture: str) -> dict[str, np.ndarray]:
    """What torchvision keeps beside the weights of each attention of a Swin: which pair of places has which offset."""
    if (match := re.search(r"^swin.*window(\d+)", architecture)) is None:
        return {}
    side = int(match[1])
    rows, columns = (axis.ravel() for axis in np.indices((side, side)))
    down, right = (axis[:, None] - axis + side - 1 for axis in (rows, columns))
    index = (down * (2 * side - 1) + right).ravel()
    offsets = np.stack(np.meshgrid(*[np.arange(1 - side, side, dtype=np.float32)] * 2, indexing="ij"), -1)
    offsets = offsets / np.float32(side - 1) * 8
    table = (np.sign(offsets) * np.log2(np.abs(offsets) + 1) / 3)[None]
    attentions = [name.removesuffix(".qkv.weight") for name in stored if name.endswith(".attn.qkv.weight")]
    found = {f"{attention}.relative_position_index": index for attention in attentions}
    if architecture.startswith("swinv2"):
        found |= {f"{attention}.relative_coords_table": table.astype(np.float32) for attention in attentions}
    return found


class _Renamed(Mapping):
    """Arrays of a source under timm's names and in timm's shapes, still read one at a time."""

    def __init__(self, source: Mapping[str, Any], places: Mapping[str, Place], wanted: Mapping[str, tuple[int, ...]]):
        self._source = source
        self._places = places
        self._wanted = wanted

    def shapes(self) -> dict[str, tuple[int, ...]]:
        found = names.source_shapes(self._source)
        return {name: self._shape(name, found[key]) for name, (key, _) in self._places.items()}

    def _shape(self, name: str, stored: tuple[int, ...]) -> tuple[int, ...]:
        form = self._places[name][1]
        if form == "matrix" and len(stored) == 2 and stored[1] % math.prod(self._wanted[name][2:]) == 0:
            kernel = self._wanted[name][2:]
            return (stored[0], stored[1] // math.prod(kernel), *kernel)
        if form == "column":
            return stored[:1]
        return (stored[0] // 3, *stored[1:]) if form.endswith("third") else stored

    def __getitem__(self, name: str) -> Any:
        key, form = self._places[name]
        array = np.asarray(self._source[key])
        shape = self._shape(name, array.shape)
        if form.endswith("third"):
            return array[: shape[0]] if form == "first third" else array[-shape[0] :]
        return array.reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
