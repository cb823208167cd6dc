"""Forms of convolutions that XLA computes faster on a CPU than its own: `jaxtl.models.convolution` chooses among them.

Their gradients are custom ones, so that what contains them can be differentiated backwards (``jax.grad``, ``jax.vjp``)
but not forwards (``jax.jvp``).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]

STRIP = 2**21  # bytes of the unfolded windows that are multiplied at a time: about a processor's own cache


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def dense(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int) -> jax.Array:
    """Any convolution without groups: XLA's own, with another form of the kernel's gradient. That goes by strips of an
    image, whose windows are unfolded and multiplied with the outputs' gradient, and takes a half to a quarter of the
    time where the maps are large."""
    return _xla(x, kernel, stride, pads, dilation)


def _xla(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, rhs_dilation=(dilation, dilation), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _dense_forward(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return dense(x, kernel, stride, pads, dilation), (x, kernel)


def _dense_gradients(
    stride: int, pads: Pads, dilation: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    (for_x,) = jax.vjp(lambda x: _xla(x, kernel, stride, pads, dilation), x)[1](gradient)
    rows, columns, channels, outputs = kernel.shape
    height, width = gradient.shape[1:3]
    unfolded = width * rows * columns * channels * x.dtype.itemsize
    high = max(size for size in range(1, height + 1) if height % size == 0 and size * unfolded <= max(STRIP, unfolded))
    reach = (high - 1) * stride + 1, (width - 1) * stride + 1

    def of_image(total: jax.Array, pixels: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        image, of_outputs = jnp.pad(pixels[0], (*pads, (0, 0))), pixels[1]

        def of_strip(number: jax.Array, total: jax.Array) -> jax.Array:
            strip = lax.dynamic_slice_in_dim(image, number * high * stride, reach[0] + (rows - 1) * dilation)
            windows = [
                lax.slice(strip, (i, j, 0), (i + reach[0], j + reach[1], channels), (stride, stride, 1))
                for i in range(0, rows * dilation, dilation)
                for j in range(0, columns * dilation, dilation)
            ]
            of_pixels = lax.dynamic_slice_in_dim(of_outputs, number * high, high).reshape(-1, outputs)
            unfolded = jnp.concatenate(windows, -1).reshape(high * width, -1)
            return total + jnp.matmul(of_pixels.T, unfolded, preferred_element_type=total.dtype)

        return lax.fori_loop(0, height // high, of_strip, total), None

    start = jnp.zeros((outputs, rows * columns * channels), jnp.promote_types(x.dtype, jnp.float32))
    for_kernel, _ = lax.scan(of_image, start, (x, gradient))
    return for_x, for_kernel.T.reshape(kernel.shape).astype(kernel.dtype)


dense.defvjp(_dense_forward, _dense_gradients)


@partial(jax.jit, static_argnames=("stride", "pads", "dilation"))
def depthwise(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int) -> jax.Array:
    """A sum of shifted products, each channel with its own kernel."""
    if stride == dilation == 1:
        return _dense_depthwise(x, kernel, pads)
    return _shifted_products(x, kernel, stride, pads, dilation)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _dense_depthwise(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """With gradients in forms of their own. The kernel's goes image by image, whose pixels then stay in the processor's
    cache for all taps: two to three times as fast as what XLA makes of the sum."""
    return _shifted_products(x, kernel, 1, pads, 1)


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
    for_x = _shifted_products(gradient, kernel[::-1, ::-1], 1, mirrored, 1)

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


def _shifted_products(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, dilation: int) -> jax.Array:
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    batch, *sizes, channels = x.shape
    reach = [
        (size - (taps - 1) * dilation - 1) // stride * stride for size, taps in zip(sizes, kernel.shape, strict=False)
    ]
    total = None
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            top, left = i * dilation, j * dilation
            window = lax.slice(
                x, (0, top, left, 0), (batch, top + reach[0] + 1, left + reach[1] + 1, channels), (1, stride, stride, 1)
            )
            term = window * kernel[i, j, 0]
            total = term if total is None else total + term
    assert total is not None
    return total
