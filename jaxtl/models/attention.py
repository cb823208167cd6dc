"""Channel attention: a gate between 0 and 1 for each channel, from the averages of all."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxtl.models import init
from jaxtl.models.layers import Conv, param


class SqueezeExcite(nnx.Module):
    """Two 1x1 convolutions with a ReLU between them; the narrow width is ``ratio`` of the channels in steps of 8.

    Hu et al., https://arxiv.org/abs/1709.01507.
    """

    def __init__(self, channels: int, ratio: float = 1 / 16):
        narrow = max(8, int(channels * ratio + 4) // 8 * 8)
        self.fc1 = Conv(channels, narrow, 1)
        self.fc2 = Conv(narrow, channels, 1)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        squeezed = x.mean((1, 2), keepdims=True)
        return x * jax.nn.sigmoid(self.fc2(jax.nn.relu(self.fc1(squeezed))))


class EfficientChannelAttention(nnx.Module):
    """One convolution along the channels, whose width grows with the logarithm of their number.

    Wang et al., https://arxiv.org/abs/1910.03151.
    """

    def __init__(self, channels: int):
        steps = int((math.log2(channels) + 1) / 2)
        self.conv = _AlongChannels(max(3, steps if steps % 2 else steps + 1))

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        gate = jax.nn.sigmoid(self.conv(x.mean((1, 2))))
        return x * gate[:, None, None, :]


class _AlongChannels(nnx.Module):
    def __init__(self, width: int):
        self.kernel = param((width, 1, 1), init.FanInUniform(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        pad = self.kernel.shape[0] // 2
        kernel = self.kernel[...].astype(x.dtype)
        y = lax.conv_general_dilated(x[..., None], kernel, (1,), ((pad, pad),), dimension_numbers=("NWC", "WIO", "NWC"))
        return jnp.squeeze(y, -1)
