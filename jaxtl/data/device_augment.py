"""Training augmentation on the device: batches of uint8 images in, batches of uint8 images out, inside jit."""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING

from jaxtl.data.augment import ERASED_RATIO, MOST_OPERATIONS, Augment, mean_colour
from jaxtl.data.blur import blur, radius_of
from jaxtl.data.colour import CHANGES, factor_range, grey
from jaxtl.data.crops import TRIES
from jaxtl.data.geometry import Move
from jaxtl.data.policies import LEVELS, Change, changes_of, strength, toned
from jaxtl.errors import InputError

if TYPE_CHECKING:
    import jax

_TOGETHER = 64  # images changed at the same time: bounds the float copies of large ones
# each kind of change has draws of its own, whatever others there are
_CROP, _AFFINE, _FLIP, _COLOUR = slice(0, 40), slice(40, 45), 45, slice(46, 51)
_DRAWS = 51
_FLIP_VERTICAL, _GREY, _BLUR, _SIGMA, _ERASE = range(5)
_ERASED_BOX, _POLICY = slice(5, 5 + 4 * TRIES), slice(5 + 4 * TRIES, 5 + 4 * TRIES + 3 * MOST_OPERATIONS)
_MORE_DRAWS = _POLICY.stop


def augmented(
    images: jax.Array,
    sizes: jax.Array,
    keys: jax.Array,
    augment: Augment,
    size: tuple[int, int],
    interpolation: str = "bicubic",
) -> jax.Array:
    """The random changes of `Augment`, by the same laws as on the host but from other random numbers.

    Each image is a function of its pixels and its key alone. It is pure, and meant to be called inside ``jax.jit``
    with `augment`, `size` and `interpolation` static.

    Args:
        images: uint8 (batch, height, width, channels); each image in the upper left corner, the rest is not looked at.
        sizes: int32 (batch, 2), the true height and width of each.
        keys: (batch,) random keys, as `example_keys` makes them.
        augment: the changes. Without a random crop (``scale=None``) the images must have the wanted size already,
            from the evaluation preprocessing.
        size: (height, width) wanted.
        interpolation: of the weights.

    Returns:
        uint8 (batch, height, width, channels).

    Raises:
        InputError: images of another size where the augmentation does not crop; changes that mean nothing for so many
            channels.

    >>> import jax.numpy as jnp
    >>> keys = example_keys(0, jnp.zeros(2, jnp.uint32), jnp.arange(2, dtype=jnp.uint32))
    >>> sizes = jnp.array([[30, 40], [40, 20]])
    >>> augmented(jnp.zeros((2, 40, 40, 3), jnp.uint8), sizes, keys, Augment(), (16, 16)).shape
    (2, 16, 16, 3)
    """
    import jax

    augment.check_channels(images.shape[-1])
    if augment.scale is None and images.shape[1:3] != tuple(size):
        raise InputError(
            f"augmentation without a random crop needs images of {size[0]}x{size[1]} pixels, not of "
            f"{images.shape[1]}x{images.shape[2]}: give scale, or prepare the images first"
        )
    one = functools.partial(_one, augment=augment, size=(size[0], size[1]), interpolation=interpolation)
    return jax.lax.map(lambda given: one(*given), (images, sizes, keys), batch_size=_TOGETHER)


def example_keys(seed: jax.Array | int, high: jax.Array, low: jax.Array, kind: int = 0) -> jax.Array:
    """Random keys, each a function of (seed, kind, high, low) alone.

    Args:
        seed: 0 to 2**32 - 1.
        high: uint32 (batch,): the upper half of a position, or a view.
        low: uint32 (batch,): the lower half of the position, or an example.
        kind: keeps purposes apart.
    """
    import jax
    import jax.numpy as jnp

    # whatever generator jax is set to: under vmap the others are no function of the key alone
    base = jax.random.key(jnp.asarray(seed, jnp.uint32), impl="threefry2x32")
    base = jax.random.fold_in(base, jnp.asarray(kind, jnp.uint32))
    return jax.vmap(lambda one, two: jax.random.fold_in(jax.random.fold_in(base, one), two))(high, low)


def random_box(
    draws: jax.Array,
    height: jax.Array | int,
    width: jax.Array | int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """`jaxtl.data.crops.crop_box` on the device: left, top, width and height, int32.

    Args:
        draws: float32 (4, tries), uniform in [0, 1): of area, ratio, and place to the right and down.
        height: of the image.
        width: of the image.
        scale: smallest and largest share of the area.
        ratio: smallest and largest width over height.

    >>> import jax.numpy as jnp
    >>> found = random_box(jnp.full((4, 10), 0.5), 50, 100, (1.0, 1.0), (1.0, 1.0))  # no such square fits
    >>> [int(part) for part in found]
    [25, 0, 50, 50]
    """
    import jax.numpy as jnp

    height, width = jnp.asarray(height, jnp.int32), jnp.asarray(width, jnp.int32)
    share, shape, right, down = draws
    area = (scale[0] + share * (scale[1] - scale[0])) * (height * width)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = jnp.exp(low + shape * (high - low))
    widths = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    lefts = jnp.minimum((right * (width - widths + 1)).astype(jnp.int32), width - widths)
    tops = jnp.minimum((down * (height - heights + 1)).astype(jnp.int32), height - heights)

    widest = jnp.clip(jnp.round(height * ratio[1]).astype(jnp.int32), 1, width)
    highest = jnp.clip(jnp.round(width / ratio[0]).astype(jnp.int32), 1, height)
    central = ((width - widest) // 2, (height - highest) // 2, widest, highest)
    first = jnp.argmax(fits)
    drawn = (lefts[first], tops[first], widths[first], heights[first])
    left, top, found_width, found_height = (jnp.where(fits[first], a, b) for a, b in zip(drawn, central, strict=True))
    return left, top, found_width, found_height


def _one(
    image: jax.Array,
    true_size: jax.Array,
    key: jax.Array,
    *,
    augment: Augment,
    size: tuple[int, int],
    interpolation: str,
) -> jax.Array:
    import jax
    import jax.numpy as jnp

    from jaxtl.data.resample import resized

    draws = jax.random.uniform(key, (_DRAWS,))
    pixels = image
    if augment.scale is not None:
        box = random_box(draws[_CROP].reshape(4, TRIES), true_size[0], true_size[1], augment.scale, augment.ratio)
        pixels = resized(pixels, box, size, interpolation)
    if augment.is_affine:
        pixels = moved(pixels.astype(jnp.float32), _drawn_move(draws[_AFFINE], augment))
    if augment.flip:
        pixels = jnp.where(draws[_FLIP] < augment.flip, pixels[:, ::-1], pixels)
    more = jax.random.uniform(jax.random.fold_in(key, 1), (_MORE_DRAWS,))
    if augment.flip_vertical:
        pixels = jnp.where(more[_FLIP_VERTICAL] < augment.flip_vertical, pixels[::-1], pixels)
    pixels = pixels.astype(jnp.float32)
    if augment.policy is not None:
        pixels = _by_policy(pixels, more[_POLICY].reshape(-1, 3), augment, augment.policy)
    if augment.jitter:
        pixels = _coloured(pixels, draws[_COLOUR], augment.jitter)
    if augment.grey:
        pixels = jnp.where(more[_GREY] < augment.grey, grey(jnp, pixels), pixels)
    if augment.blur:
        pixels = jnp.where(more[_BLUR] < augment.blur, _blurred(pixels, more[_SIGMA], augment), pixels)
    if augment.erase:
        pixels = jnp.where(more[_ERASE] < augment.erase, _erased(pixels, more[_ERASED_BOX], augment), pixels)
    return pixels.astype(jnp.uint8)


def _coloured(pixels: jax.Array, draws: jax.Array, amounts: dict[str, float]) -> jax.Array:
    """The changes of colour in a random order."""
    import jax
    import jax.numpy as jnp

    orders = jnp.array(list(itertools.permutations(range(len(amounts)))))
    order = orders[(draws[0] * len(orders)).astype(jnp.int32)]
    places = list(CHANGES)

    def change(name: str, draw: jax.Array, pixels: jax.Array) -> jax.Array:
        low, high = factor_range(name, amounts[name])
        return CHANGES[name](jnp, pixels, low + draw * (high - low))

    changes = [functools.partial(change, name, draws[1 + places.index(name)]) for name in amounts]
    for which in order:
        pixels = jax.lax.switch(which, changes, pixels)
    return pixels


def _drawn_move(draws: jax.Array, augment: Augment) -> Move:
    import jax.numpy as jnp

    both = 2 * draws - 1
    return Move(
        rotate=both[0] * augment.rotate,
        shear_x=jnp.tan(jnp.radians(both[1] * augment.shear)),
        zoom=augment.zoom[0] + draws[2] * (augment.zoom[1] - augment.zoom[0]),
        shift_x=both[3] * augment.translate,
        shift_y=both[4] * augment.translate,
    )


def moved(pixels: jax.Array, move: Move) -> jax.Array:
    """`jaxtl.data.geometry.moved` on the device, of float32 pixels."""
    import jax.numpy as jnp

    height, width, _ = pixels.shape
    back = move.back(jnp)
    y, x = jnp.mgrid[:height, :width]
    x = x + 0.5 - width / 2 - move.shift_x * width
    y = y + 0.5 - height / 2 - move.shift_y * height
    source_x = back[0][0] * x + back[0][1] * y + width / 2
    source_y = back[1][0] * x + back[1][1] * y + height / 2
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)

    rim = jnp.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    fill = jnp.floor(jnp.median(rim, axis=0))
    return jnp.where(inside[:, :, None], _between(pixels, source_x - 0.5, source_y - 0.5), fill)


def _by_policy(pixels: jax.Array, draws: jax.Array, augment: Augment, policy: str) -> jax.Array:
    """Some of a policy's changes; draws (operations, 3), uniform in [0, 1): which, how far and to which side."""
    import jax
    import jax.numpy as jnp

    def change(one: Change, level: jax.Array, positive: jax.Array, pixels: jax.Array) -> jax.Array:
        amount = strength(one, level, positive)
        return moved(pixels, Move(**{one.name: amount})) if one.kind == "move" else toned(jnp, pixels, one.name, amount)

    changes = [functools.partial(change, one) for one in changes_of(policy)]
    for which, far, side in draws[: augment.drawn_changes]:
        level = augment.magnitude if policy == "randaugment" else jnp.floor(far * LEVELS)
        place = (which * len(changes)).astype(jnp.int32)
        pixels = jax.lax.switch(place, changes, jnp.float32(level), side < 0.5, pixels)
    return pixels


def _blurred(pixels: jax.Array, draw: jax.Array, augment: Augment) -> jax.Array:
    import jax.numpy as jnp

    low, high = augment.blur_sigma
    return blur(jnp, pixels, low + draw * (high - low), radius_of(high, (pixels.shape[0], pixels.shape[1])))


def _erased(pixels: jax.Array, draws: jax.Array, augment: Augment) -> jax.Array:
    import jax.numpy as jnp

    height, width, _ = pixels.shape
    left, top, wide, high = random_box(draws.reshape(4, TRIES), height, width, augment.erase_scale, ERASED_RATIO)
    y, x = jnp.mgrid[:height, :width]
    inside = (x >= left) & (x < left + wide) & (y >= top) & (y < top + high)
    return jnp.where(inside[:, :, None], mean_colour(jnp, pixels), pixels)


def _between(pixels: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Bilinear values at places counted from the centre of the first pixel."""
    import jax.numpy as jnp

    height, width, _ = pixels.shape
    left, top = jnp.floor(x).astype(jnp.int32), jnp.floor(y).astype(jnp.int32)
    right_part, lower_part = (x - left)[:, :, None], (y - top)[:, :, None]

    def at(row, column):
        return pixels[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]

    upper = at(top, left) + (at(top, left + 1) - at(top, left)) * right_part
    lower = at(top + 1, left) + (at(top + 1, left + 1) - at(top + 1, left)) * right_part
    return jnp.clip(jnp.floor(upper + (lower - upper) * lower_part + 0.5), 0, 255)
