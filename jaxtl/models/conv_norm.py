"""A convolution and the normalisation behind it, in training on a GPU as one operation where that pays."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from jaxtl.backend import on_gpu
from jaxtl.models.layers import Activation, BatchNorm, Conv, Stack
from jaxtl.models.norm_act import norm_act
from jaxtl.models.rectified import add_and_rectify

WIDER = 2  # times as many channels behind it
PIXELS = 128  # of all images, for each channel in front of it


class EndingInNorm(Stack):
    """Modules in order, of which the last two are a convolution and a normalisation."""

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        *others, conv, norm = (getattr(self, key) for key in self.keys)
        for i in range(len(others)):
            x = self.run_child(i, x, rngs)
        return conv_norm(conv, norm, x)


def conv_norm(conv: Conv, norm: Any, x: jax.Array) -> jax.Array:
    """``norm(conv(x))``."""
    return norm.of_widened(x, conv.kernel[...]) if pays(conv, norm, x) else norm(conv(x))


def conv_norm_act(conv: Conv, norm: Any, act: Activation, x: jax.Array, shortcut: jax.Array) -> jax.Array:
    """``act(norm(conv(x)) + shortcut)``."""
    if act.name == "relu" and pays(conv, norm, x):
        return add_and_rectify(conv_norm(conv, norm, x), shortcut)
    return norm_act(norm, act, conv(x), shortcut)


def pays(conv: Conv, norm: Any, x: jax.Array) -> bool:
    """Whether it is one operation: a 1x1 convolution to twice as many channels or more, normalised by the batch, where
    maps in 2 bytes a number are so large that reading them takes the time, and not the small matrices of this form."""
    by_batch = on_gpu() and type(norm) is BatchNorm and not norm.use_running_average
    whole = conv.kernel.shape[:2] == (1, 1) and conv.padding in (0, (0, 0))
    plain = whole and (conv.stride, conv.groups) == (1, 1) and conv.bias is None
    narrow, wide = conv.kernel.shape[2:]
    # how large x is comes last: in a program for any batch, which trains nothing, that cannot be said
    return by_batch and plain and wide >= WIDER * narrow and x.dtype.itemsize == 2 and x.size >= PIXELS * narrow**2
