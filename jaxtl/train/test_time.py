"""Test-time augmentation: a network's answers to several variants of an image, averaged."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxtl.errors import InputError, nearest

TEST_TIME = ("flip", "crops")
_KEPT = 7 / 8  # of each side, by the crops


def variants(images: jax.Array, kind: str | None) -> list[jax.Array]:
    """The images, and changed ones of the same shape.

    ``flip``: mirrored left and right besides. ``crops``: the whole image, and its centre and four corners, each 7/8 of
    both sides and resized back, all of them mirrored too: twelve variants. None: the images alone.

    Args:
        images: float (batch, height, width, channels), normalised.
        kind: of these.

    Raises:
        InputError: another kind.

    >>> [len(variants(jnp.zeros((1, 8, 8, 3)), kind)) for kind in (None, "flip", "crops")]
    [1, 2, 12]
    """
    if kind is None:
        return [images]
    if kind not in TEST_TIME:
        raise InputError(f"test-time augmentation '{kind}' is none of {', '.join(TEST_TIME)}{nearest(kind, TEST_TIME)}")
    found = [images]
    if kind == "crops":
        height, width = (max(1, round(_KEPT * side)) for side in images.shape[1:3])
        down, right = images.shape[1] - height, images.shape[2] - width
        for top, left in ((down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)):
            crop = images[:, top : top + height, left : left + width]
            found.append(jax.image.resize(crop, images.shape, "linear"))
    return [image for one in found for image in (one, one[:, :, ::-1])]


def averaged(logits: list[jax.Array], loss: str) -> jax.Array:
    """Logits (B, K) of the mean of the probabilities that several logits stand for; of ``mse`` the mean output.

    >>> both = averaged([jnp.array([[0.0, 0.0]]), jnp.array([[100.0, 0.0]])], "softmax")
    >>> jax.nn.softmax(both).round(2).tolist()
    [[0.75, 0.25]]
    """
    stacked = jnp.stack(logits)
    if len(logits) == 1:
        return stacked[0]
    if loss == "mse":
        return stacked.mean(0)
    if loss == "sigmoid":
        yes, no = (jax.nn.logsumexp(jax.nn.log_sigmoid(sign * stacked), 0) for sign in (1, -1))
        return yes - no
    return jax.nn.logsumexp(jax.nn.log_softmax(stacked), 0) - jnp.log(len(logits))
