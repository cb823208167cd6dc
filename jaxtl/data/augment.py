"""Training augmentation on the host: random changes of an image, as a function of the generator it is given."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtl.data import colour
from jaxtl.data.bands import Picture
from jaxtl.data.blur import blur, radius_of
from jaxtl.data.colour import CHANGES, RGB_ONLY, factor_range
from jaxtl.data.crops import DRAWS, ReadParts, crop_box, crop_boxes, mirror, parts_of, resized_crops
from jaxtl.data.geometry import Move, moved
from jaxtl.data.modes import as_pixels
from jaxtl.data.policies import LEVELS, POLICIES, changes_of, strength, toned
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError, nearest

MOST_OPERATIONS = 4
ERASED_RATIO = (0.3, 3.3)


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
        flip_vertical: probability of mirroring up and down, for images that have no up.
        policy: "randaugment" or "trivialaugment", a few changes of geometry or tone drawn from a list for each image;
            `jaxtl.data.policies`. None: neither.
        operations: how many of them RandAugment draws; TrivialAugment draws one.
        magnitude: how far RandAugment's go, 0 to 30; TrivialAugment draws it.
        grey: probability of losing all colour.
        blur: probability of a Gaussian blur.
        blur_sigma: its (smallest, largest) standard deviation in pixels.
        erase: probability that a box takes the image's mean colour (Zhong et al., https://arxiv.org/abs/1708.04896).
        erase_scale: (smallest, largest) share of the area that the box has.

    The crop is that of `jaxtl.data.crops.crop_box`, resized with the interpolation that belongs to the weights.

    Raises:
        InputError: naming every field that cannot be used.

    >>> from PIL import Image
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
    flip_vertical: float = 0.0
    policy: str | None = None
    operations: int = 2
    magnitude: float = 9.0
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    erase: float = 0.0
    erase_scale: tuple[float, float] = (0.02, 0.33)

    def __post_init__(self) -> None:
        for name in ("scale", "ratio", "zoom", "blur_sigma", "erase_scale"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(value))
        if problems := list(self._problems()):
            raise InputError("augmentation that cannot be done: " + "; ".join(problems))

    def _problems(self):
        for name in ("scale", "erase_scale"):
            value = getattr(self, name)
            if value is not None and not (len(value) == 2 and 0 < value[0] <= value[1] <= 1):
                yield f"{name} must be (smallest, largest) above 0 and at most 1, not {value}"
        for name in ("ratio", "zoom", "blur_sigma"):
            value = getattr(self, name)
            if not (len(value) == 2 and 0 < value[0] <= value[1]):
                yield f"{name} must be (smallest, largest) above 0, not {value}"
        for name in ("flip", "flip_vertical", "grey", "blur", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"{name} must be a probability, not {getattr(self, name)}"
        if self.policy is not None and self.policy not in POLICIES:
            yield f"policy '{self.policy}' is none of {', '.join(POLICIES)}{nearest(str(self.policy), POLICIES)}"
        if not 1 <= self.operations <= MOST_OPERATIONS:
            yield f"operations must be 1 to {MOST_OPERATIONS}, not {self.operations}"
        if not 0 <= self.magnitude <= LEVELS - 1:
            yield f"magnitude must be between 0 and {LEVELS - 1}, not {self.magnitude}"
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
        chances = (self.flip, self.flip_vertical, self.grey, self.blur, self.erase)
        return self.scale is not None or any(chances) or self.is_affine or bool(self.jitter or self.policy)

    @property
    def drawn_changes(self) -> int:
        """How many changes a policy draws for an image."""
        return self.operations if self.policy == "randaugment" else 1

    @functools.cached_property
    def is_affine(self) -> bool:
        """Whether it rotates, shears, zooms or shifts."""
        return bool(self.rotate or self.shear or self.translate or self.zoom != (1.0, 1.0))

    @functools.cached_property
    def _only_flips(self) -> bool:
        """Whether nothing but a flip to the other side follows the crop."""
        return bool(self.flip) and not dataclasses.replace(self, scale=None, flip=0.0).is_random

    @functools.cached_property
    def jitter(self) -> dict[str, float]:
        """The changes of colour that are on, and how far each goes."""
        return {name: amount for name in CHANGES if (amount := getattr(self, name))}

    def check_channels(self, channels: int) -> None:
        """Raises `InputError` for changes of colour that mean nothing for so many channels.

        >>> Augment(brightness=0.2).check_channels(6)
        """
        if channels not in (1, 3) and (
            wrong := [name for name in (*RGB_ONLY, "grey", "policy") if getattr(self, name)]
        ):
            raise InputError(
                f"augmentation: {' and '.join(wrong)} is for RGB images, not for {channels} channels: leave it out"
            )

    def __call__(self, image: Picture, preprocess: Preprocess, rng: np.random.Generator) -> np.ndarray:
        """Pixels of the augmented image, uint8 (height, width, channels) at ``preprocess.size``.

        All bands of an array go through the same changes.
        """
        self.check_channels(preprocess.channels)
        if self.scale is None:
            return self.after_crop(preprocess(image), rng)
        found = np.empty((*preprocess.size, preprocess.channels), np.uint8)
        whole = as_pixels(image, preprocess.channels)
        size = np.array([whole.shape[1::-1]])
        self.into(found[None], size, parts_of([whole]), preprocess.interpolation, [rng])
        return found

    def after_crop(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The changes that follow the crop: uint8 (height, width, channels) in and out."""
        found = np.array(pixels, order="C")
        self.change(found, rng)
        return found

    def into(
        self,
        out: np.ndarray,
        sizes: np.ndarray,
        read: ReadParts,
        interpolation: str,
        rngs: Sequence[np.random.Generator],
    ) -> None:
        """The crops of some images and all that follows them, written into an array.

        Args:
            out: uint8 (images, height, width, channels), contiguous.
            sizes: width and height of each image, (images, 2).
            read: gives the images' parts, all with the same channels.
            interpolation: of the weights.
            rngs: what happens to an image is a function of its own; a generator may serve several, one after the other.
        """
        assert self.scale is not None
        boxes = crop_boxes(sizes, self.scale, self.ratio, _draws(rngs, DRAWS))
        if self._only_flips:
            resized_crops(read, boxes, interpolation, out, _draws(rngs, 1)[:, 0] < self.flip)
            return
        resized_crops(read, boxes, interpolation, out)
        for found, rng in zip(out, rngs, strict=True):
            self.change(found, rng)

    def change(self, image: np.ndarray, rng: np.random.Generator) -> None:
        """`after_crop` in place: uint8 (height, width, channels), contiguous."""
        pixels = image
        if self.is_affine:
            pixels = moved(pixels, self._drawn_move(rng))
        if self.flip and rng.random() < self.flip:
            if pixels is not image:
                image[:] = pixels
                pixels = image
            mirror(pixels)
        if self.flip_vertical and rng.random() < self.flip_vertical:
            pixels = pixels[::-1]
        if self.policy is not None:
            pixels = self._by_policy(pixels, self.policy, rng)
        if self.jitter:
            pixels = self._coloured(pixels, rng)
        if self.grey and rng.random() < self.grey:
            pixels = colour.grey(np, pixels.astype(np.float32)).astype(np.uint8)
        if self.blur and rng.random() < self.blur:
            pixels = self._blurred(pixels, rng)
        if self.erase and rng.random() < self.erase:
            pixels = self._erased(pixels, rng)
        if pixels is not image:
            image[:] = pixels

    def _coloured(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        changed = pixels.astype(np.float32)
        for name in rng.permutation(list(self.jitter)):
            changed = CHANGES[name](np, changed, np.float32(rng.uniform(*factor_range(name, self.jitter[name]))))
        return changed.astype(np.uint8)

    def _drawn_move(self, rng: np.random.Generator) -> Move:
        angle, lean = rng.uniform((-self.rotate, -self.shear), (self.rotate, self.shear))
        zoom = rng.uniform(*self.zoom)
        shift_x, shift_y = rng.uniform(-self.translate, self.translate, size=2)
        slope = math.tan(math.radians(lean))
        return Move(rotate=angle, shear_x=slope, zoom=zoom, shift_x=shift_x, shift_y=shift_y)

    def _by_policy(self, pixels: np.ndarray, policy: str, rng: np.random.Generator) -> np.ndarray:
        changes = changes_of(policy)
        for _ in range(self.drawn_changes):
            change = changes[int(rng.integers(len(changes)))]
            level = self.magnitude if policy == "randaugment" else int(rng.integers(LEVELS))
            amount = np.float32(strength(change, level, bool(rng.integers(2))))
            if change.kind == "move":
                pixels = moved(pixels, Move(**{change.name: amount}))
            else:
                pixels = toned(np, pixels.astype(np.float32), change.name, amount).astype(np.uint8)
        return pixels

    def _blurred(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        radius = radius_of(self.blur_sigma[1], pixels.shape[:2])
        sigma = np.float32(rng.uniform(*self.blur_sigma))
        return blur(np, pixels.astype(np.float32), sigma, radius).astype(np.uint8)

    def _erased(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = pixels.shape[:2]
        left, top, right, bottom = crop_box((width, height), self.erase_scale, ERASED_RATIO, rng)
        pixels = pixels.copy()
        pixels[top:bottom, left:right] = mean_colour(np, pixels)
        return pixels


def _draws(rngs: Sequence[np.random.Generator], count: int) -> np.ndarray:
    """So many numbers in [0, 1) from each, one generator after the other: (generators, count)."""
    if all(rng is rngs[0] for rng in rngs):
        return rngs[0].random((len(rngs), count))
    return np.stack([rng.random(count) for rng in rngs])


def mean_colour(xp: Any, pixels: Any) -> Any:
    """The mean of each channel, a whole number cut off: int32 (channels,)."""
    return xp.sum(pixels.astype(xp.int32), axis=(0, 1)) // (pixels.shape[0] * pixels.shape[1])


PRESETS = {
    "none": Augment(scale=None, flip=0.0),
    "light": Augment(),
    "medium": Augment(scale=(0.25, 1.0), brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05),
    "strong": Augment(scale=(0.2, 1.0), policy="trivialaugment", erase=0.25),
    "glyph": Augment(scale=None, flip=0.0, rotate=10.0, shear=10.0, zoom=(0.9, 1.1), translate=0.1),
}


def preset(augment: str | Augment) -> Augment:
    """The augmentation of that name; an `Augment` is given back as it is.

    ``none``: the evaluation preprocessing. For photographs: ``light``, a random-resized crop and a left-right flip;
    ``medium``, more of the crop, and changes of colour; ``strong``, more still, TrivialAugment and erased boxes, for
    many epochs. ``glyph``: small rotations, shears, zooms and shifts without a flip, for digits and letters.

    >>> preset("glyph").flip
    0.0
    """
    if isinstance(augment, Augment):
        return augment
    if augment not in PRESETS:
        raise InputError(f"augmentation '{augment}' is none of {', '.join(PRESETS)}{nearest(str(augment), PRESETS)}")
    return PRESETS[augment]
