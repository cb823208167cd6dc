"""The model card: ``README.md`` of an exported folder, as the Hugging Face hub shows it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import yaml

from jaxtl import __version__
from jaxtl.errors import InputError
from jaxtl.judged import SHARES, in_words, judged_by
from jaxtl.model import Model
from jaxtl.pretrained import tags
from jaxtl.trees import flatten

CARD = "README.md"
_ELSEWHERE = ("/", "~", "..")  # how paths begin that say where on a machine something is
_MOST_CLASSES = 50  # named in the card; all are in config.json


def card(model: Model, training: Mapping[str, Any] | None = None, *, in_timm: bool = True) -> str:
    """A card for a model and what is known about its training, as ``jaxtl.save`` keeps it.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=2).replace(classes=("ant", "bee"))
    >>> print(card(model).partition("# ")[0])  # doctest: +NORMALIZE_WHITESPACE
    ---
    license: unknown
    library_name: timm
    pipeline_tag: image-classification
    tags: [image-classification, timm, jaxtl, jax]
    ---
    """
    training = shareable(training) or {}
    title = (
        f"{model.graph.architecture} for {_classes_in_short(model)}" if model.num_classes else f"{model.name}: features"
    )
    parts = [
        "---\n" + "".join(_front_matter(model, training, in_timm)) + "---",
        f"# {title}",
        *(_section(*section) for section in _sections(model, training, in_timm)),
        f"Written by [jaxtl](https://pypi.org/project/jaxtl) {__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def shareable(training: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The same record of a training without the machine's own folders: of a path its last part is left, and of images
    that were left out their number.

    >>> shareable({"recipe": {"data": {"source": "folder:/home/ann/flowers"}}})
    {'recipe': {'data': {'source': 'folder:flowers'}}}
    """
    if training is None:
        return None
    cleaned = copy.deepcopy(dict(training))
    recipe = cleaned.get("recipe") or {}
    model, data, used = recipe.get("model") or {}, recipe.get("data") or {}, cleaned.get("data") or {}
    for section, keys in ((model, ("name", "weights")), (data, ("source", "split_file")), (used, ("source",))):
        section |= {key: _without_folder(section[key]) for key in keys if isinstance(section.get(key), str)}
    if isinstance(left_out := used.get("left_out"), dict):
        used["left_out"] = {split: len(reasons) for split, reasons in left_out.items()}
    return cleaned


def _without_folder(place: str) -> str:
    """
    >>> [_without_folder(place) for place in ("csv:../patients: all/labels.csv", "/home/ann/a.pth", "a/b.pth")]
    ['csv:labels.csv', 'a.pth', 'a/b.pth']
    """
    kind, colon, path = ("", "", place) if place.startswith(_ELSEWHERE) else place.partition(":")
    return kind + colon + PurePath(path).name if path.startswith(_ELSEWHERE) else place


def _front_matter(model: Model, training: Mapping[str, Any], in_timm: bool) -> Iterator[str]:
    fields: dict[str, Any] = {
        "license": model.license or "unknown",
        "library_name": "timm" if in_timm else "jaxtl",
        "pipeline_tag": "image-classification" if model.num_classes else "image-feature-extraction",
    }
    if base := _base(model, training):
        fields["base_model"] = base
    yield yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    yield f"tags: [{fields['pipeline_tag']}, {'timm, ' if in_timm else ''}jaxtl, jax]\n"


def _from_random(model: Model, training: Mapping[str, Any]) -> bool:
    return not (model.pretrained and training.get("pretrained", True))


def _base(model: Model, training: Mapping[str, Any]) -> str | None:
    """The hub's repository of the weights it began with; a bare architecture may have had weights of its own."""
    try:
        tag = tags.find(model.name)
    except InputError:
        return None
    return None if _from_random(model, training) or model.name == tag.architecture else tag.hub_id


def _sections(model: Model, training: Mapping[str, Any], in_timm: bool) -> Iterator[tuple[str, list[str]]]:
    recipe, data, result = (training.get(key) or {} for key in ("recipe", "data", "result"))
    yield "Model", list(_model_lines(model, training))
    if model.num_classes:
        yield "Classes", [_class_names(model)]
    if lines := list(_data_lines(recipe, data)):
        yield "Data", lines
    if lines := list(_result_lines(result)):
        yield "Result", lines
    yield "Preprocessing", list(_preprocess_lines(model))
    yield "Use", [_USE_BY_TIMM + _USE if in_timm else _USE]
    if recipe:
        written = yaml.safe_dump(_said(recipe), sort_keys=False, allow_unicode=True)
        yield "Recipe", [f"```yaml\n{written}```"]


def _section(title: str, lines: list[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines)


def _model_lines(model: Model, training: Mapping[str, Any]) -> Iterator[str]:
    count = sum(leaf.size for leaf in flatten(model.params).values())
    yield f"- architecture: `{model.graph.architecture}`, {count:,} parameters"
    start = (training.get("recipe") or {}).get("model") or {}
    name = start.get("name") or model.name
    weights = start.get("weights")
    if _from_random(model, training):
        yield "- start: random weights"
    else:
        yield f"- base weights: `{name}`" + (f" from `{weights}`" if weights not in (None, "default") else "")
    yield f"- licence of the base weights: {model.license or 'not known; look it up before you share this model'}"


def _classes_in_short(model: Model) -> str:
    return ", ".join(model.classes) if model.classes and len(model.classes) <= 5 else f"{model.num_classes} classes"


def _class_names(model: Model) -> str:
    if model.classes is None:
        return f"{model.num_classes}, without names."
    named = ", ".join(model.classes[:_MOST_CLASSES])
    more = len(model.classes) - _MOST_CLASSES
    return f"{len(model.classes)}: {named}{f' and {more} more (in config.json)' if more > 0 else ''}."


def _data_lines(recipe: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[str]:
    source = data.get("source") or (recipe.get("data") or {}).get("source")
    if source:
        yield f"- source: `{source}`"
    if "train" in data:
        yield f"- images: {data['train']} to train, {data['val']} to validate ({data['split']})"
    if counts := data.get("train_by_class"):
        yield "- training images of each class: " + ", ".join(f"{name} {count}" for name, count in counts.items())


def _result_lines(result: Mapping[str, Any]) -> Iterator[str]:
    if (name := judged_by(result)) in SHARES:
        yield f"- validation {in_words(name)}: {100 * result[name]:.2f} %"
    numbers = {"val_loss": "validation loss", "train_accuracy": "training accuracy", "train_loss": "training loss"}
    for name, title in numbers.items():
        if name in result:
            yield f"- {title}: {result[name]:.4f}"
    if "epoch" in result:
        yield f"- after epoch {result['epoch']}, step {result.get('step')}"


def _preprocess_lines(model: Model) -> Iterator[str]:
    preprocess = model.preprocess
    height, width = preprocess.size
    how = {
        "center": "the shorter side is resized, the centre cropped",
        "squash": "both sides are resized",
        "border": "the longer side is resized, the rest filled with the mean colour",
    }[preprocess.crop_mode]
    yield f"- {height}x{width} pixels, {preprocess.channels} channels: {how}"
    yield f"- {preprocess.interpolation}, crop_pct {preprocess.crop_pct:g}"
    yield f"- mean {preprocess.mean}, std {preprocess.std}, of values from 0 to 1"


def _said(recipe: Mapping[str, Any]) -> Any:
    """A recipe without what it leaves open."""
    if isinstance(recipe, Mapping):
        return {key: _said(value) for key, value in recipe.items() if value not in (None, {}, [])}
    return recipe


_USE_BY_TIMM = """With timm (`hf-hub:OWNER/NAME` in the place of `local-dir:FOLDER` once it is on the hub):

```python
import timm

network = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(network.pretrained_cfg, model=network))
logits = network(transform(image).unsqueeze(0))  # image: PIL, RGB
```

"""

_USE = """With jaxtl, to predict or to train on:

```python
import jaxtl

model = jaxtl.load("FOLDER")  # or "hf_hub:OWNER/NAME"
jaxtl.predict(model, ["photo.jpg"])
```"""
