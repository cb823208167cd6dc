"""Channel attention: a gate between 0 and 1 for each channel, from the averages of all."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxtl.models import init
from jaxtl.models.layers import Activation, Conv, LayerNorm, param


class SqueezeExcite(nnx.Module):
    """Two 1x1 convolutions with an activation between them.

    The narrow width is ``ratio`` of the channels in steps of 8, unless it is given as ``narrow``.

    Hu et al., https://arxiv.org/abs/1709.01507.
    """

    def __init__(self, channels: int, ratio: float = 1 / 16, *, narrow: int | None = None, act: str = "relu"):
        narrow = narrow or max(8, int(channels * ratio + 4) // 8 * 8)
        self.fc1 = Conv(channels, narrow, 1)
        self.act = Activation(act)
        self.fc2 = Conv(narrow, channels, 1)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        squeezed = x.mean((1, 2), keepdims=True)
        return x * jax.nn.sigmoid(self.fc2(self.act(self.fc1(squeezed))))


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


class GlobalContext(nnx.Module):
    """A gate from the average of all places, weighted by attention, through two 1x1 convolutions of a narrow width.

    Cao et al., https://arxiv.org/abs/1904.11492.
    """

    def __init__(self, channels: int, ratio: float = 1 / 8, *, act: str = "relu"):
        self.conv_attn = Conv(channels, 1, 1)
        self.mlp_scale = _ConvMlp(channels, max(1, int(channels * ratio + 0.5)), act)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        weights = self.conv_attn(x).reshape(x.shape[0], -1)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        weights = jax.nn.softmax(weights.astype(wide), axis=-1).astype(x.dtype)
        context = jnp.einsum("bnc,bn->bc", x.reshape(x.shape[0], -1, x.shape[-1]), weights)
        return x * jax.nn.sigmoid(self.mlp_scale(context[:, None, None, :]))


class _ConvMlp(nnx.Module):
    def __init__(self, channels: int, hidden: int, act: str):
        self.fc1 = Conv(channels, hidden, 1)
        self.norm = LayerNorm(hidden, eps=1e-6)
        self.act = Activation(act)
        self.fc2 = Conv(hidden, channels, 1)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(self.act(self.norm(self.fc1(x))))


class _AlongChannels(nnx.Module):
    def __init__(self, width: int):
        self.kernel = param((width, 1, 1), init.FanInUniform(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        pad = self.kernel.shape[0] // 2
        kernel = self.kernel[...].astype(x.dtype)
        y = lax.conv_general_dilated(x[..., None], kernel, (1,), ((pad, pad),), dimension_numbers=("NWC", "WIO", "NWC"))
        return jnp.squeeze(y, -1)
