"""``jaxtl.load`` and ``jaxtl.from_torch``: from a name and weights to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.models.graph import Graph
from jaxtl.notices import say
from jaxtl.pretrained import hub, names, tags, weight_files
from jaxtl.pretrained.config import read_config
from jaxtl.trees import unflatten


@dataclass(frozen=True)
class Source:
    """Where weights come from and what is known about them."""

    name: str
    architecture: str
    arrays: Mapping[str, Any] | None  # torch name -> array; None: random initialisation
    preprocess: dict[str, Any]  # fields as in timm's pretrained_cfg
    where: str
    num_classes: int | None = None  # where it is said; else the head's size
    classes: tuple[str, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    license: str | None = None


def load(
    name: str | Path,
    *,
    weights: str | Path | None = "default",
    num_classes: int | None = None,
    in_chans: int | None = None,
    until: str | None = None,
    seed: int = 0,
    **options: Any,
) -> Model:
    """A pretrained network as a Flax parameter tree.

    Args:
        name: timm's name with or without a tag (``"resnet50"``, ``"resnet50.a1_in1k"``), a repository on the Hugging
            Face hub (``"hf_hub:timm/resnet50.a1_in1k"``), or a folder that ``jaxtl.save`` or timm wrote.
        weights: ``"default"`` for the tag's own (downloaded once, then cached by huggingface_hub); a ``.safetensors``
            or torch file or a folder with one; ``None`` for random weights from ``seed``.
        num_classes: size of the new head. Default: as in the weights. With another number the head is freshly
            initialised from ``seed``, and that is said. 0: no head; the model returns pooled features.
        in_chans: channels of the images. Another number than in the weights adapts the first convolution as timm
            does: for 1 the RGB filters are summed, for n they are repeated and scaled by 3/n; mean and std follow.
        until: cuts the network after this stage; pooling and a new head follow.
        seed: of everything that is freshly initialised.
        options: what the architecture takes besides: ``drop_rate``, ``drop_path_rate``, ``output_stride``, ...

    Raises:
        InputError: an unknown name (the nearest are named), weights that do not fit (every difference is listed), a
            damaged file, or no network where weights have to be downloaded.

    >>> import jaxtl
    >>> model = jaxtl.load("resnet18", weights=None, num_classes=5)
    >>> model.stages
    ('stem', 'layer1', 'layer2', 'layer3', 'layer4', 'fc')
    """
    source = _from_folder(name, str(name), weights) if isinstance(name, Path) else _resolve(name, weights)
    return _build(source, num_classes=num_classes, in_chans=in_chans, until=until, seed=seed, options=options)


def from_torch(
    module: Any,
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    until: str | None = None,
    seed: int = 0,
    **options: Any,
) -> Model:
    """A model with the weights of a live torch module or of its state dict; arguments otherwise as for ``load``.

    A module that timm made brings its own preprocessing (``module.pretrained_cfg``). The arrays are copies.
    """
    state = module.state_dict() if hasattr(module, "state_dict") else module
    if not isinstance(state, Mapping):
        raise InputError(f"from_torch takes a torch module or a state dict; got a {type(module).__name__}")
    tag = tags.find(name)
    said = getattr(module, "pretrained_cfg", None) or {}
    where = f"the {type(module).__name__}"
    arrays = weight_files.arrays_of(state, where)
    source = Source(name, _architecture(tag, name), arrays, _completed(said, tag), where, license=said.get("license"))
    return _build(source, num_classes=num_classes, in_chans=in_chans, until=until, seed=seed, options=options)


def _resolve(name: str, weights: str | Path | None) -> Source:
    if (Path(name) / "config.json").is_file() or name.endswith("/") or name.startswith((".", "/", "~")):
        return _from_folder(Path(name), name, weights)
    tag = tags.find(name)
    if weights is None:
        return Source(name, _architecture(tag, name), None, tag.preprocess_dict(), "random initialisation")
    if weights != "default":
        file = Path(weights)
        if (file / "config.json").is_file():
            return _of_architecture(tag.architecture, _from_folder(file, name, "default"))
        architecture = _architecture(tag, name)
        return Source(name, architecture, weight_files.read(file), tag.preprocess_dict(), str(weights))
    if tag.folder is not None:
        return _from_folder(tag.folder, tag.name, "default")
    if tag.hub_id is None:
        raise InputError(
            f"no pretrained weights are known for {name}; "
            "pass weights=FILE for your own or weights=None for random ones"
        )
    folder = hub.fetch(tag.hub_id, tag.revision)
    return _of_architecture(tag.architecture, _from_folder(folder, tag.name, "default", tag))


def _architecture(tag: tags.Tag, name: str) -> str:
    if tag.architecture is None:
        raise InputError(f"{name} says its architecture only in its own config.json; give timm's name beside weights")
    return tag.architecture


def _of_architecture(architecture: str | None, source: Source) -> Source:
    if architecture not in (None, source.architecture):
        raise InputError(f"{source.where} holds a {source.architecture} and not a {architecture}, says its config.json")
    return source


def _from_folder(folder: Path, name: str, weights: str | Path | None, tag: tags.Tag | None = None) -> Source:
    if not (folder / "config.json").is_file():
        raise InputError(f"{name} is no folder with a config.json, as jaxtl.save and timm write them")
    config = read_config(folder)
    saved = config.get("jaxtl") or {}
    cfg = config["pretrained_cfg"]
    known = {} if tag is None else tag.pretrained_cfg
    options = {**config["model_args"], **(saved.get("options") or {})}
    return Source(
        name=saved.get("name", name),
        architecture=config["architecture"],
        arrays=None if weights is None else weight_files.read(folder if weights == "default" else Path(weights)),
        preprocess=_completed(cfg, tag),
        where=str(folder),
        num_classes=config["num_classes"],
        classes=tuple(config["label_names"] or ()) or None,
        options={key: _tuples(value) for key, value in options.items() if key != "num_classes"},
        license=cfg.get("license") or known.get("license"),
    )


def _completed(said: Mapping[str, Any], tag: tags.Tag | None) -> dict[str, Any]:
    """A ``pretrained_cfg`` with the tag's values for whatever it does not say about the preprocessing."""
    known = {} if tag is None else tag.preprocess_dict()
    return {**known, **{key: value for key, value in said.items() if value is not None}}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _build(
    source: Source,
    *,
    num_classes: int | None,
    in_chans: int | None,
    until: str | None,
    seed: int,
    options: dict[str, Any],
) -> Model:
    notes: list[str] = []
    options = {**source.options, **options}
    until = until or options.pop("until", None)
    options.pop("until", None)
    preprocess = Preprocess.from_dict(source.preprocess)
    if source.arrays is None:
        num_classes = source.num_classes if num_classes is None else num_classes
        channels = in_chans or options.pop("in_chans", None) or preprocess.channels
        graph = Graph.shared(source.architecture, num_classes=num_classes, in_chans=channels, until=until, **options)
        new_head = False
        arrays: dict[str, Any] = graph.initialise([*graph.params, *graph.batch_stats], seed)
        notes.append(f"all weights of {source.name} are random, from seed {seed}")
    else:
        options.pop("in_chans", None)
        graph, arrays, new_head = _fill(source, num_classes, in_chans, until, seed, options, notes)
        channels = graph.options["in_chans"]
    if channels != preprocess.channels:
        preprocess = preprocess.with_channels(channels)
        notes.append(
            f"mean and std follow the {channels} input channel{'s' * (channels != 1)}: "
            f"{preprocess.mean}, {preprocess.std}"
        )
    for note in notes:
        say(note)
    known = source.classes is not None and not new_head and len(source.classes) == graph.network.num_classes
    return Model(
        graph=graph,
        params=_nested(arrays, graph.params),
        batch_stats=_nested(arrays, graph.batch_stats),
        preprocess=preprocess,
        name=source.name,
        classes=source.classes if known else None,
        notes=tuple(notes),
        license=source.license,
    )


def _fill(
    source: Source,
    num_classes: int | None,
    in_chans: int | None,
    until: str | None,
    seed: int,
    options: dict[str, Any],
    notes: list[str],
) -> tuple[Graph, dict[str, Any], bool]:
    """The graph, its arrays by path, and whether the head is a new one."""
    assert source.arrays is not None
    whole = Graph.shared(source.architecture, **options)
    arrays = _renamed(source.arrays, type(whole.network).aliases)
    found = names.source_shapes(arrays)
    head_weight = names.torch_name(f"{whole.head}.kernel")
    wants_head = bool(num_classes)
    if num_classes is None:
        num_classes = _stored_classes(source, whole, found, head_weight)
    stem_weight = names.torch_name(whole.first_conv)
    stored_channels = found[stem_weight][1] if stem_weight in found else 3
    in_chans = in_chans or stored_channels
    graph = Graph.shared(source.architecture, num_classes=num_classes, in_chans=in_chans, until=until, **options)

    dropped = _cut(graph, whole, found, notes)
    shapes = {path: tuple(leaf.shape) for path, leaf in (graph.params | graph.batch_stats).items()}
    head = {path for path in shapes if path.startswith(f"{graph.head}.")}
    new_head = bool(head) and _head_is_new(graph, shapes, found, head_weight, wants_head, cut=until is not None)
    if new_head or not head:
        dropped |= {name for name in found if name.startswith(f"{whole.head}.")}
    if new_head:
        before = f"{found[head_weight][0]} classes" if head_weight in found else "none"
        notes.append(
            f"the head {graph.head!r} ({before} in the weights) is new: "
            f"{num_classes} classes, initialised from seed {seed}"
        )
    kept = _Selection(arrays, [name for name in found if name not in dropped])
    stem = graph.first_conv
    if stored_channels != in_chans:
        shapes[stem] = (*shapes[stem][:2], stored_channels, *shapes[stem][3:])
        notes.append(f"{stem} is adapted from {stored_channels} to {in_chans} input channels")
    wanted = {path: shape for path, shape in shapes.items() if not (new_head and path in head)}
    filled: dict[str, Any] = graph.initialise(sorted(head), seed) if new_head else {}
    for path, array in names.converted(kept, wanted, source.where):
        filled[path] = jax.device_put(adapt_input(array, in_chans) if path == stem else array)
    return graph, filled, new_head


def _stored_classes(source: Source, whole: Graph, found: Mapping[str, Any], head_weight: str) -> int:
    """How many classes the weights are for."""
    if head_weight in found:
        return found[head_weight][0]
    if source.num_classes == 0:
        return 0
    body = {names.torch_name(p) for p in whole.params | whole.batch_stats if not p.startswith(f"{whole.head}.")}
    if body <= found.keys():
        raise InputError(
            f"{source.where} holds no head ({head_weight}); pass num_classes=N for a new one, or 0 for features alone"
        )
    return whole.network.num_classes  # more than the head is missing: all of it is listed together


def _head_is_new(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    found: Mapping[str, Any],
    head_weight: str,
    wanted: bool,
    cut: bool,
) -> bool:
    """Another number of classes than stored, none stored, or other features in front of it than it was trained on."""
    if head_weight not in found:
        return wanted
    if found[head_weight][0] != graph.network.num_classes:
        return True
    path = f"{graph.head}.kernel"
    return cut and found[head_weight] != names.torch_shape(path, shapes[path])


def adapt_input(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first convolution's kernel (H, W, C, O) for another number of input channels, by timm's rule.

    One channel: the filters are summed. Otherwise they are repeated and scaled by C / channels, so that an image
    with equal channels gives the same output as before.

    >>> adapt_input(np.ones((1, 1, 3, 1), np.float32), 1).ravel().tolist()
    [3.0]
    >>> adapt_input(np.ones((1, 1, 3, 1), np.float32), 6).ravel().tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    """
    stored = kernel.shape[2]
    if stored == channels:
        return kernel
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.tile(kernel, (1, 1, -(-channels // stored), 1))[:, :, :channels]
    return repeated * np.float32(stored / channels)


def _cut(graph: Graph, whole: Graph, found: Mapping[str, Any], notes: list[str]) -> set[str]:
    cut = [stage for stage in whole.stages if stage not in graph.stages]
    names_cut = {names.torch_name(path) for path in (whole.params | whole.batch_stats) if whole.stage_of(path) in cut}
    counters = {f"{name.rpartition('.')[0]}.{names.COUNTER}" for name in names_cut}
    dropped = (names_cut | counters) & set(found)
    if dropped:
        notes.append(f"{', '.join(cut)} cut off; the network ends after {graph.stages[-2]}")
    return dropped


def _renamed(arrays: Mapping[str, Any], aliases: Mapping[str, str]) -> Mapping[str, Any]:
    pairs = {}
    for name in arrays:
        top, dot, rest = name.partition(".")
        pairs[f"{aliases.get(top, top)}{dot}{rest}"] = name
    return _Selection(arrays, list(pairs), pairs)


class _Selection(Mapping):
    """Some of a source's arrays, perhaps under other names, still read one at a time."""

    def __init__(self, source: Mapping[str, Any], keys: list[str], original: Mapping[str, str] | None = None):
        self._source = source
        self._original = {key: (original or {}).get(key, key) for key in keys}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        found = names.source_shapes(self._source)
        return {key: found[name] for key, name in self._original.items()}

    def __getitem__(self, key: str) -> Any:
        return self._source[self._original[key]]

    def __iter__(self) -> Any:
        return iter(self._original)

    def __len__(self) -> int:
        return len(self._original)


def _nested(arrays: dict[str, Any], paths: Mapping[str, Any]) -> dict[str, Any]:
    return unflatten({path: jax.device_put(arrays.pop(path)) for path in paths})
