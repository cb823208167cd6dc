"""Antialiased resizing on the device, as Pillow does it: two products with matrices of filter weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

_STEPS = 2**15  # weights are multiples of 1 / _STEPS: every sum of their products with uint8 pixels is exact in float32


def resized(
    image: jax.Array, box: tuple[jax.Array, jax.Array, jax.Array, jax.Array], size: tuple[int, int], interpolation: str
) -> jax.Array:
    """A part of an image at another size: ``image.crop(box).resize(size)`` of Pillow, inside jit and vmap.

    The filter grows with the reduction, and pixels outside of the box are not looked at. Rows are resized first, then
    columns; values differ from Pillow's by at most 1 where it takes the same order, which depends on its version and
    the shapes (with ``box`` by more, where a pixel ends exactly at the filter's edge). They depend on no order of
    summation, and so not on what else is in a batch.

    Args:
        image: (height, width, channels), values of whole numbers from 0 to 255.
        box: left, top, width and height in whole pixels; may be traced.
        size: (height, width) wanted.
        interpolation: one of `jaxtl.data.preprocess.INTERPOLATIONS`.

    Returns:
        float32 (height, width, channels), whole numbers from 0 to 255.

    >>> import jax.numpy as jnp
    >>> stripes = jnp.array([[[0], [100], [0], [100]]])
    >>> resized(stripes, (0, 0, 4, 1), (1, 2), "box")[0, :, 0].tolist()
    [50.0, 50.0]
    """
    import jax
    import jax.numpy as jnp

    left, top, width, height = box
    exact = jax.lax.Precision.HIGHEST
    pixels = image.astype(jnp.float32)
    across = weights(left, width, size[1], image.shape[1], interpolation)
    pixels = _whole(jnp.einsum("ow,hwc->hoc", across, pixels, precision=exact))
    down = weights(top, height, size[0], image.shape[0], interpolation)
    return _whole(jnp.einsum("oh,hwc->owc", down, pixels, precision=exact))


def weights(start: jax.Array, length: jax.Array, wanted: int, available: int, interpolation: str) -> jax.Array:
    """How much each of the available pixels counts for each of the wanted ones: float32 (wanted, available).

    Args:
        start: the first pixel that is looked at.
        length: how many are, from there on.
        wanted: pixels in the output.
        available: pixels in the input, looked at or not.
        interpolation: one of `jaxtl.data.preprocess.INTERPOLATIONS`.
    """
    import jax
    import jax.numpy as jnp

    place = jnp.arange(available)[None, :] - start
    output = jnp.arange(wanted)[:, None]
    if interpolation == "nearest":
        return (place == (2 * output + 1) * length // (2 * wanted)).astype(jnp.float32)
    # whole numbers as far as they go: the edges of the filters are then where they are on paper
    apart = (2 * place + 1) * wanted - (2 * output + 1) * length
    distance = apart / (2 * jnp.maximum(length, wanted))
    inside = (place >= 0) & (place < length)
    found = jnp.where(inside, _filters()[interpolation](distance), 0.0)
    # Behind a barrier, or XLA takes this for a softmax, and for a GPU searches tiles for half a minute.
    found = found / jax.lax.optimization_barrier(jnp.sum(found, axis=1, keepdims=True))
    return jnp.round(found * _STEPS) / _STEPS


def _filters() -> dict[str, Callable[[jax.Array], jax.Array]]:
    """Pillow's filters, as functions of the distance in units of the larger of the two pixel sizes."""
    import jax.numpy as jnp

    def box(x):
        return jnp.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)

    def bilinear(x):
        return jnp.maximum(1.0 - jnp.abs(x), 0.0)

    def bicubic(x):  # Keys 1981 with a = -0.5
        x = jnp.abs(x)
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))

    def hamming(x):
        return jnp.where(jnp.abs(x) < 1, jnp.sinc(x) * (0.54 + 0.46 * jnp.cos(jnp.pi * x)), 0.0)

    def lanczos(x):
        return jnp.where(jnp.abs(x) < 3, jnp.sinc(x) * jnp.sinc(x / 3), 0.0)

    return {"box": box, "bilinear": bilinear, "bicubic": bicubic, "hamming": hamming, "lanczos": lanczos}


def _whole(pixels: jax.Array) -> jax.Array:
    import jax.numpy as jnp

    return jnp.clip(jnp.floor(pixels + 0.5), 0, 255)
