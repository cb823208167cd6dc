"""Training augmentation: random geometry on the host, with PIL, as a function of the generator it is given."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from PIL import Image

from jaxtl.data.bands import Picture, each_band, size_of, to_array
from jaxtl.data.colour import CHANGES, RGB_ONLY, factor_range
from jaxtl.data.modes import convert
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError, nearest

TRIES = 10


@dataclasses.dataclass(frozen=True)
class Augment:
    """Which random changes a training image goes through, in this order.

    Args:
        scale: the random-resized crop's share of the image's area, (smallest, largest); None: the evaluation crop
            instead of a random one. The default keeps more of the image than the 0.08 of training from scratch,
            because a pretrained network needs less regularisation than it loses to crops without the object.
        ratio: the crop's width over its height, (smallest, largest), drawn uniformly in the logarithm.
        flip: probability of mirroring left and right.
        rotate: largest angle in degrees, to either side.
        shear: largest horizontal shear in degrees, to either side.
        zoom: (smallest, largest) factor.
        translate: largest shift, as a part of each side.
        brightness: the factor lies between 1 - brightness and 1 + brightness; the same holds for the next two. These
            four are torchvision's ``ColorJitter``, in a random order; 0 turns each off.
        contrast: towards or away from the image's mean grey; of other channels than grey and RGB each band's own mean.
        saturation: towards or away from the image in grey.
        hue: largest turn of the hue, as a part of the circle, to either side. Like saturation it means nothing for
            other channels than grey and RGB, and is refused there.

    The crop is the Inception crop as torchvision does it (Szegedy et al. 2014, arXiv:1409.4842): ten tries, then the
    largest central crop with an allowed ratio. It is resized with the interpolation that belongs to the weights.

    Raises:
        InputError: naming every field that cannot be used.

    >>> augment = Augment(scale=(0.5, 1.0))
    >>> preprocess = Preprocess(size=32)
    >>> augment(Image.new("RGB", (50, 40)), preprocess, np.random.default_rng(0)).shape
    (32, 32, 3)
    """

    scale: tuple[float, float] | None = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    rotate: float = 0.0
    shear: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("scale", "ratio", "zoom"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(value))
        if problems := list(self._problems()):
            raise InputError("augmentation that cannot be done: " + "; ".join(problems))

    def _problems(self):
        if self.scale is not None and not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1):
            yield f"scale must be (smallest, largest) above 0 and at most 1, not {self.scale}"
        for name in ("ratio", "zoom"):
            value = getattr(self, name)
            if not (len(value) == 2 and 0 < value[0] <= value[1]):
                yield f"{name} must be (smallest, largest) above 0, not {value}"
        if not 0 <= self.flip <= 1:
            yield f"flip must be a probability, not {self.flip}"
        if not 0 <= self.rotate <= 180:
            yield f"rotate must be between 0 and 180 degrees, not {self.rotate}"
        if not 0 <= self.shear < 90:
            yield f"shear must be at least 0 and below 90 degrees, not {self.shear}"
        if not 0 <= self.translate <= 1:
            yield f"translate must be a part of the side between 0 and 1, not {self.translate}"
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                yield f"{name} must be at least 0, not {getattr(self, name)}"
        if not 0 <= self.hue <= 0.5:
            yield f"hue must be a part of the circle between 0 and 0.5, not {self.hue}"

    @property
    def is_random(self) -> bool:
        """False when nothing is changed, so that the pixels are those of the evaluation preprocessing."""
        return self.scale is not None or self.flip > 0 or self.is_affine or bool(self.jitter)

    @property
    def is_affine(self) -> bool:
        """Whether it rotates, shears, zooms or shifts."""
        return bool(self.rotate or self.shear or self.translate or self.zoom != (1.0, 1.0))

    @property
    def jitter(self) -> dict[str, float]:
        """The changes of colour that are on, and how far each goes."""
        return {name: amount for name in CHANGES if (amount := getattr(self, name))}

    def check_channels(self, channels: int) -> None:
        """Raises `InputError` for changes of colour that mean nothing for so many channels.

        >>> Augment(brightness=0.2).check_channels(6)
        """
        if channels not in (1, 3) and (wrong := [name for name in RGB_ONLY if getattr(self, name)]):
            raise InputError(
                f"augmentation: {' and '.join(wrong)} is for RGB images, not for {channels} channels: set it to 0"
            )

    def __call__(self, image: Picture, preprocess: Preprocess, rng: np.random.Generator) -> np.ndarray:
        """Pixels of the augmented image, uint8 (height, width, channels) at ``preprocess.size``.

        All bands of an array go through the same changes.
        """
        self.check_channels(preprocess.channels)
        image = convert(image, preprocess.channels)
        if self.scale is None:
            pixels = preprocess(image)
        else:
            box = crop_box(size_of(image), self.scale, self.ratio, rng)
            height, width = preprocess.size
            resample = preprocess.resample
            pixels = to_array(each_band(image, lambda band: band.crop(box).resize((width, height), resample)))
        return self.after_crop(pixels, rng)

    def after_crop(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The changes that follow the crop: uint8 (height, width, channels) in and out."""
        if self.is_affine:
            pixels = self._affine(pixels, rng)
        if self.flip and rng.random() < self.flip:
            pixels = pixels[:, ::-1]
        if self.jitter:
            pixels = self._coloured(pixels, rng)
        return np.ascontiguousarray(pixels)

    def _coloured(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        changed = pixels.astype(np.float32)
        for name in rng.permutation(list(self.jitter)):
            changed = CHANGES[name](np, changed, np.float32(rng.uniform(*factor_range(name, self.jitter[name]))))
        return changed.astype(np.uint8)

    def _affine(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rotation, shear, zoom and shift around the centre; what they uncover takes the rim's median colour."""
        height, width, channels = pixels.shape
        angle, lean = np.radians(rng.uniform((-self.rotate, -self.shear), (self.rotate, self.shear)))
        zoom = rng.uniform(*self.zoom)
        shift = rng.uniform(-self.translate, self.translate, size=2) * (width, height)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        back = np.linalg.inv(zoom * turn @ np.array([[1.0, math.tan(lean)], [0.0, 1.0]]))  # PIL maps output to input
        centre = np.array([width / 2, height / 2])
        origin = centre - back @ (centre + shift)
        rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        fill = tuple(int(value) for value in np.median(rim, axis=0))

        def moved(part: np.ndarray, colour: int | tuple[int, ...]) -> np.ndarray:
            matrix = (*back[0], origin[0], *back[1], origin[1])
            how = Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
            return np.asarray(Image.fromarray(part).transform((width, height), *how, fillcolor=colour))

        if channels == 3:
            return moved(pixels, fill)
        bands = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
        return np.stack([moved(band, colour) for band, colour in zip(bands, fill, strict=True)], axis=-1)


PRESETS = {
    "none": Augment(scale=None, flip=0.0),
    "light": Augment(),
    "glyph": Augment(scale=None, flip=0.0, rotate=10.0, shear=10.0, zoom=(0.9, 1.1), translate=0.1),
}


def preset(augment: str | Augment) -> Augment:
    """The augmentation of that name; an `Augment` is given back as it is.

    ``none``: the evaluation preprocessing. ``light``: random-resized crop and left-right flip, for photographs.
    ``glyph``: small rotations, shears, zooms and shifts without a flip, for digits and letters.

    >>> preset("glyph").flip
    0.0
    """
    if isinstance(augment, Augment):
        return augment
    if augment not in PRESETS:
        raise InputError(f"augmentation '{augment}' is none of {', '.join(PRESETS)}{nearest(str(augment), PRESETS)}")
    return PRESETS[augment]


def crop_box(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A random crop of an image of that (width, height), as (left, top, right, bottom) in pixels.

    >>> crop_box((100, 50), (1.0, 1.0), (1.0, 1.0), np.random.default_rng(0))  # a square of full area does not fit
    (25, 0, 75, 50)
    """
    width, height = size
    log_ratio = np.log(ratio)
    for _ in range(TRIES):
        area = rng.uniform(*scale) * width * height
        aspect = math.exp(rng.uniform(*log_ratio))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(width - crop_width + 1))
            top = int(rng.integers(height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    crop_width = min(width, max(1, round(height * ratio[1])))
    crop_height = min(height, max(1, round(width / ratio[0])))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height
