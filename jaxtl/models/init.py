"""How parameters start when no pretrained weights fill them: numpy, so that building a network computes nothing.

Every initialiser is called with ``(generator, shape)`` and returns a float32 array. They compare and hash by value,
because they travel in the static part of a network, and two builds of one architecture must be equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


def zeros(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """All zeros."""
    return np.zeros(shape, np.float32)


def ones(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """All ones."""
    return np.ones(shape, np.float32)


def kaiming_normal(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal with variance ``2 / fan_out``, for a kernel in front of a ReLU; the last axis is the output's.

    He et al., "Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852.

    >>> round(float(kaiming_normal(np.random.default_rng(0), (3, 3, 64, 32)).std() * (9 * 32 / 2) ** 0.5), 2)
    1.0
    """
    fan_out = math.prod(shape) // shape[-2]
    return generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / fan_out))


@dataclass(frozen=True)
class FanInUniform:
    """Uniform within ``1 / sqrt(fan_in)`` of zero: what torch gives kernels and biases of its layers by default.

    >>> bool(abs(FanInUniform(100)(np.random.default_rng(0), (100, 5))).max() <= 0.1)
    True
    """

    fan_in: int

    def __call__(self, generator: np.random.Generator, shape: Shape) -> np.ndarray:
        bound = 1 / math.sqrt(self.fan_in)
        return generator.uniform(-bound, bound, shape).astype(np.float32)


@dataclass(frozen=True)
class Normal:
    """Normal with a standard deviation, cut off at two of them: ``trunc_normal_`` of the transformers.

    >>> bool(abs(Normal(0.02)(np.random.default_rng(0), (100, 5))).max() <= 0.04)
    True
    """

    std: float

    def __call__(self, generator: np.random.Generator, shape: Shape) -> np.ndarray:
        values = generator.standard_normal(shape, np.float32)
        while (outside := np.abs(values) > 2).any():
            values[outside] = generator.standard_normal(int(outside.sum()), np.float32)
        return values * np.float32(self.std)


@dataclass(frozen=True)
class Constant:
    """One value everywhere, such as the small scale with which a residual branch starts."""

    value: float

    def __call__(self, generator: np.random.Generator, shape: Shape) -> np.ndarray:
        return np.full(shape, self.value, np.float32)
