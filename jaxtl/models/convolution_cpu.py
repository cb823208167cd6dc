"""Forms of convolutions that XLA computes faster on a CPU than its own: `jaxtl.models.convolution` chooses among them.

Their gradients are custom ones, so that what contains them can be differentiated backwards (``jax.grad``, ``jax.vjp``)
but not forwards (``jax.jvp``).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxtl.models.general_convolution import Pads, general
from jaxtl.models.shifted_products import shifted_products


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def apart(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int) -> jax.Array:
    """XLA's own form, whose gradients read finished maps. For the kernel's XLA transposes ``x``, and would else compute
    it again meanwhile, in the order of the transpose, where no read finds its pixels in the processor's cache."""
    return general(x, kernel, stride, pads, dilation)


def _apart_forward(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return apart(x, kernel, stride, pads, dilation), (x, kernel)


def _apart_gradients(
    stride: int, pads: Pads, dilation: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    x, gradient = lax.optimization_barrier((x, gradient))
    return jax.vjp(lambda x, kernel: general(x, kernel, stride, pads, dilation), x, kernel)[1](gradient)


apart.defvjp(_apart_forward, _apart_gradients)


def unfolded(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int) -> jax.Array:
    """As a product of all windows, laid out one after the other, with the kernel. Where the output has 2x2 places or
    fewer it takes a fifth to a tenth of the time of XLA's own form."""
    rows, columns, channels, outputs = kernel.shape
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    reach = [size - (taps - 1) * dilation for size, taps in zip(padded.shape[1:3], (rows, columns), strict=True)]
    windows = jnp.stack(
        [
            padded[:, top : top + reach[0] : stride, left : left + reach[1] : stride]
            for top in range(0, rows * dilation, dilation)
            for left in range(0, columns * dilation, dilation)
        ],
        3,
    )
    places = windows.shape[1:3]
    y = windows.reshape(-1, rows * columns * channels) @ kernel.reshape(-1, outputs)
    return y.reshape(-1, *places, outputs)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def dense(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int) -> jax.Array:
    """Any convolution without groups: XLA's own, with another form of the kernel's gradient. That goes image by image,
    of which it lays the windows' columns side by side and multiplies each row of the kernel's places with the outputs'
    gradient. On large maps it takes a third to two thirds of the time that XLA's takes with its default options."""
    return general(x, kernel, stride, pads, dilation)


def _dense_forward(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return dense(x, kernel, stride, pads, dilation), (x, kernel)


def _dense_gradients(
    stride: int, pads: Pads, dilation: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    (for_x,) = jax.vjp(lambda x: general(x, kernel, stride, pads, dilation), x)[1](gradient)
    rows, columns, channels, outputs = kernel.shape
    height, width = gradient.shape[1:3]
    reach = (height - 1) * stride + 1, (width - 1) * stride + 1
    wide = columns * channels >= outputs  # the longer side of a product belongs last

    def of_image(totals: list[jax.Array], pixels: tuple[jax.Array, jax.Array]) -> tuple[list[jax.Array], None]:
        image, of_outputs = jnp.pad(pixels[0], (*pads, (0, 0))), pixels[1].reshape(-1, outputs)
        starts = range(0, columns * dilation, dilation)
        beside = jnp.concatenate([lax.slice_in_dim(image, j, j + reach[1], stride, 1) for j in starts], -1)

        def of_row(i: int) -> jax.Array:
            windows = lax.slice_in_dim(beside, i, i + reach[0], stride).reshape(height * width, -1)
            pair = (of_outputs, windows) if wide else (windows, of_outputs)
            return jnp.matmul(pair[0].T, pair[1], preferred_element_type=totals[0].dtype)

        return [total + of_row(i * dilation) for i, total in enumerate(totals)], None

    shape = (outputs, columns * channels) if wide else (columns * channels, outputs)
    start = [jnp.zeros(shape, jnp.promote_types(x.dtype, jnp.float32))] * rows
    totals, _ = lax.scan(of_image, start, (x, gradient))
    for_kernel = jnp.stack([total.T if wide else total for total in totals])
    return for_x, for_kernel.reshape(kernel.shape).astype(kernel.dtype)


dense.defvjp(_dense_forward, _dense_gradients)


@partial(jax.jit, static_argnames=("stride", "pads", "dilation"))
def depthwise(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int) -> jax.Array:
    """A sum of shifted products, each channel with its own kernel. In float32 at least: XLA's loops over half precision
    are slow."""
    dtype = jnp.result_type(x, kernel)
    x, kernel = (array.astype(jnp.promote_types(dtype, jnp.float32)) for array in (x, kernel))
    if stride == dilation == 1:
        y = _dense_depthwise(x, kernel, pads)
    else:
        y = shifted_products(x, kernel, stride, pads, dilation)
    return y.astype(dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _dense_depthwise(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """With gradients in forms of their own. The kernel's goes image by image, whose pixels then stay in the processor's
    cache for all taps: two to three times as fast as what XLA makes of the sum."""
    return shifted_products(x, kernel, 1, pads, 1)


def _dense_depthwise_forward(
    x: jax.Array, kernel: jax.Array, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _dense_depthwise(x, kernel, pads), (x, kernel)


def _dense_depthwise_gradients(
    pads: Pads, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    rows, columns = kernel.shape[:2]
    height, width = gradient.shape[1:3]
    (top, bottom), (left, right) = pads
    mirrored = ((rows - 1 - top, rows - 1 - bottom), (columns - 1 - left, columns - 1 - right))
    for_x = shifted_products(gradient, kernel[::-1, ::-1], 1, mirrored, 1)

    def of_image(total: jax.Array, pixels: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        image, of_output = jnp.pad(pixels[0], (*pads, (0, 0))), pixels[1]

        def row(i: jax.Array) -> jax.Array:
            below = lax.dynamic_slice_in_dim(image, i, height, 0)
            return jnp.stack([(below[:, j : j + width] * of_output).sum((0, 1)) for j in range(columns)])

        return total + lax.map(row, jnp.arange(rows)), None

    start = jnp.zeros((rows, columns, x.shape[-1]), jnp.promote_types(x.dtype, jnp.float32))
    for_kernel, _ = lax.scan(of_image, start, (x, gradient))
    return for_x, for_kernel[:, :, None].astype(kernel.dtype)


_dense_depthwise.defvjp(_dense_depthwise_forward, _dense_depthwise_gradients)
