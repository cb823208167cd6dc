"""The sections of a recipe that say which network and which images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from jaxtl.recipe.fields import Fraction, Location, Number, Range, Section, Size, Text


def _at_most_one(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError(f"must not go above 1, the whole image, not {list(pair)}")
    return pair


def _augment_kind(value: Any) -> str:
    return "preset" if isinstance(value, str) else "ranges"


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
    head: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(strict=False)] = ()
    """Widths of the hidden layers of a new head, [512] say; none: one linear layer."""
    in_chans: Annotated[int, Field(gt=0)] | None = None
    """Channels of the images, 6 for pictures of six bands say; null: those of the weights."""
    drop_path_rate: Annotated[Number, Field(ge=0, lt=1)] | None = None
    """Stochastic depth of the last block, a probability; null: as it was saved, else none."""
    remat: bool = False
    """Compute the activations inside each block again for the gradient, to save their memory."""


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
    brightness: Fraction = 0.0
    """Largest change of the factor 1; like contrast, saturation and hue torchvision's ``ColorJitter``."""
    contrast: Fraction = 0.0
    """Largest change of the factor 1, towards or away from the mean grey."""
    saturation: Fraction = 0.0
    """Largest change of the factor 1, towards or away from the image in grey."""
    hue: Annotated[Number, Field(ge=0, le=0.5)] = 0.0
    """Largest turn, as a part of the circle, to either side."""


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
    train_size: Size | None = None
    """Pixels of the training images where they are smaller than validation's (Touvron 2019); null: ``size``."""
    storage: Literal["auto", "device", "disk", "stream"] = "auto"
    """Where decoded training images are kept: the word "auto" (by size), or "device", "disk" or "stream"."""
    val_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    """Part of the images held out for validation, where the source has no split of its own."""
    train_samples: Annotated[int, Field(gt=0)] | None = None
    """Train on only so many images, drawn alike from every class; null: on all."""
    max_bad: Fraction = 0.01
    """Images that cannot be read are left out if they are less than this share of a split; else nothing is trained."""
