"""Normalisation layers that hold their activation: timm's ``BatchNormAct2d``, ``GroupNormAct``, ``EvoNorm2dS0`` and
``FilterResponseNormTlu2d``.

All are built as ``Norm(channels, act="relu", ...)``, where ``act`` is a name in ``jaxtl.models.layers.ACTIVATIONS`` and
``None`` means no activation. EvoNorm and FRN have one of their own, so to them the name says only that it is wanted.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxtl.models import init
from jaxtl.models.layers import Activation, BatchNorm, GroupNorm, Init, param
from jaxtl.models.norm_act import rectifies


class BatchNormAct(BatchNorm):
    """Batch normalisation, then the activation."""

    def __init__(
        self,
        channels: int,
        act: str | None = "relu",
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        scale_init: Init = init.ones,
    ):
        super().__init__(channels, eps=eps, momentum=momentum, scale_init=scale_init)
        self.act = Activation(act) if act else None

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if self.act is not None and rectifies(self, self.act):
            return self.rectified(x)
        x = super().__call__(x)
        return x if self.act is None else self.act(x)


class GroupNormAct(GroupNorm):
    """Group normalisation, then the activation. ``group_size``: channels of a group, in the place of their number."""

    def __init__(
        self,
        channels: int,
        act: str | None = "relu",
        *,
        groups: int = 32,
        group_size: int | None = None,
        eps: float = 1e-5,
        scale_init: Init = init.ones,
    ):
        groups = channels // group_size if group_size else groups
        super().__init__(channels, groups=groups, eps=eps, scale_init=scale_init)
        self.act = Activation(act) if act else None

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = super().__call__(x)
        return x if self.act is None else self.act(x)


class EvoNormS0(nnx.Module):
    """``x * sigmoid(v * x)`` over the standard deviation of ``x`` in groups of channels; no ``act``: affine only.

    Liu et al., "Evolving Normalization-Activation Layers", https://arxiv.org/abs/2004.02967.
    """

    def __init__(
        self,
        channels: int,
        act: str | None = "silu",
        *,
        groups: int = 32,
        group_size: int | None = None,
        eps: float = 1e-5,
        scale_init: Init = init.ones,
    ):
        self.scale = param((channels,), scale_init)
        self.bias = param((channels,), init.zeros)
        self.v = param((channels,), init.ones) if act else None
        self.groups = channels // group_size if group_size else groups
        self.eps = eps

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.v is not None:
            grouped = wide.reshape(x.shape[0], -1, self.groups, x.shape[-1] // self.groups)
            std = jnp.sqrt(grouped.var((1, 3), keepdims=True) + self.eps)
            gated = wide * jax.nn.sigmoid(wide * self.v[...])
            wide = (gated.reshape(grouped.shape) / std).reshape(x.shape)
        return (wide * self.scale[...] + self.bias[...]).astype(x.dtype)


class FilterResponseNormTlu(nnx.Module):
    """Divides each channel of each image by its root mean square; the activation is a learnt lower bound ``tau``.

    Singh and Krishnan, https://arxiv.org/abs/1911.09737.
    """

    def __init__(self, channels: int, act: str | None = "relu", *, eps: float = 1e-5, scale_init: Init = init.ones):
        self.scale = param((channels,), scale_init)
        self.bias = param((channels,), init.zeros)
        self.tau = param((channels,), init.zeros) if act else None
        self.eps = eps

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        wide = wide * jax.lax.rsqrt(jnp.square(wide).mean((1, 2), keepdims=True) + self.eps)
        y = wide * self.scale[...] + self.bias[...]
        return (y if self.tau is None else jnp.maximum(y, self.tau[...])).astype(x.dtype)
