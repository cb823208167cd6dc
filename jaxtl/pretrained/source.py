"""Where weights come from: a name, a folder or a file becomes arrays and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxtl.errors import InputError, nearest
from jaxtl.files import expanded
from jaxtl.models import registry
from jaxtl.pretrained import hub, tags, weight_files
from jaxtl.pretrained.checkpoint import check_architecture, notes_on
from jaxtl.pretrained.config import CONFIG, read_config


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
    task: str = "class"
    options: dict[str, Any] = field(default_factory=dict)
    license: str | None = None
    assumed: bool = False  # the preprocessing is the architecture's; nothing said which belongs to these weights
    lacks: tuple[str, ...] = ()  # modules in front of the head that are known to be missing from the arrays
    notes: tuple[str, ...] = ()  # to be said to the user


def resolve(name: str, weights: str | Path | None) -> Source:
    """The source that a name and ``weights`` mean, as ``jaxtl.load`` takes them; downloads what is not there yet."""
    folder = expanded(name)
    if (folder / CONFIG).is_file() or name.endswith("/") or name.startswith((".", "/", "~")):
        return from_folder(folder, name, weights)
    try:
        tag = tags.find(name)
    except InputError:
        if folder.is_dir() or folder.is_file():
            return from_folder(folder, name, weights)
        raise
    if weights is None:
        architecture, classes = architecture_of(tag, name), tag.pretrained_cfg.get("num_classes")
        return Source(name, architecture, None, tag.preprocess_dict(), "random initialisation", num_classes=classes)
    if weights != "default":
        file = expanded(weights)
        if (file / CONFIG).is_file():
            return _of_architecture(tag.architecture, from_folder(file, name, "default"))
        architecture = architecture_of(tag, name)
        arrays = weight_files.read(file)
        check_architecture(arrays, architecture, str(weights))
        preprocess = tag.preprocess_dict()
        headless = 0 if tag.pretrained_cfg.get("num_classes") == 0 else None
        return Source(
            name,
            architecture,
            arrays,
            preprocess,
            str(weights),
            num_classes=headless,
            assumed=True,
            notes=notes_on(arrays, preprocess, architecture),
        )
    if tag.folder is not None:
        return from_folder(tag.folder, tag.name, "default")
    if tag.obstacle is not None:
        raise InputError(
            f"jaxtl cannot fetch the weights of {tag.name}: {tag.obstacle}; timm can: "
            f"jaxtl.from_torch(timm.create_model({tag.name!r}, pretrained=True), {tag.architecture!r})"
        )
    if tag.hub_id is None:
        raise InputError(
            f"no pretrained weights are known for {name}; "
            "pass weights=FILE for your own or weights=None for random ones"
        )
    check = _known_architecture if tag.architecture is None else None
    source = from_folder(hub.fetch(tag.hub_id, tag.revision, check=check), tag.name, "default", tag)
    return source if tag.architecture is None else _of_table(tag, source)


def architecture_of(tag: tags.Tag, name: str) -> str:
    """The architecture behind a tag; an ``InputError`` where only its own ``config.json`` says it."""
    if tag.architecture is None:
        raise InputError(f"{name} says its architecture only in its own config.json; give timm's name beside weights")
    return tag.architecture


def _known_architecture(config: Mapping[str, Any]) -> None:
    if config["architecture"] not in (known := registry.names()):
        hint = nearest(config["architecture"], known)
        raise InputError(f"jaxtl has no network called {config['architecture']!r}{hint or '; jaxtl list shows all'}")


def _of_architecture(architecture: str | None, source: Source) -> Source:
    if architecture not in (None, source.architecture):
        raise InputError(f"{source.where} holds a {source.architecture} and not a {architecture}, says its config.json")
    return source


def _of_table(tag: tags.Tag, source: Source) -> Source:
    """A hub repository as the table means it; like timm, which reads only its weights, some of them for two."""
    assert tag.hub_id is not None
    assert tag.architecture is not None
    if source.architecture != tag.hub_id.rpartition("/")[2].partition(".")[0]:
        source = _of_architecture(tag.architecture, source)
    return replace(source, architecture=tag.architecture, options={}, lacks=tag.lacks)


def from_folder(folder: Path, name: str, weights: str | Path | None, tag: tags.Tag | None = None) -> Source:
    """The source in a folder with a ``config.json``; what that leaves open about preprocessing, the tag says."""
    if folder.is_file():
        raise InputError(
            f"{name} is a file, which does not say of which network: name that as well, "
            f"jaxtl.load('resnet18', weights={str(name)!r}), or resnet18 --weights {name}"
        )
    if not (folder / CONFIG).is_file():
        inside = [str(folder / part) for part in ("best", "model") if (folder / part / CONFIG).is_file()]
        hint = f"; it has {' and '.join(inside)}" if inside else ""
        raise InputError(f"{name} is no folder with a {CONFIG}, as jaxtl.save and timm write them{hint}")
    config = read_config(folder)
    saved = config.get("jaxtl") or {}
    cfg = config["pretrained_cfg"]
    known = {} if tag is None else tag.pretrained_cfg
    options = {**_buildable(config["architecture"], config["model_args"]), **(saved.get("options") or {})}
    return Source(
        name=saved.get("name", name),
        architecture=config["architecture"],
        arrays=None if weights is None else weight_files.read(folder if weights == "default" else expanded(weights)),
        preprocess=completed(cfg, tag),
        where=str(folder),
        num_classes=config["num_classes"],
        classes=tuple(config["label_names"] or ()) or None,
        task=saved.get("task", "class"),
        options={key: _tuples(value) for key, value in options.items() if key != "num_classes"},
        license=cfg.get("license") or known.get("license"),
    )


def model_of(name: str | Path) -> str:
    """The folder of the best model that a run wrote, or of its last, where a name is the run's output; else the name.

    >>> model_of("resnet18")
    'resnet18'
    """
    place = expanded(name)
    if (place / CONFIG).is_file():
        return str(name)
    return next((str(place / part) for part in ("best", "model") if (place / part / CONFIG).is_file()), str(name))


def _buildable(architecture: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """timm's arguments without average pooling, which it also writes where a network has no other."""
    by_mean = arguments.get("global_pool") == "avg" and "global_pool" not in registry.option_names(architecture)
    return {key: value for key, value in arguments.items() if not (by_mean and key == "global_pool")}


def completed(said: Mapping[str, Any], tag: tags.Tag | None) -> dict[str, Any]:
    """A ``pretrained_cfg`` with the tag's values for whatever it does not say about the preprocessing."""
    known = {} if tag is None else tag.preprocess_dict()
    return {**known, **{key: value for key, value in said.items() if value is not None}}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
