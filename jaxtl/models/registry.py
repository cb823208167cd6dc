"""Architectures by name. An architecture is data: a family's class and the keywords it is built with."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.models.head import hidden_widths
from jaxtl.models.network import Network, is_stack_of_blocks

_FAMILIES = (
    "cifar_resnet",
    "convnext",
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
)  # files beside this one, each with its table


@dataclass(frozen=True)
class Architecture:
    family: type[Network]
    options: Mapping[str, Any]


_architectures: dict[str, Architecture] = {}


def register(family: type[Network], table: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds architectures: name -> keywords for ``family``. A name that is taken raises ``ValueError``."""
    for name, options in table.items():
        if name in _architectures:
            raise ValueError(f"an architecture called {name!r} is registered already")
        _architectures[name] = Architecture(family, options)


@functools.cache
def _load_families() -> None:
    for family in _FAMILIES:
        importlib.import_module(f"jaxtl.models.{family}")


def names() -> list[str]:
    """All architectures that ``build`` knows, sorted.

    >>> "resnet50" in names()
    True
    """
    _load_families()
    return sorted(_architectures)


def family(name: str) -> type[Network]:
    """The class of an architecture.

    >>> family("resnet50").__name__
    'ResNet'
    """
    _load_families()
    return _architectures[name].family


def build(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    until: str | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    head: tuple[int, ...] = (),
    remat: bool = False,
    **overrides: Any,
) -> Network:
    """An abstract network: variables hold shapes, nothing is computed or allocated. It is in evaluation mode.

    Args:
        name: the architecture, by timm's name.
        num_classes: width of the head; ``None``: what the architecture was made for; 0: no head, pooled features.
        in_chans: channels of the images.
        until: the last stage before the head; ``None``: all stages.
        drop_rate: dropout before the head and between its layers, in training.
        drop_path_rate: stochastic depth of the last block, in training; earlier blocks have linearly less.
        head: widths of the head's hidden layers; none: one linear layer.
        remat: gradient checkpointing: the activations inside each block are computed a second time in the backward pass
            and not kept from the first, for about a third more arithmetic (Chen et al., https://arxiv.org/abs/1604.06174).
        overrides: further keywords of the family, e.g. ``output_stride=16`` or ``act_layer="silu"`` for ResNets.

    Raises:
        InputError: for an unknown architecture, option or stage, with what there is instead.

    >>> network = build("resnet18", num_classes=5, until="layer3")
    >>> network.stages, network.num_features
    (('stem', 'layer1', 'layer2', 'layer3', 'fc'), 256)
    """
    _load_families()
    if name not in _architectures:
        raise InputError(
            f"no architecture is called {name!r}{nearest(name, _architectures) or '; jaxtl list shows all'}"
        )
    architecture = _architectures[name]
    if head:
        overrides["head"] = hidden_widths(head)
    _check_options(name, architecture, overrides)
    options = {**architecture.options, **overrides, "in_chans": in_chans, "until": until}
    options |= {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
    if num_classes is not None:
        options["num_classes"] = num_classes
    network = architecture.family(**options)
    if remat:
        for _, module in nnx.iter_modules(network):
            if is_stack_of_blocks(module):
                module.remat = True
    return network


def option_names(name: str) -> list[str]:
    """What the family of an architecture can be built with, besides what every one takes; empty for unknown names.

    >>> "output_stride" in option_names("resnet50")
    True
    """
    _load_families()
    known = _architectures.get(name)
    return [] if known is None else list(inspect.signature(known.family.__init__).parameters)[1:]


def defaults(name: str) -> dict[str, Any]:
    """What an architecture is built with where nothing else is asked for: option -> value.

    >>> defaults("resnet50")["layers"], defaults("resnet50")["output_stride"]
    ((3, 4, 6, 3), 32)
    """
    _load_families()
    architecture = _architectures[name]
    signature = inspect.signature(architecture.family.__init__).parameters.values()
    known = {option.name: option.default for option in signature if option.default is not option.empty}
    return {**known, **architecture.options}


def differ_in_size_alone(first: str, second: str) -> bool:
    """Whether two architectures are one network under two names, perhaps for images of two sizes.

    >>> differ_in_size_alone("vit_tiny_patch16_224", "vit_tiny_patch16_384")
    True
    """
    _load_families()
    one, other = _architectures[first], _architectures[second]
    sized = [{key: value for key, value in made.options.items() if key != "img_size"} for made in (one, other)]
    return one.family is other.family and sized[0] == sized[1]


def _check_options(name: str, architecture: Architecture, overrides: Mapping[str, Any]) -> None:
    known = option_names(name)
    unknown = [f"{option!r}{nearest(option, known)}" for option in overrides if option not in known]
    if unknown:
        raise InputError(f"{name} has no option {', '.join(unknown)}; its options are {', '.join(known)}")
