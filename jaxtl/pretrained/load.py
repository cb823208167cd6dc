"""``jaxtl.load`` and ``jaxtl.from_torch``: from a name and weights to a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError
from jaxtl.model import Model, class_names
from jaxtl.models.convolution import pair
from jaxtl.models.graph import Graph
from jaxtl.models.head import hidden_widths
from jaxtl.models.registry import option_names
from jaxtl.notices import quiet, say
from jaxtl.pretrained import live, tags, weight_files
from jaxtl.pretrained.fill import fill
from jaxtl.pretrained.source import Source, architecture_of, completed, from_folder, resolve
from jaxtl.pretrained.torchvision import adopted
from jaxtl.pretrained.wrappers import unwrapped
from jaxtl.trees import unflatten


def load(
    name: str | Path,
    *,
    weights: str | Path | None = "default",
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
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
            or torch file (of a checkpoint the running average, where it has one) or a folder with one; ``None`` for
            random weights from ``seed``.
        num_classes: size of the new head. Default: as in the weights. With another number the head is freshly
            initialised from ``seed``, and that is said. 0: no head; the model returns pooled features.
        classes: names of the classes to tell apart, in place of ``num_classes``. The head is kept where the weights
            name the same classes in this order; any other is freshly initialised, one for as many classes as well.
        in_chans: channels of the images. Another number than in the weights adapts the first convolution as timm
            does: for 1 the RGB filters are summed, for n they are repeated and scaled by 3/n; mean and std follow.
        until: cuts the network after this stage; pooling and a new head follow.
        seed: of everything that is freshly initialised.
        options: ``img_size``, the side of the images in pixels or (height, width): transformers are built for it, with
            stored position embeddings resized, and the preprocessing follows. What the architecture takes besides:
            ``head=(512,)`` for a head with hidden layers of these widths, ``drop_rate``, ``drop_path_rate``,
            ``output_stride``, ...

    Raises:
        InputError: an unknown name (the nearest are named), weights that do not fit (every difference is listed), a
            damaged file, or no network where weights have to be downloaded.

    >>> import jaxtl
    >>> model = jaxtl.load("resnet18", weights=None, num_classes=5)
    >>> model.stages
    ('stem', 'layer1', 'layer2', 'layer3', 'layer4', 'fc')
    """
    source = from_folder(name, str(name), weights) if isinstance(name, Path) else resolve(name, weights)
    return _build(
        source,
        num_classes=num_classes,
        classes=None if classes is None else _names(classes, num_classes),
        in_chans=in_chans,
        until=until,
        seed=seed,
        options=options,
    )


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

    A module that timm made brings its own preprocessing (``module.pretrained_cfg``), the sizes of images and patches
    that it was built for, and a transformer its pooling. Whatever else it was built with otherwise than by
    ``timm.create_model(name)`` is to be passed again, such as ``act_layer="silu"``: what the module and the model
    compute from a random image is compared, before classes, channels or the size of images are changed, unless timm
    builds the same module from the name and ``options``. Of a state dict the names and shapes alone are checked. The
    arrays are copies, and the module stays as it is.

    Raises:
        InputError: as ``load``; or the module computes something else than the model.
    """
    is_live = live.is_module(module)
    state = module.state_dict() if is_live else module
    if not isinstance(state, Mapping):
        raise InputError(f"from_torch takes a torch module or a state dict; got a {type(module).__name__}")
    tag = tags.find(name)
    where = f"the {type(module).__name__}"
    network = weight_files.inside(module, state) if is_live else None
    said = getattr(network, "pretrained_cfg", None) or {}
    arrays = weight_files.arrays_of(state, where)
    architecture = architecture_of(tag, name)
    built_with = live.built_with(network, architecture)
    classes = getattr(network, "num_classes", None)
    source = Source(
        name,
        architecture,
        arrays,
        completed(said, tag),
        where,
        num_classes=classes if built_with or classes == 0 else None,
        options=built_with,
        license=said.get("license"),
        assumed=not said,
    )
    model = _build(source, num_classes=num_classes, in_chans=in_chans, until=until, seed=seed, options=options)
    if is_live:
        changed = (num_classes, in_chans, until) != (None,) * 3 or not options.keys().isdisjoint(("head", "img_size"))
        whole = _as_built(source, options, seed) if changed else model
        if whole is not None:
            live.check(network, whole, where)
    return model


def _as_built(source: Source, options: Mapping[str, Any], seed: int) -> Model | None:
    """The model of a module before its head or the size of its images is changed; ``None`` where the options leave open
    which that is, or jaxtl has none."""
    resized = "img_size" in options and "img_size" in option_names(source.architecture)
    if resized and not options.keys().isdisjoint(("patch_size", "window_size")):
        return None
    kept = {key: value for key, value in options.items() if key != "head" and not (resized and key == "img_size")}
    try:
        with quiet():
            return _build(source, num_classes=None, in_chans=None, until=None, seed=seed, options=kept)
    except InputError:
        return None


def _check(name: str, value: Any, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63):
        raise InputError(f"{name} must be a whole number from {least} on, not {value!r}")


def _names(classes: Sequence[str], num_classes: int | None) -> tuple[str, ...]:
    names = class_names(classes)
    if num_classes not in (None, len(names)):
        raise InputError(f"classes names {len(names)} and num_classes is {num_classes}; give one of the two")
    return names


_NOT_OF_THE_BODY = ("until", "in_chans", "head")


def _build(
    source: Source,
    *,
    num_classes: int | None,
    classes: tuple[str, ...] | None = None,
    in_chans: int | None,
    until: str | None,
    seed: int,
    options: dict[str, Any],
) -> Model:
    _check("num_classes", num_classes, 0)
    _check("in_chans", in_chans, 1)
    _check("seed", seed, 0)
    num_classes = num_classes if classes is None else len(classes)
    other_classes = classes is not None and classes != source.classes
    notes: list[str] = [*source.notes]
    size = options.get("img_size", source.options.get("img_size"))
    if "img_size" not in option_names(source.architecture):
        options = {
            key: value for key, value in options.items() if key != "img_size"
        }  # the preprocessing alone knows it
    built_with = {key: value for key, value in {**source.options, **options}.items() if key not in _NOT_OF_THE_BODY}
    source = unwrapped(source, built_with, until or options.get("until") or source.options.get("until"), notes)
    source = adopted(source, {**source.options, **options}, notes)
    head_given = "head" in options
    options = {**source.options, **options}
    head = hidden_widths(options.pop("head", ()))
    other_head = head_given and head != source.options.get("head")
    if head:
        options["head"] = head
    until = until or options.pop("until", None)
    options.pop("until", None)
    stored_channels = options.pop("in_chans", None)
    preprocess = Preprocess.from_dict(source.preprocess)
    if size is not None and pair(size) != preprocess.size:
        preprocess = preprocess.replace(size=size)
        notes.append(f"images are prepared at {' x '.join(map(str, preprocess.size))} pixels, as img_size={size} asks")
    if source.arrays is None:
        num_classes = source.num_classes if num_classes is None else num_classes
        channels = in_chans or stored_channels or preprocess.channels
        graph = Graph.shared(source.architecture, num_classes=num_classes, in_chans=channels, until=until, **options)
        new_head = False
        arrays: dict[str, Any] = graph.initialise([*graph.params, *graph.batch_stats], seed)
        notes.append(f"all weights of {source.name} are random, from seed {seed}")
    else:
        graph, arrays, new_head = fill(
            source, num_classes, in_chans, until, seed, options, notes, other_head, other_classes
        )
        channels = graph.options["in_chans"]
    if head and head_given and not graph.network.num_classes:
        raise InputError(f"head={head} needs classes to lead to; pass num_classes=N")
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
        classes=classes or (source.classes if known else None),
        notes=tuple(notes),
        license=source.license,
        pretrained=source.arrays is not None,
        loaded_preprocess=preprocess,
        task="class" if new_head or other_classes else source.task,
    )


def _nested(arrays: dict[str, Any], paths: Mapping[str, Any]) -> dict[str, Any]:
    return unflatten({path: jax.device_put(arrays.pop(path)) for path in paths})
