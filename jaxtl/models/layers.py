"""The layers that architectures are made of, with PyTorch's semantics on NHWC arrays.

Building a layer computes nothing: its variables hold shapes (``jax.ShapeDtypeStruct``) and, in their metadata, the
initialiser that fills them. Layers start in evaluation mode; ``flax.nnx.view`` gives a copy in another one:
``nnx.view(network, use_running_average=False, deterministic=False)``.

All are called ``(x, rngs=None)`` and compute in the dtype of ``x``: parameters are cast to it, except in normalisation,
whose statistics are never below float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.jitted import one_per_trace
from jaxtl.models import batch_statistics, init
from jaxtl.models.convolution import Pair, conv, pair
from jaxtl.models.gelu import gelu
from jaxtl.models.product import product
from jaxtl.models.rectified import normalise_and_rectify
from jaxtl.models.relu import relu
from jaxtl.models.standardise import standardise
from jaxtl.models.widening import widen_and_normalise

Init = Callable[..., object]


def param(shape: tuple[int, ...], initialiser: Init) -> nnx.Param:
    """A parameter that knows its shape and how it starts, and holds no array yet.

    >>> weight = param((3, 3), init.zeros)
    >>> weight.shape, weight.get_metadata()["init"] is init.zeros
    ((3, 3), True)
    """
    return nnx.Param(jax.ShapeDtypeStruct(shape, jnp.float32), init=initialiser)


def stat(shape: tuple[int, ...], initialiser: Init) -> nnx.BatchStat:
    """A running statistic, as abstract as ``param``."""
    return nnx.BatchStat(jax.ShapeDtypeStruct(shape, jnp.float32), init=initialiser)


class Stack(nnx.Module):
    """Modules in order, under the keys ``"0"``, ``"1"``, ... as in a torch ``Sequential``; or under names of their own.

    With ``remat`` the activations inside each module are computed again for the gradient and not kept.

    >>> sorted(nnx.to_pure_dict(nnx.state(Stack(Linear(3, 4), Activation("relu"), Linear(4, 2)))))
    ['0', '2']
    >>> Stack(b1=Linear(3, 4), b2=Linear(4, 2)).keys
    ('b1', 'b2')
    """

    def __init__(self, *modules: nnx.Module, **named: nnx.Module):
        children = {**{str(i): module for i, module in enumerate(modules)}, **named}
        self.keys = tuple(children)
        self.length = len(children)
        self.remat = False
        for key, module in children.items():
            setattr(self, key, module)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        for i in range(self.length):
            x = self.run_child(i, x, rngs)
        return x

    def run_child(self, i: int, x: jax.Array, rngs: nnx.Rngs | None = None, *more: jax.Array) -> jax.Array:
        """The output of one module, for networks whose stages are single blocks; it gets ``more`` behind ``rngs``."""
        call = one_per_trace(_rematerialised) if self.remat else _call
        return call(getattr(self, self.keys[i]), x, rngs, *more)


def _call(module: Callable[..., jax.Array], x: jax.Array, rngs: nnx.Rngs | None, *more: jax.Array) -> jax.Array:
    return module(x, rngs, *more)


def _rematerialised() -> Callable[..., jax.Array]:
    return nnx.remat(lambda module, x, rngs, *more: _call(module, x, rngs, *more))


class Conv(nnx.Module):
    """2-d convolution; torch's arguments, kernel (height, width, in / groups, out).

    ``kernel_size`` is one number or (height, width); ``padding`` also ``"same"``, TensorFlow's rule, or ``None``, half
    the kernel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int = 1,
        padding: int | Pair | str | None = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        kernel_init: Init = init.kaiming_normal,
    ):
        height, width = pair(kernel_size)
        fan_in = height * width * in_channels // groups
        self.kernel = param((height, width, in_channels // groups, out_channels), kernel_init)
        self.bias = param((out_channels,), init.FanInUniform(fan_in)) if bias else None
        if padding is None:
            padding = ((stride - 1 + dilation * (height - 1)) // 2, (stride - 1 + dilation * (width - 1)) // 2)
        self.padding: int | Pair | str = padding
        self.stride, self.dilation, self.groups = stride, dilation, groups

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.convolve(x, self.kernel[...])

    def convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The convolution with another kernel of the same shape, such as a standardised one."""
        kernel = kernel.astype(x.dtype)
        y = conv(x, kernel, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class Linear(nnx.Module):
    """Affine map of the last axis, kernel (in, out)."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, kernel_init: Init | None = None):
        uniform = init.FanInUniform(in_features)
        self.kernel = param((in_features, out_features), kernel_init or uniform)
        self.bias = param((out_features,), uniform) if bias else None

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        y = product(x, self.kernel[...].reshape(self.kernel.shape[-2:]).astype(x.dtype))
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class BatchNorm(nnx.Module):
    """Batch normalisation as torch computes it.

    Two modes, each by itself:

    - ``use_running_average`` (the default) normalises with the stored statistics and leaves them alone. Without, the
      batch's are used and the stored ones move: ``running = (1 - momentum) * running + momentum * batch``, where the
      variance stored is the unbiased one.
    - ``observe`` (off by default) changes nothing about the output, and stores the batch's own statistics, mean and
      unbiased variance, whatever was stored before.

    The variance is computed at least in float32, in a form in which a large mean does not drown it.

    Ioffe and Szegedy, https://arxiv.org/abs/1502.03167.

    Raises:
        InputError: on a batch with one value a channel, which has no variance.

    >>> norm = BatchNorm(1)
    >>> for variable, value in ((norm.scale, 1), (norm.bias, 0), (norm.mean, 0), (norm.var, 1)):
    ...     variable.set_value(jnp.full(1, value, jnp.float32))
    >>> observing = nnx.view(norm, observe=True)
    >>> observing(jnp.array([[1.0], [3.0]])).round(2).tolist()
    [[1.0], [3.0]]
    >>> observing.mean[...].tolist(), observing.var[...].tolist()
    ([2.0], [2.0])
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, scale_init: Init = init.ones):
        self.scale = param((channels,), scale_init)
        self.bias = param((channels,), init.zeros)
        self.mean = stat((channels,), init.zeros)
        self.var = stat((channels,), init.ones)
        self.eps, self.momentum = eps, momentum
        self.use_running_average = True
        self.observe = False

    def set_view(self, use_running_average: bool | None = None, observe: bool | None = None) -> None:
        if use_running_average is not None:
            self.use_running_average = use_running_average
        if observe is not None:
            self.observe = observe

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
            if self.observe:
                self._store(x, *batch_statistics.moments(x))
            return ((x - mean) * (self.scale[...] * jax.lax.rsqrt(var + self.eps)) + self.bias[...]).astype(x.dtype)
        y, moments = batch_statistics.normalise(x, self.scale[...], self.bias[...], self.eps)
        self._store(x, *moments)
        return y

    def rectified(self, x: jax.Array, shortcut: jax.Array | None = None) -> jax.Array:
        """``relu(self(x) + shortcut)`` by the batch's statistics."""
        y, moments = normalise_and_rectify(x, self.scale[...], self.bias[...], self.eps, shortcut)
        self._store(x, *moments)
        return y

    def of_widened(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """``self(pointwise(x, kernel))`` by the batch's statistics."""
        y, moments = widen_and_normalise(x, kernel.astype(x.dtype), self.scale[...], self.bias[...], self.eps)
        self._store(y, *moments)
        return y

    def _store(self, x: jax.Array, mean: jax.Array, var: jax.Array) -> None:
        """What the modes say of the batch's mean and biased variance."""
        count = x.size // x.shape[-1]
        if count < 2:
            raise InputError(
                f"BatchNorm got an input of shape {x.shape} and has one value per channel to take statistics of; "
                "use more or larger images, or the stored statistics"
            )
        for running, batch in ((self.mean, mean), (self.var, var * (count / (count - 1)))):
            moved = batch if self.observe else (1 - self.momentum) * running[...] + self.momentum * batch
            running[...] = moved.astype(running.dtype)


class GroupNorm(nnx.Module):
    """Normalises each image over groups of channels and all positions; the same in training and evaluation.

    Wu and He, https://arxiv.org/abs/1803.08494.
    """

    def __init__(self, channels: int, *, groups: int = 32, eps: float = 1e-5, scale_init: Init = init.ones):
        self.scale = param((channels,), scale_init)
        self.bias = param((channels,), init.zeros)
        self.groups, self.eps = groups, eps

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        grouped = wide.reshape(x.shape[0], -1, self.groups, x.shape[-1] // self.groups)
        centred = grouped - grouped.mean((1, 3), keepdims=True)
        var = jnp.square(centred).mean((1, 3), keepdims=True)
        normal = (centred * jax.lax.rsqrt(var + self.eps)).reshape(x.shape)
        return (normal * self.scale[...] + self.bias[...]).astype(x.dtype)


class LayerNorm(nnx.Module):
    """Normalises the last axis of each position; on NHWC arrays also timm's ``LayerNorm2d``.

    Ba et al., https://arxiv.org/abs/1607.06450.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, affine: bool = True, bias: bool = True):
        self.scale = param((channels,), init.ones) if affine else None
        self.bias = param((channels,), init.zeros) if affine and bias else None
        self.eps = eps

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        y = standardise(wide, self.eps)
        if self.scale is not None:
            y = y * self.scale[...]
        if self.bias is not None:
            y = y + self.bias[...]
        return y.astype(x.dtype)


class RmsNorm(nnx.Module):
    """Divides the last axis by its root mean square. Zhang and Sennrich, https://arxiv.org/abs/1910.07467."""

    def __init__(self, channels: int, *, eps: float = 1e-6, affine: bool = True):
        self.scale = param((channels,), init.ones) if affine else None
        self.eps = eps

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        y = wide * jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + self.eps)
        return (y if self.scale is None else y * self.scale[...]).astype(x.dtype)


class Identity(nnx.Module):
    """Its input; where other members of a family have a layer."""

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return x


class _Drop(nnx.Module):
    """What dropout and stochastic depth share: a rate, a mode, and a mask that keeps the expectation."""

    def __init__(self, rate: float):
        self.rate = rate
        self.deterministic = True

    def set_view(self, rate: float | None = None, deterministic: bool | None = None) -> None:
        if rate is not None:
            self.rate = rate
        if deterministic is not None:
            self.deterministic = deterministic

    @property
    def drops(self) -> bool:
        """Whether it changes anything."""
        return not self.deterministic and self.rate > 0

    def mask_shape(self, x: jax.Array) -> tuple[int, ...]:
        raise NotImplementedError

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        if not self.drops:
            return x
        if rngs is None:
            raise InputError(
                f"{type(self).__name__} with rate {self.rate} is in training mode and got no random numbers; "
                "call the network with rngs=nnx.Rngs(dropout=key), or view it with deterministic=True"
            )
        keep = 1 - self.rate
        mask = jax.random.bernoulli(rngs.dropout(), keep, self.mask_shape(x))
        return jnp.where(mask, x / keep, jnp.zeros_like(x)) if keep > 0 else jnp.zeros_like(x)


class Dropout(_Drop):
    """Zeroes single values with probability ``rate`` in training, scaling the rest by ``1 / (1 - rate)``.

    >>> training = nnx.view(Dropout(0.5), deterministic=False)
    >>> y = training(jnp.ones((100, 100)), nnx.Rngs(dropout=0))
    >>> bool(abs(y.mean() - 1) < 0.05), sorted(set(y.ravel().tolist()))
    (True, [0.0, 2.0])
    """

    def mask_shape(self, x: jax.Array) -> tuple[int, ...]:
        return x.shape


class DropPath(_Drop):
    """Stochastic depth: zeroes a residual branch for whole images with probability ``rate`` in training.

    Huang et al., https://arxiv.org/abs/1603.09382.
    """

    def mask_shape(self, x: jax.Array) -> tuple[int, ...]:
        return (x.shape[0],) + (1,) * (x.ndim - 1)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "elu": jax.nn.elu,
    "gelu": gelu,
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "hard_swish": jax.nn.hard_swish,
    "leaky_relu": jax.nn.leaky_relu,
    "mish": jax.nn.mish,
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": relu,
    "relu6": jax.nn.relu6,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}
"""Activation functions by timm's names; ``gelu`` is the exact one."""


class Activation(nnx.Module):
    """An activation by name (``ACTIVATIONS``).

    Raises:
        InputError: for an unknown name.

    >>> Activation("relu")(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, name: str):
        if name not in ACTIVATIONS:
            raise InputError(
                f"no activation is called {name!r}{nearest(name, ACTIVATIONS)}; there are {', '.join(ACTIVATIONS)}"
            )
        self.name = name

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return ACTIVATIONS[self.name](x)
