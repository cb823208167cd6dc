"""Pooling with PyTorch's semantics on NHWC arrays, and timm's anti-aliasing blur."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxtl.errors import InputError
from jaxtl.models.window_reduction import max_pool, over_windows


def global_average(x: jax.Array) -> jax.Array:
    """(batch, height, width, channels) -> (batch, channels)."""
    return x.mean((1, 2))


def _output_size(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    steps = (size + 2 * padding - kernel) / stride
    if not ceil_mode:
        return math.floor(steps) + 1
    count = math.ceil(steps) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count  # a window must start inside the image


class _Pool(nnx.Module):
    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0, *, ceil_mode: bool = False):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode

    def _sizes(self, x: jax.Array) -> tuple[int, int]:
        height, width = (
            _output_size(size, self.kernel_size, self.stride, self.padding, self.ceil_mode) for size in x.shape[1:3]
        )
        if height < 1 or width < 1:
            raise InputError(
                f"pooling in windows of {self.kernel_size}x{self.kernel_size} got a map of {x.shape[1]}x{x.shape[2]}: "
                "the images are too small for this network"
            )
        return height, width

    def _pads(self, x: jax.Array) -> tuple[tuple[int, int], ...]:
        pads = []
        for size, windows in zip(x.shape[1:3], self._sizes(x), strict=True):
            end = (windows - 1) * self.stride + self.kernel_size - size - self.padding
            pads.append((self.padding, max(end, 0)))  # a negative end: the last rows lie in no window
        return tuple(pads)


class MaxPool(_Pool):
    """Maximum over windows; ``stride`` is the kernel's size when not given.

    >>> MaxPool(3, 2, 1)(jnp.ones((1, 7, 8, 4))).shape
    (1, 4, 4, 4)
    """

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return max_pool(x, self.kernel_size, self.stride, self._pads(x))


class AvgPool(_Pool):
    """Average over windows; padded zeros count unless ``count_include_pad`` is false.

    >>> AvgPool(2, ceil_mode=True, count_include_pad=False)(jnp.ones((1, 5, 4, 1)))[0, :, :, 0].tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        *,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__(kernel_size, stride, padding, ceil_mode=ceil_mode)
        self.count_include_pad = count_include_pad

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        height, width = (
            self._counts(size, windows) for size, windows in zip(x.shape[1:3], self._sizes(x), strict=True)
        )
        counts = np.outer(height, width)[:, :, None]
        return over_windows(x, 0, lax.add, self.kernel_size, self.stride, self._pads(x)) / jnp.asarray(counts, x.dtype)

    def _counts(self, size: int, windows: int) -> np.ndarray:
        first = np.arange(windows) * self.stride - self.padding
        edge = self.padding if self.count_include_pad else 0
        return np.minimum(first + self.kernel_size, size + edge) - np.maximum(first, -edge)


class SamePool2x2(nnx.Module):
    """Average of 2x2 windows at stride 1 on an image with a row and a column of zeros behind it: the size stays.

    What timm's average-pooled shortcuts do where dilation has taken the place of a stride.
    """

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return AvgPool(2, 1)(jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))))


class BlurPool(nnx.Module):
    """Blurs with the binomial filter (1, 2, 1) / 4 in both directions, then subsamples.

    ``pad_mode`` is ``jnp.pad``'s: the edges are reflected, or with ``"constant"`` surrounded by zeros.

    Zhang, "Making Convolutional Networks Shift-Invariant Again", https://arxiv.org/abs/1904.11486.

    >>> BlurPool(2)(jnp.ones((1, 7, 8, 2))).shape
    (1, 4, 4, 2)
    """

    def __init__(self, stride: int, pad_mode: str = "reflect"):
        self.stride, self.pad_mode = stride, pad_mode

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        pad = (self.stride + 1) // 2
        x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=self.pad_mode)
        return self._blur(self._blur(x, 1), 2)

    def _blur(self, x: jax.Array, axis: int) -> jax.Array:
        span = x.shape[axis] - 2  # the number of places the filter fits
        left, middle, right = (lax.slice_in_dim(x, i, i + span, self.stride, axis) for i in range(3))
        return 0.25 * left + 0.5 * middle + 0.25 * right
