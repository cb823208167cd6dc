"""Mixup and CutMix on the device: each image of a batch is mixed with another one, and so are their labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxtl.errors import InputError
from jaxtl.train.losses import class_shares


def mix(
    key: jax.Array, images: jax.Array, labels: jax.Array, num_classes: int, *, mixup: float = 0.0, cutmix: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """The mixed images, and their labels as shares (B, K): a function of the key, made for use inside jit.

    One lambda from Beta(alpha, alpha) serves the whole batch, and image i is mixed with image B - 1 - i, as in timm's
    batch mode. ``mixup`` blends whole images, lambda parts of the one and 1 - lambda of the other (Zhang et al. 2018,
    arXiv:1710.09412). ``cutmix`` pastes a box of the other into the one; the box has about the area 1 - lambda and a
    uniform centre, and the labels follow the area that is left of it inside the image (Yun et al. 2019,
    arXiv:1905.04899). With both given a batch gets the one or the other with probability 1/2 each.

    Args:
        key: a key of ``jax.random``, a different one at each step.
        images: float (B, H, W, C), already normalised.
        labels: classes, int (B,); or any numbers (B, K): shares, answers or a regression's targets. With
            ``num_classes=1`` numbers (B,) too, which are mixed as they are.
        num_classes: K.
        mixup: alpha, a Python number; 0: none. 0.2 mixes mildly, 1 draws lambda uniformly.
        cutmix: likewise.

    With both 0 the images are unchanged and the labels one-hot.

    Raises:
        InputError: an alpha below 0, images that are not float, or labels that are neither of these.

    >>> images = jnp.stack([jnp.zeros((4, 4, 3)), jnp.ones((4, 4, 3))])
    >>> mixed, labels = mix(jax.random.key(0), images, jnp.array([0, 1]), 2, mixup=1.0)
    >>> bool(jnp.allclose(mixed.mean((1, 2, 3)), labels[:, 1])), labels.sum(1).tolist()
    (True, [1.0, 1.0])
    """
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if alpha < 0:
            raise InputError(f"{name} is the alpha of a Beta distribution, 0 or above, not {alpha}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(f"images to mix must be float, not {images.dtype}; normalise them first")
    shares = _shares(labels, num_classes)
    if not mixup and not cutmix:
        return images, shares
    coin, radius, angle, *centre = jax.random.uniform(key, (5,))
    both = mixup > 0 and cutmix > 0
    blends = coin < 0.5 if both else mixup > 0
    own = symmetric_beta(radius, angle, jnp.where(blends, mixup, cutmix) if both else mixup or cutmix)
    pixels, share = own, own
    if cutmix:
        outside, left = _outside_box(centre, own, *images.shape[1:3])
        pixels, share = jnp.where(blends, own, outside)[:, :, None], jnp.where(blends, own, left)
    return _with_reversed(images, pixels), _with_reversed(shares, share)


def symmetric_beta(radius: jax.Array, angle: jax.Array, alpha: jax.typing.ArrayLike) -> jax.Array:
    """A draw from Beta(alpha, alpha) as a function of two uniform draws, by the polar form of Student's t.

    With 2 alpha degrees of freedom it is exact for every alpha above 0 (Bailey 1994; Devroye 1996, "Random variate
    generation in one line of code"), and it has no loop, where ``jax.random.beta`` takes seconds to compile.

    >>> [round(float(symmetric_beta(jnp.array(0.5), jnp.array(angle), 1.0)), 3) for angle in (0.0, 0.25, 0.5)]
    [0.854, 0.5, 0.146]
    """
    cosine = jnp.cos(2 * jnp.pi * angle)
    inverse = jnp.maximum(1 / jnp.expm1(-jnp.log(radius) / alpha), jnp.finfo(radius.dtype).tiny)
    return (1 + cosine / jnp.sqrt(inverse + cosine**2)) / 2


def _outside_box(centre: list[jax.Array], own: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """1 outside a box of about the area 1 - own and 0 inside it, (H, W), and the true share of what is outside.

    The centre is given as parts of the height and the width.
    """

    def inside(middle: jax.Array, length: int) -> jax.Array:
        half = (jnp.sqrt(1 - own) * length).astype(jnp.int32) // 2
        place = jnp.arange(length) - (middle * length).astype(jnp.int32)
        return (place >= -half) & (place < half)

    box = inside(centre[0], height)[:, None] & inside(centre[1], width)
    return 1.0 - box, 1 - box.sum() / (height * width)


def _with_reversed(values: jax.Array, own: jax.Array) -> jax.Array:
    return (values * own + values[::-1] * (1 - own)).astype(values.dtype)


def _shares(labels: jax.Array, num_classes: int) -> jax.Array:
    if labels.ndim == 2 and labels.shape[1] == num_classes:
        return labels.astype(jnp.float32)
    if labels.ndim == 1 and num_classes == 1:
        return labels.astype(jnp.float32)[:, None]
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"labels to mix are whole numbers (B,) or numbers (B, {num_classes}), not {labels.dtype} {labels.shape}"
        )
    return class_shares(labels, num_classes)
