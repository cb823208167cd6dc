"""The sections of a recipe that say which network and which images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from jaxtl.recipe.fields import Fraction, Location, Names, Number, Range, Section, Size, Text, ordered


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
    flip_vertical: Fraction = 0.0
    """Probability of mirroring up and down, for images that have no up."""
    policy: Literal["randaugment", "trivialaugment"] | None = None
    """A few changes of geometry or tone, drawn for each image from a list; null: none."""
    operations: Annotated[int, Field(ge=1, le=4)] = 2
    """How many of them RandAugment draws; TrivialAugment draws one."""
    magnitude: Annotated[Number, Field(ge=0, le=30)] = 9.0
    """How far RandAugment's go; TrivialAugment draws it."""
    grey: Fraction = 0.0
    """Probability of losing all colour."""
    blur: Fraction = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: Range = (0.1, 2.0)
    """Its standard deviation in pixels: smallest and largest."""
    erase: Fraction = 0.0
    """Probability that a box takes the image's mean colour (Zhong 2017)."""
    erase_scale: Annotated[Range, AfterValidator(_at_most_one)] = (0.02, 0.33)
    """The box's area as a part of the image: smallest and largest."""


class DataSection(Section):
    """Which images, how they are cut to the network's input, and how they are split."""

    source: Text
    """Where the images are, for example "folder:path/to/images" (one folder for each class), "csv:labels.csv" or
    "digits"; docs/data.md names all kinds."""
    path_column: Text | None = None
    """The column of image paths (csv, parquet) or of images (tfds, hf), or the extension of images (tar); null: found
    by its usual names."""
    label_column: Names | None = None
    """The column of labels, or a list of columns; null: found by its usual names."""
    group_column: Text | None = None
    """What belongs together, such as a patient: no group is on both sides of a split."""
    split_column: Text | None = None
    """The column with the words train, val and test; null: one called "split", where there is one."""
    label_separator: Text = ";"
    """Between the labels of an image in one cell."""
    task: Literal["class", "multi-label", "regression"] | None = None
    """What labels are: one class an image, any number of classes, or numbers; null: told by the labels."""
    value_range: Annotated[tuple[Number, Number], Field(strict=False), AfterValidator(ordered)] | None = None
    """The values of black and white in arrays that are not uint8."""
    size: Size | None = None
    """The network's input in pixels, one number or [height, width]; null: what belongs to the weights."""
    crop_pct: Annotated[Number, Field(gt=0, le=2)] | None = None
    """Part of the resized image that evaluation's centre crop keeps; null: what belongs to the weights."""
    augment: Annotated[
        Annotated[Literal["auto", "none", "light", "medium", "strong", "glyph"], Tag("preset")]
        | Annotated[Augment, Tag("ranges")],
        Discriminator(_augment_kind),
    ] = "auto"
    """The word "auto" (what suits the source), "none", "light" (crops, flips), "medium" (colours too), "strong"
    (TrivialAugment, erased boxes) or "glyph" (no flips), or the ranges."""
    train_size: Size | None = None
    """Pixels of the training images where they are smaller than validation's (Touvron 2019); null: ``size``."""
    storage: Literal["auto", "device", "disk", "stream"] = "auto"
    """Where decoded training images are kept: the word "auto" (by size), or "device", "disk" or "stream"."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """Every training image once an epoch, or all classes equally often."""
    val_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    """Part of the images held out for validation, where the source has no split of its own."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Hold out one of so many folds of the training images instead (k-fold cross-validation)."""
    fold: Annotated[int, Field(ge=0)] = 0
    """Which of the folds, from 0."""
    split_file: Location | None = None
    """A JSON file with the names of the images in "train" and "val", in place of any other split."""
    train_samples: Annotated[int, Field(gt=0)] | None = None
    """Train on only so many images, drawn alike from every class; null: on all. ``samples`` means the same."""
    max_bad: Fraction = 0.01
    """Images that cannot be read are left out if they are less than this share of a split; else nothing is trained."""

    @model_validator(mode="before")
    @classmethod
    def _short_name(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping) or fields.get("train_samples") is not None:
            return fields
        if isinstance(fields.get("samples"), int):
            others = {name: value for name, value in fields.items() if name != "samples"}
            return {**others, "train_samples": fields["samples"]}
        return fields
