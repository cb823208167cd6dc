"""The sections of a recipe: which network, which images, which optimizers, which schedule."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-4 as text; nobody who writes it means text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"must go from the smaller to the larger number, not {list(pair)}")
    return pair


def _at_most_one(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError(f"must not go above 1, the whole image, not {list(pair)}")
    return pair


def _square(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def named(default: str) -> BeforeValidator:
    """Takes a mapping without a ``name`` to be of the default kind."""
    return BeforeValidator(lambda value: {"name": default, **value} if isinstance(value, Mapping) else value)


def _augment_kind(value: Any) -> str:
    return "preset" if isinstance(value, str) else "ranges"


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Range = Annotated[
    tuple[Annotated[Number, Field(gt=0)], Annotated[Number, Field(gt=0)]], Field(strict=False), AfterValidator(_ordered)
]
Text = Annotated[str, Field(min_length=1)]
Location = Annotated[Text, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)]
Size = Annotated[
    tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]],
    Field(strict=False),
    BeforeValidator(_square, json_schema_input_type=int | tuple[int, int]),
]
Group = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class ModelSection(Section):
    """Which network, and which weights it starts from."""

    name: Location
    """A name of timm's, "architecture.tag", "hf_hub:owner/repository", or a folder saved by jaxtl."""
    weights: Location | None = "default"
    """The word "default" (the name's own), null (random, seeded), or a .safetensors or .pth file or folder."""
    until: Text | None = None
    """Cut the network after this stage; null keeps all of it."""
    drop_rate: Annotated[Number, Field(ge=0, lt=1)] | None = None
    """Dropout before the head, a probability; null: as it was saved, else none."""
    drop_path_rate: Annotated[Number, Field(ge=0, lt=1)] | None = None
    """Stochastic depth of the last block, a probability; null: as it was saved, else none."""


class Augment(Section):
    """Random changes of the training images, in this order; ``jaxtl.data.augment`` says how each is done."""

    scale: Annotated[Range, AfterValidator(_at_most_one)] | None = (0.35, 1.0)
    """The random crop's area as a part of the image: smallest and largest; null: evaluation's crop."""
    ratio: Range = (0.75, 4 / 3)
    """The random crop's width over its height: smallest and largest."""
    flip: Fraction = 0.5
    """Probability of mirroring left and right."""
    rotate: Annotated[Number, Field(ge=0, le=180)] = 0.0
    """Largest angle in degrees, to either side."""
    shear: Annotated[Number, Field(ge=0, lt=90)] = 0.0
    """Largest horizontal shear in degrees, to either side."""
    zoom: Range = (1.0, 1.0)
    """Smallest and largest factor."""
    translate: Fraction = 0.0
    """Largest shift, as a part of each side."""


class DataSection(Section):
    """Which images, how they are cut to the network's input, and how they are split."""

    source: Text
    """Where the images are, for example "folder:path/to/images" (one folder for each class) or "digits"."""
    size: Size | None = None
    """The network's input in pixels, one number or [height, width]; null: what belongs to the weights."""
    crop_pct: Annotated[Number, Field(gt=0, le=2)] | None = None
    """Part of the resized image that evaluation's centre crop keeps; null: what belongs to the weights."""
    augment: Annotated[
        Annotated[Literal["auto", "none", "light", "glyph"], Tag("preset")] | Annotated[Augment, Tag("ranges")],
        Discriminator(_augment_kind),
    ] = "auto"
    """The word "auto" (what suits the source), "none", "light" (crops, flips) or "glyph" (no flips), or the ranges."""
    val_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    """Part of the images held out for validation, where the source has no split of its own."""
    train_samples: Annotated[int, Field(gt=0)] | None = None
    """Train on only so many images, drawn alike from every class; null: on all."""


class AdamW(Section):
    """AdamW (Loshchilov and Hutter, 2019)."""

    name: Literal["adamw"] = "adamw"
    lr: Annotated[Number, Field(gt=0)]
    """The schedule's peak."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.01
    decay_norm_and_bias: bool = False
    """Whether weight decay also pulls on normalisation parameters and biases."""


class SGD(Section):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: Annotated[Number, Field(gt=0)]
    """The schedule's peak."""
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    decay_norm_and_bias: bool = False
    """Whether weight decay also pulls on normalisation parameters and biases."""


class Cosine(Section):
    """A linear rise to the peak, then half a cosine down (Loshchilov and Hutter, 2017)."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: Annotated[Number, Field(ge=0)] = 0.5
    final: Fraction = 0.01
    """The last rate, as a fraction of the peak."""


class Constant(Section):
    """A linear rise to the peak, which is then kept."""

    name: Literal["constant"] = "constant"
    warmup_epochs: Annotated[Number, Field(ge=0)] = 0.0


class OneCycle(Section):
    """One cosine up to the peak and one down (Smith and Topin, 2018), as in torch's ``OneCycleLR``."""

    name: Literal["one_cycle"] = "one_cycle"
    pct_start: Annotated[Number, Field(gt=0, lt=1)] = 0.3
    """The part of the run that rises."""
    div_factor: Annotated[Number, Field(ge=1)] = 25.0
    """The run starts at the peak divided by this."""
    final_div: Annotated[Number, Field(ge=1)] = 1e4
    """It ends at its start divided by this."""


Optimizer = Annotated[AdamW | SGD, Field(discriminator="name")]
Schedule = Annotated[Cosine | Constant | OneCycle, Field(discriminator="name")]
