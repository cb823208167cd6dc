"""Evaluation preprocessing: from a PIL image of any size to the pixels a set of weights was trained to see."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from jaxtl.data.bands import Picture, each_band, size_of, to_array
from jaxtl.data.modes import convert
from jaxtl.errors import InputError, nearest

if TYPE_CHECKING:
    import jax

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
CROP_MODES = ("center", "squash", "border")
_LARGEST_CROP = 2.0  # some weights have 1.15, and so a black frame; percentages are refused
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What has to happen to an image before a network with certain weights can be evaluated on it.

    Calling it does the geometry on the host and gives uint8 pixels, equal to those of timm's evaluation transform
    before ``ToTensor``; `normalise` does the arithmetic on the device.

    Args:
        size: (height, width) of the network's input in pixels, or one number for a square.
        mean: per channel, subtracted from images in [0, 1]. Its length is the number of channels.
        std: per channel, what the difference is divided by.
        interpolation: nearest, bilinear, bicubic, box, hamming or lanczos; all but nearest with antialiasing.
        crop_pct: the part of each side that the crop keeps: the image is resized to ``floor(size / crop_pct)`` first.
            Above 1 the image is smaller than the input and gets a frame.
        crop_mode: ``center`` resizes the short side and crops the centre, ``squash`` resizes both sides and gives up
            the aspect ratio, ``border`` resizes the long side and fills the rest with the mean colour.

    Raises:
        InputError: naming every field that cannot be used.

    >>> preprocess = Preprocess(size=160, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> pixels = preprocess(Image.new("RGB", (500, 375)))
    >>> pixels.shape, pixels.dtype
    ((160, 160, 3), dtype('uint8'))
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        size = (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)
        set_field(self, "size", size)
        set_field(self, "mean", tuple(float(value) for value in self.mean))
        set_field(self, "std", tuple(float(value) for value in self.std))
        set_field(self, "crop_pct", float(self.crop_pct))
        if problems := list(self._problems()):
            raise InputError("preprocessing that cannot be done: " + "; ".join(problems))

    def _problems(self):
        if len(self.size) != 2 or not all(isinstance(side, int) and side > 0 for side in self.size):
            yield f"size must be a positive height and width in whole pixels, not {self.size}"
        if not self.mean or len(self.mean) != len(self.std):
            yield f"mean and std need one value per channel each, not {len(self.mean)} and {len(self.std)}"
        if not all(math.isfinite(value) for value in self.mean):
            yield f"mean must be finite, not {self.mean}"
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            yield f"std must be positive, not {self.std}"
        if self.interpolation not in INTERPOLATIONS:
            hint = nearest(str(self.interpolation), INTERPOLATIONS)
            yield f"interpolation '{self.interpolation}' is none of {', '.join(INTERPOLATIONS)}{hint}"
        if not 0 < self.crop_pct <= _LARGEST_CROP:
            yield f"crop_pct must be a part of the side, such as 0.875 or 1, not {self.crop_pct:g}"
        if self.crop_mode not in CROP_MODES:
            hint = nearest(str(self.crop_mode), CROP_MODES)
            yield f"crop_mode '{self.crop_mode}' is none of {', '.join(CROP_MODES)}{hint}"

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return len(self.mean)

    @property
    def resample(self) -> Image.Resampling:
        """PIL's constant for `interpolation`."""
        return INTERPOLATIONS[self.interpolation]

    def __call__(self, image: Picture) -> np.ndarray:
        """Pixels of the image: uint8, (height, width, channels), converted by `jaxtl.data.modes.convert` first.

        An image smaller than the crop is enlarged, as timm does. Arrays of other numbers of bands than 1 and 3 are
        resized band by band.
        """
        image = convert(image, self.channels)
        size = size_of(image)
        scaled = tuple(math.floor(side / self.crop_pct) for side in self.size)
        fill: tuple[int, ...] | int = 0
        if self.crop_mode == "squash":
            height, width = scaled
        elif self.crop_mode == "border":
            height, width = _fit(size, scaled, max)
            fill = tuple(min(255, max(0, round(255 * value))) for value in self.mean)
        elif scaled[0] == scaled[1]:
            height, width = _shorter_side(size, scaled[0])
        else:
            height, width = _fit(size, scaled, min)
        if size != (width, height):
            image = each_band(image, lambda band: band.resize((width, height), self.resample))
        return _centre(image, self.size, fill)

    def replace(self, **changes: Any) -> Preprocess:
        """A copy with other values; `size` may be one number.

        >>> Preprocess(224).replace(size=96, crop_pct=1.0).size
        (96, 96)
        """
        known = [field.name for field in dataclasses.fields(self)]
        if unknown := [f"'{name}'{nearest(name, known)}" for name in changes if name not in known]:
            raise InputError(f"preprocessing has no field {', '.join(unknown)} (fields: {', '.join(known)})")
        return dataclasses.replace(self, **changes)

    def with_channels(self, channels: int) -> Preprocess:
        """The same preprocessing for a network whose first layer was adapted to another number of channels.

        One channel takes the average of the channels' mean and of their std: a grey image is an RGB image with three
        equal channels, so this keeps the range that the summed filters were trained on, up to small differences
        between the channels. More channels repeat mean and std cyclically.

        >>> Preprocess(224, mean=(0.25, 0.5, 0.75), std=(0.2, 0.2, 0.2)).with_channels(1).mean
        (0.5,)
        >>> Preprocess(224, mean=(0.25, 0.5, 0.75), std=(0.2, 0.2, 0.2)).with_channels(4).mean
        (0.25, 0.5, 0.75, 0.25)
        """
        if channels < 1:
            raise InputError(f"a network's input has at least 1 channel, not {channels}")
        if channels == self.channels:
            return self
        if channels == 1:
            return self.replace(mean=(sum(self.mean) / self.channels,), std=(sum(self.std) / self.channels,))
        cycle = [index % self.channels for index in range(channels)]
        return self.replace(mean=tuple(self.mean[i] for i in cycle), std=tuple(self.std[i] for i in cycle))

    def to_dict(self) -> dict[str, Any]:
        """As data for JSON, with the keys of timm's ``pretrained_cfg``.

        >>> Preprocess(224).to_dict()["input_size"]
        [3, 224, 224]
        """
        return {
            "input_size": [self.channels, *self.size],
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
        }

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Preprocess:
        """From the output of `to_dict` or any ``pretrained_cfg`` of timm, whose other keys are left alone.

        What is missing or empty takes timm's defaults: 224 pixels, ImageNet's mean and std, bicubic, 0.875, center.
        A mean or std of one value holds for every channel.

        >>> Preprocess.from_dict({"input_size": [1, 28, 28], "mean": [0.5], "std": [0.5], "num_classes": 10}).size
        (28, 28)
        """
        shape = tuple(config.get("input_size") or (3, 224, 224))
        if len(shape) != 3:
            raise InputError(f"input_size must be (channels, height, width), not {shape}")
        defaults = cls(size=shape[1:]).with_channels(shape[0])
        return cls(
            size=shape[1:],
            mean=_per_channel(config, "mean", shape[0], defaults.mean),
            std=_per_channel(config, "std", shape[0], defaults.std),
            interpolation=config.get("interpolation") or defaults.interpolation,
            crop_pct=config.get("crop_pct") or defaults.crop_pct,
            crop_mode=config.get("crop_mode") or defaults.crop_mode,
        )


def normalise(images: jax.Array | np.ndarray, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """``(images / 255 - mean) / std`` in float32, on the device and inside jit.

    Args:
        images: uint8, (..., channels).
        mean: per channel, for images in [0, 1].
        std: per channel.

    >>> normalise(np.full((1, 1, 1, 3), 255, np.uint8), (0.5, 0.5, 0.5), (0.5, 0.5, 0.25)).tolist()
    [[[[1.0, 1.0, 2.0]]]]
    """
    import jax.numpy as jnp

    scaled = jnp.asarray(images).astype(jnp.float32) / 255
    return (scaled - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def _per_channel(config: Mapping[str, Any], key: str, channels: int, default: tuple[float, ...]) -> tuple[float, ...]:
    values = tuple(config.get(key) or default)
    if len(values) == 1:
        return values * channels
    if len(values) != channels:
        raise InputError(f"{key} has {len(values)} values, but input_size says {channels} channels")
    return values


def _shorter_side(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width whose shorter one is `side`, the longer one rounded down."""
    width, height = size
    if width <= height:
        return int(side * height / width), side
    return side, int(side * width / height)


def _fit(size: tuple[int, int], target: tuple[int, ...], choose) -> tuple[int, int]:
    """Height and width of the same aspect ratio, inside (choose=max) or around (choose=min) the target."""
    width, height = size
    ratio = choose(height / target[0], width / target[1])
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _centre(picture: Picture, size: tuple[int, int], fill: tuple[int, ...] | int) -> np.ndarray:
    """Cuts the centre out; what lies outside the image takes the fill colour."""
    width, height = size_of(picture)
    first_row, first_column = _offset(height, size[0]), _offset(width, size[1])
    top, left = max(0, first_row), max(0, first_column)
    bottom, right = min(height, top + size[0]), min(width, left + size[1])
    if isinstance(picture, Image.Image):
        inside = to_array(picture.crop((left, top, right, bottom)))
    else:
        inside = picture[top:bottom, left:right]
    if inside.shape[:2] == size:
        return np.ascontiguousarray(inside)
    canvas = np.empty((*size, inside.shape[2]), np.uint8)
    canvas[:] = fill
    top, left = max(0, -first_row), max(0, -first_column)
    canvas[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return canvas


def _offset(length: int, wanted: int) -> int:
    return round((length - wanted) / 2) if length >= wanted else -((wanted - length) // 2)
