"""Convolutions by oneDNN, with gradients that are such convolutions again, or products where these are faster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxtl.models import general_convolution, winograd
from jaxtl.models.general_convolution import Pads
from jaxtl.models.onednn import convolve

FEW = 16  # input channels below which XLA's form of a kernel's gradient is faster than oneDNN, in any precision
IMAGES, LARGE = 32, 400  # and pixels of the input's maps, from which on oneDNN's form is faster in float32 too


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def by_onednn(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int, groups: int) -> jax.Array:
    """A convolution: in float32 forward and backward to the input 1.2 to 1.6 times as fast as XLA's own, in groups ten
    times and more. In bfloat16 with AMX five times as fast as in float32.

    Where gradients flow, one of `jaxtl.models.winograd` if that is faster: a step of training takes 0.8 to 0.96 of the
    time. Without them it would hardly be, and takes half a second longer to compile."""
    return convolve(x, kernel, pads, strides=(stride, stride), dilations=(dilation, dilation), groups=groups)


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int, groups: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    if winograd.pays(x, kernel, stride, dilation, groups):
        return winograd.forward(x, kernel, pads), (x, kernel)
    return by_onednn(x, kernel, stride, pads, dilation, groups), (x, kernel)


def _gradients(
    stride: int, pads: Pads, dilation: int, groups: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    x, gradient = lax.optimization_barrier((x, gradient))  # as in convolution_cpu.apart
    if winograd.pays(x, kernel, stride, dilation, groups):
        return winograd.gradients(x, kernel, gradient, pads)
    return (
        of_input(gradient, kernel, x.shape, stride, pads, dilation, groups),
        of_kernel(x, gradient, kernel.shape, stride, pads, dilation, groups),
    )


by_onednn.defvjp(_forward, _gradients)


def of_input(
    gradient: jax.Array,
    kernel: jax.Array,
    shape: tuple[int, ...],
    stride: int,
    pads: Pads,
    dilation: int,
    groups: int,
) -> jax.Array:
    """The gradient of an input of ``shape``. Under a stride the input's places fall into classes, each of which meets
    taps of its own: each is a convolution without a stride."""
    mirrored = _mirrored(kernel, groups)
    if stride == 1:
        return _shifted(gradient, mirrored, shape[1:3], [low for low, _ in pads], dilation, groups)
    if dilation > 1:
        return general_convolution.of_input(gradient, kernel, shape, stride, pads, dilation, groups)
    sizes = [-(-size // stride) for size in shape[1:3]]
    rows = [
        jnp.stack([_phase(gradient, mirrored, sizes, (top, left), stride, pads, groups) for left in range(stride)], 3)
        for top in range(stride)
    ]
    whole = jnp.stack(rows, 2).reshape(shape[0], sizes[0] * stride, sizes[1] * stride, shape[3])
    return whole[:, : shape[1], : shape[2]]


def of_kernel(
    x: jax.Array,
    gradient: jax.Array,
    shape: tuple[int, ...],
    stride: int,
    pads: Pads,
    dilation: int,
    groups: int,
) -> jax.Array:
    """The gradient of a kernel of ``shape``."""
    many = x.shape[0] >= IMAGES and x.shape[1] * x.shape[2] >= LARGE
    if groups == 1 and (shape[2] < FEW or (x.dtype == jnp.float32 and not many)):
        x, wide = x.astype(jnp.float32), gradient.astype(jnp.float32)
        return general_convolution.of_kernel(x, wide, shape, stride, pads, dilation).astype(gradient.dtype)
    return _of_kernel_as_convolution(x, gradient, shape, stride, pads, dilation, groups)


def _of_kernel_as_convolution(
    x: jax.Array,
    gradient: jax.Array,
    shape: tuple[int, ...],
    stride: int,
    pads: Pads,
    dilation: int,
    groups: int,
) -> jax.Array:
    """A convolution over three kinds of places, rows, columns and a group's input channels, whose channels are the
    images of each group and whose kernel is ``gradient``. XLA's takes 10 to 40 times as long in groups. In one group
    and float32 it takes 1.2 times as long for many images with large maps, and less for others."""
    reach = [
        (taps - 1) * dilation + (size - 1) * stride + 1 for taps, size in zip(shape, gradient.shape[1:3], strict=False)
    ]
    padded = _padded(
        x, [(low, need - size - low) for (low, _), need, size in zip(pads, reach, x.shape[1:3], strict=True)]
    )
    in_groups = padded.reshape(*padded.shape[:3], groups, shape[2]).transpose(1, 2, 4, 3, 0)
    found = convolve(
        in_groups.reshape(1, *reach, shape[2], groups * x.shape[0]),
        gradient.transpose(1, 2, 0, 3)[:, :, None],
        [(0, 0)] * 3,
        strides=(dilation, dilation, 1),
        dilations=(stride, stride, 1),
        groups=groups,
        dtype=jnp.float32,
    )
    return found[0].astype(gradient.dtype)


def _mirrored(kernel: jax.Array, groups: int) -> jax.Array:
    """The kernel that leads from outputs back to inputs: (rows, columns, out / groups, in)."""
    rows, columns, inputs, outputs = kernel.shape
    of_groups = kernel[::-1, ::-1].reshape(rows, columns, inputs, groups, outputs // groups)
    return of_groups.transpose(0, 1, 4, 3, 2).reshape(rows, columns, outputs // groups, groups * inputs)


def _shifted(
    gradient: jax.Array, mirrored: jax.Array, sizes: Sequence[int], lows: Sequence[int], dilation: int, groups: int
) -> jax.Array:
    """The gradient of ``sizes`` places, before the first of which there were ``lows`` zeros."""
    spans = [(taps - 1) * dilation for taps in mirrored.shape[:2]]
    edges = [
        (span - low, size + low - known)
        for span, low, size, known in zip(spans, lows, sizes, gradient.shape[1:3], strict=True)
    ]
    cut = _padded(gradient, [(min(low, 0), min(high, 0)) for low, high in edges])
    pads = [(max(low, 0), max(high, 0)) for low, high in edges]
    return convolve(cut, mirrored, pads, dilations=(dilation, dilation), groups=groups)


def _phase(
    gradient: jax.Array,
    mirrored: jax.Array,
    sizes: Sequence[int],
    phase: tuple[int, int],
    stride: int,
    pads: Pads,
    groups: int,
) -> jax.Array:
    """The gradient of every ``stride``-th place from ``phase`` on."""
    lows, taps = [], mirrored
    for axis, (first, (low, _)) in enumerate(zip(phase, pads, strict=True)):
        start = (first + low) % stride  # the first tap that meets these places
        count = len(range(start, mirrored.shape[axis], stride))
        if count == 0:
            return jnp.zeros((gradient.shape[0], *sizes, mirrored.shape[-1]), gradient.dtype)
        last = mirrored.shape[axis] - 1 - start
        taps = lax.slice_in_dim(taps, last - (count - 1) * stride, last + 1, stride, axis)
        lows.append((first + low) // stride)
    return _shifted(gradient, taps, sizes, lows, 1, groups)


def _padded(x: jax.Array, edges: Sequence[tuple[int, int]]) -> jax.Array:
    """With zeros around the places, or with fewer places where an edge is negative."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in edges), (0, 0, 0)])
