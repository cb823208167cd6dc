"""How a 2-d convolution is computed: the one place where its form is chosen."""

from __future__ import annotations

import jax

from jaxtl.backend import on_cpu, on_gpu
from jaxtl.errors import InputError
from jaxtl.jitted import for_this_machine
from jaxtl.models import convolution_cpu, shifted_products, space_to_depth
from jaxtl.models.convolution_onednn import by_onednn
from jaxtl.models.general_convolution import general
from jaxtl.models.onednn import for_onednn
from jaxtl.models.pointwise import pointwise
from jaxtl.models.product import product
from jaxtl.models.stored_order import in_stored_order

Pair = tuple[int, int]

SMALL = 4  # places of an output up to which, on a CPU, its windows are multiplied with the kernel
LARGE = 160  # pixels of a map from which on, on a CPU, unfolding its windows pays where XLA's own form is slow
WORK = 2**28  # multiplications from which on, on a CPU, oneDNN convolves, ...
KERNEL = 2**12  # ... if the kernel has so many numbers: of others there is less to gain than to compile anew
FEW = 4  # channels up to which a GPU takes blocks of pixels for channels
TAPS = 25  # of a depthwise kernel up to which a GPU adds up shifted products


def pair(value: int | Pair) -> Pair:
    """(height, width) from one number or both.

    >>> pair(3), pair((1, 7))
    ((3, 3), (1, 7))
    """
    return (value, value) if isinstance(value, int) else value


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> Pair:
    """TensorFlow's "SAME": zeros before and behind, so that the output has ``ceil(size / stride)`` places.

    >>> same_padding(224, 3, 2), same_padding(224, 3, 1)
    ((0, 1), (1, 1))
    """
    missing = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return missing // 2, missing - missing // 2


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    padding: int | Pair | str = 0,
    dilation: int = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolution with torch's arguments, ``x`` (batch, height, width, in), kernel (height, width, in / groups, out).

    ``padding`` is a number of zeros on both sides, (vertical, horizontal) ones, or ``"same"`` as in TensorFlow.

    On a CPU a 1x1 convolution is a matrix product, which XLA computes 1.2 to 3 times faster there, gradients included;
    so is one with 2x2 outputs or fewer, 5 to 10 times faster, and a depthwise one is a sum of shifted products: 16 to
    50 times faster forward, 4 to 30 times backward. Large ones and those in groups are oneDNN's in what `jaxtl.jitted`
    compiles, and others XLA's own, which is fast there. Elsewhere the kernel's gradient on large maps has a form of its
    own, 1.3 to 4 times faster. `jax.grad` works through all of them, `jax.jvp` (forward-mode differentiation) on TPUs
    only. On a GPU a stem of stride 2 sees blocks of 2x2 pixels, a depthwise convolution is a sum of shifted products
    too, and a 1x1 convolution through which gradients flow is a matrix product.

    Raises:
        InputError: when ``x`` has not the channels that the kernel takes.

    >>> import jax.numpy as jnp
    >>> conv(jnp.ones((2, 9, 9, 3)), jnp.ones((3, 3, 3, 8)), stride=2, padding=1).shape
    (2, 5, 5, 8)
    """
    if x.ndim != 4 or x.shape[-1] != kernel.shape[2] * groups:
        raise InputError(
            f"a convolution of {kernel.shape[2] * groups} channels got an array of shape {x.shape}; "
            "images are (batch, height, width, channels)"
        )
    pads = _pads(x, kernel, stride, padding, dilation)
    is_pointwise = kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)) and groups == 1
    if on_cpu():
        if is_pointwise:
            return product(x[:, ::stride, ::stride], kernel[0, 0])
        if kernel.shape[2] == 1 and kernel.shape[3] == groups > 1:
            return convolution_cpu.depthwise(x, kernel, stride, pads, dilation)
        places = _places(x, kernel, stride, pads, dilation)
        if 0 < places <= SMALL and groups == 1:
            return convolution_cpu.unfolded(x, kernel, stride, pads, dilation)
        if for_this_machine():
            pays = kernel.size >= KERNEL and x.shape[0] * places * kernel.size >= WORK
            if (pays or groups > 1) and for_onednn(x, kernel):
                return by_onednn(x, kernel, stride, pads, dilation, groups)
            if groups == 1:
                return convolution_cpu.apart(x, kernel, stride, pads, dilation)
        elif groups == 1 and places >= LARGE:
            return convolution_cpu.dense(x, kernel, stride, pads, dilation)
    if on_gpu():
        if is_pointwise and stride == 1:  # XLA's fusion of a strided slice into a product ends the process
            return pointwise(x, kernel)
        kernel = in_stored_order(kernel)
        if stride == 2 and dilation == groups == 1 and x.shape[-1] <= FEW and min(kernel.shape[:2]) > 1:
            return space_to_depth.strided_conv(x, kernel, stride, pads)
        if kernel.shape[2] == 1 and kernel.shape[3] == groups > 1 and kernel.shape[0] * kernel.shape[1] <= TAPS:
            return shifted_products.depthwise(x, kernel, stride, pads, dilation)
    return general(x, kernel, stride, pads, dilation, groups)


def _pads(x: jax.Array, kernel: jax.Array, stride: int, padding: int | Pair | str, dilation: int) -> tuple[Pair, Pair]:
    if isinstance(padding, str):
        height, width = (same_padding(x.shape[i + 1], kernel.shape[i], stride, dilation) for i in range(2))
        return height, width
    vertical, horizontal = pair(padding)
    return (vertical, vertical), (horizontal, horizontal)


def _places(x: jax.Array, kernel: jax.Array, stride: int, pads: tuple[Pair, Pair], dilation: int) -> int:
    """Pixels of the output; 0 where the kernel is larger than what it sees."""
    height, width = (
        (x.shape[i + 1] + sum(pads[i]) - (kernel.shape[i] - 1) * dilation - 1) // stride + 1 for i in range(2)
    )
    return max(height, 0) * max(width, 0)
