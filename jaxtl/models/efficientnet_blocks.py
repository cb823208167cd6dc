"""The blocks that mobile networks are made of; `block_strings` says what each kind is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtl.backend import on_cpu
from jaxtl.errors import InputError
from jaxtl.models import init
from jaxtl.models.block_strings import Block, Kernel, Options, make_divisible
from jaxtl.models.convolution import conv
from jaxtl.models.layers import Activation, Conv, DropPath, Identity, LayerNorm, Linear, param
from jaxtl.models.pooling import global_average
from jaxtl.models.softmax_attention import attend
from jaxtl.models.transformer import LayerScale, heads


@dataclass(frozen=True)
class KaimingNormal:
    """``init.kaiming_normal`` that counts the outputs of one group only."""

    groups: int

    def __call__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return init.kaiming_normal(generator, shape) * np.float32(math.sqrt(self.groups))


class MixedConv(nnx.Module):
    """Convolutions with kernels of several sizes, each of its share of the channels."""

    def __init__(self, in_channels: int, out_channels: int, kernels: tuple[int, ...], *, groups: int, **options: Any):
        if groups not in (1, in_channels):
            raise InputError(f"kernels of sizes {kernels} take one group or as many as channels, not {groups}")
        shares = _shares(in_channels, len(kernels))
        self.ends = tuple(int(end) for end in np.cumsum(shares)[:-1])
        for i, (size, inputs, outputs) in enumerate(
            zip(kernels, shares, _shares(out_channels, len(kernels)), strict=True)
        ):
            setattr(self, str(i), _plain_conv(inputs, outputs, size, groups=1 if groups == 1 else inputs, **options))

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        parts = jnp.split(x, self.ends, axis=-1)
        return jnp.concatenate([getattr(self, str(i))(part) for i, part in enumerate(parts)], axis=-1)


def _shares(channels: int, count: int) -> list[int]:
    share = channels // count
    return [channels - share * (count - 1)] + [share] * (count - 1)


class CondConv(nnx.Module):
    """A convolution whose kernel is, for each image, a mixture of several experts'.

    ``weight`` holds a torch kernel (out, in / groups, height, width), flat, for each expert.

    Yang et al., https://arxiv.org/abs/1904.04971.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        experts: int,
        stride: int = 1,
        padding: str | None = None,
        dilation: int = 1,
        groups: int = 1,
    ):
        self.shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        spread = init.Normal(math.sqrt(2 * groups / (kernel_size**2 * out_channels)))
        self.weight = param((experts, math.prod(self.shape)), spread)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.padding: int | str = padding or (stride - 1 + dilation * (kernel_size - 1)) // 2

    def __call__(self, x: jax.Array, routing: jax.Array) -> jax.Array:
        """``routing``: (batch, experts).

        All images' kernels together are a convolution in as many groups, whose number must be known, except in the
        forms for a CPU. Where it is not, in an exported program, the images are taken one by one.
        """
        kernels = (routing @ self.weight[...].astype(x.dtype)).reshape(-1, *self.shape).transpose(0, 3, 4, 2, 1)

        def one(image: jax.Array, kernel: jax.Array) -> jax.Array:
            return conv(
                image[None],
                kernel,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                groups=self.groups,
            )[0]

        if on_cpu() or isinstance(x.shape[0], int):
            return jax.vmap(one)(x, kernels)
        return jax.lax.map(lambda given: one(*given), (x, kernels))


def _plain_conv(in_channels: int, out_channels: int, kernel: int, *, groups: int = 1, **options: Any) -> Conv:
    return Conv(
        in_channels, out_channels, kernel, groups=groups, bias=False, kernel_init=KaimingNormal(groups), **options
    )


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: Kernel,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    padding: str | None = None,
    experts: int = 0,
) -> nnx.Module:
    """A convolution without bias; mixed for kernels of several sizes, conditional with experts."""
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if isinstance(kernel, tuple):
        return MixedConv(in_channels, out_channels, kernel, **options)
    if experts:
        return CondConv(in_channels, out_channels, kernel, experts=experts, **options)
    return _plain_conv(in_channels, out_channels, kernel, **options)


class SqueezeExcite(nnx.Module):
    """Channel attention by two 1x1 convolutions, by timm's names for the mobile networks."""

    def __init__(self, channels: int, narrow: int, *, act: str = "relu", gate: str = "sigmoid"):
        self.conv_reduce = Conv(channels, narrow, 1)
        self.act1 = Activation(act)
        self.conv_expand = Conv(narrow, channels, 1)
        self.gate = Activation(gate)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        squeezed = self.act1(self.conv_reduce(x.mean((1, 2), keepdims=True)))
        return x * self.gate(self.conv_expand(squeezed))


class LayerNormAct(LayerNorm):
    """Normalisation of the channels of each place, then the activation."""

    def __init__(self, channels: int, act: str | None = "relu", *, eps: float = 1e-5):
        super().__init__(channels, eps=eps)
        self.act = Activation(act) if act else None

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = super().__call__(x)
        return x if self.act is None else self.act(x)


def _groups(block: Block, channels: int, usual_size: int) -> int:
    size = usual_size if block.group_size is None else block.group_size
    if size and channels % size:
        raise InputError(f"{channels} channels are no multiple of groups of {size}; choose another channel_divisor")
    return channels // size if size else 1


class _Residual(nnx.Module):
    """A branch and, where its input fits its output and the string does not forbid it, a shortcut around it."""

    def __init__(self, in_channels: int, block: Block, options: Options):
        self.has_skip = block.stride == 1 and in_channels == block.channels and block.skip is not False
        self.drop_path = DropPath(block.drop_path)

    def branch(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        y = self.branch(x)
        return self.drop_path(y, rngs) + x if self.has_skip else y

    def set_gate(self, channels: int, block: Block, options: Options) -> None:
        assert block.act
        self.se = options.gate(channels, block.se_ratio, block.act) if block.se_ratio else Identity()

    def set_space_to_depth(self, in_channels: int, block: Block, options: Options) -> tuple[int, Kernel, str | None]:
        """Sets ``conv_s2d`` and ``bn_s2d``; channels, kernel and padding of what comes behind them."""
        self.conv_s2d: nnx.Module = Identity()
        self.bn_s2d: nnx.Module = Identity()
        if block.space_to_depth != 1:
            return in_channels, block.kernel, options.padding
        assert isinstance(block.kernel, int)
        width, kernel = 4 * in_channels, (block.kernel + 1) // 2
        self.conv_s2d = _plain_conv(in_channels, width, 2, stride=2, padding="same")
        self.bn_s2d = options.norm(width, block.act)
        return width, kernel, "same" if kernel == 2 else options.padding


def _anti_aliasing(block: Block, options: Options, stride: int) -> tuple[int, nnx.Module]:
    """The stride that is left to a convolution, and what stands behind its norm."""
    if options.anti_aliasing is None or stride == 1 or block.space_to_depth == 1:
        return stride, Identity()
    return 1, options.anti_aliasing(stride)


class ConvBnAct(_Residual):
    """``cn``."""

    def __init__(self, in_channels: int, block: Block, options: Options):
        super().__init__(in_channels, block, options)
        self.has_skip = self.has_skip and block.skip is True
        stride, self.aa = _anti_aliasing(block, options, block.stride)
        self.conv = convolution(
            in_channels,
            block.channels,
            block.kernel,
            stride=stride,
            dilation=block.dilation,
            groups=_groups(block, in_channels, 0),
            padding=options.padding,
        )
        self.bn1 = options.norm(block.channels, block.act)

    def branch(self, x: jax.Array) -> jax.Array:
        return self.aa(self.bn1(self.conv(x)))


class DepthwiseSeparableConv(_Residual):
    """``ds`` and ``dsa``."""

    def __init__(self, in_channels: int, block: Block, options: Options):
        super().__init__(in_channels, block, options)
        self.has_skip = self.has_skip and block.kind == "ds"
        width, kernel, padding = self.set_space_to_depth(in_channels, block, options)
        stride, self.aa = _anti_aliasing(block, options, block.stride)
        self.conv_dw = convolution(
            width,
            width,
            kernel,
            stride=stride,
            dilation=block.dilation,
            groups=_groups(block, width, 1),
            padding=padding,
        )
        self.bn1 = options.norm(width, block.act)
        self.set_gate(width, block, options)
        self.conv_pw = convolution(width, block.channels, block.last_kernel or 1, padding=options.padding)
        self.bn2 = options.norm(block.channels, block.act if block.kind == "dsa" else None)

    def branch(self, x: jax.Array) -> jax.Array:
        x = self.bn_s2d(self.conv_s2d(x))
        x = self.se(self.aa(self.bn1(self.conv_dw(x))))
        return self.bn2(self.conv_pw(x))


class InvertedResidual(_Residual):
    """``ir``; with experts timm's ``CondConvResidual``."""

    def __init__(self, in_channels: int, block: Block, options: Options):
        super().__init__(in_channels, block, options)
        experts, padding = block.experts, options.padding
        width, kernel, depthwise_padding = self.set_space_to_depth(in_channels, block, options)
        inside = make_divisible(width * block.expansion)
        stride, self.aa = _anti_aliasing(block, options, block.stride)
        self.routing_fn = Linear(in_channels, experts) if experts else None
        self.conv_pw = convolution(width, inside, block.first_kernel or 1, padding=padding, experts=experts)
        self.bn1 = options.norm(inside, block.act)
        self.conv_dw = convolution(
            inside,
            inside,
            kernel,
            stride=stride,
            dilation=block.dilation,
            groups=_groups(block, inside, 1),
            padding=depthwise_padding,
            experts=experts,
        )
        self.bn2 = options.norm(inside, block.act)
        self.set_gate(inside, block, options)
        self.conv_pwl = convolution(inside, block.channels, block.last_kernel or 1, padding=padding, experts=experts)
        self.bn3 = options.norm(block.channels, None)

    def branch(self, x: jax.Array) -> jax.Array:
        routing = () if self.routing_fn is None else (jax.nn.sigmoid(self.routing_fn(global_average(x))),)
        x = self.bn_s2d(self.conv_s2d(x))
        x = self.bn1(self.conv_pw(x, *routing))
        x = self.se(self.aa(self.bn2(self.conv_dw(x, *routing))))
        return self.bn3(self.conv_pwl(x, *routing))


class EdgeResidual(_Residual):
    """``er``."""

    def __init__(self, in_channels: int, block: Block, options: Options):
        super().__init__(in_channels, block, options)
        expanded = options.round_width(block.expanded_channels) if block.expanded_channels else in_channels
        inside = make_divisible(expanded * block.expansion)
        stride, self.aa = _anti_aliasing(block, options, block.stride)
        self.conv_exp = convolution(
            in_channels,
            inside,
            block.kernel,
            stride=stride,
            dilation=block.dilation,
            groups=_groups(block, inside, 0),
            padding=options.padding,
        )
        self.bn1 = options.norm(inside, block.act)
        self.set_gate(inside, block, options)
        self.conv_pwl = convolution(inside, block.channels, block.last_kernel or 1, padding=options.padding)
        self.bn2 = options.norm(block.channels, None)

    def branch(self, x: jax.Array) -> jax.Array:
        x = self.se(self.aa(self.bn1(self.conv_exp(x))))
        return self.bn2(self.conv_pwl(x))


class ConvNormAct(nnx.Module):
    """A convolution, its norm and activation, and perhaps the pooling that takes its stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Kernel,
        block: Block,
        options: Options,
        *,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
    ):
        stride, self.aa = _anti_aliasing(block, options, stride)
        dilation = block.dilation if kernel != 1 else 1
        self.conv = convolution(
            in_channels, out_channels, kernel, stride=stride, dilation=dilation, groups=groups, padding=options.padding
        )
        self.bn = options.norm(out_channels, block.act if act else None)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.aa(self.bn(self.conv(x)))


class UniversalInvertedResidual(_Residual):
    """``uir``: an inverted residual with depthwise convolutions before, inside and behind, some of them."""

    def __init__(self, in_channels: int, block: Block, options: Options):
        super().__init__(in_channels, block, options)
        out, inside, stride = block.channels, make_divisible(in_channels * block.expansion), block.stride
        first, last = block.first_kernel or 0, block.last_kernel or 0
        if stride > 1 and not (first or block.kernel or last):
            raise InputError("a uir block with a stride needs a depthwise convolution to take it")

        def depthwise(width: int, kernel: Kernel, stride: int, act: bool) -> nnx.Module:
            if not kernel:
                return Identity()
            groups = _groups(block, width, 1)
            return ConvNormAct(width, width, kernel, block, options, stride=stride, groups=groups, act=act)

        self.dw_start = depthwise(in_channels, first, 1 if block.kernel else stride, act=False)
        self.pw_exp = ConvNormAct(in_channels, inside, 1, block, options)
        self.dw_mid = depthwise(inside, block.kernel, stride, act=True)
        self.set_gate(inside, block, options)
        self.pw_proj = ConvNormAct(inside, out, 1, block, options, act=False)
        self.dw_end = depthwise(out, last, 1 if first or block.kernel else stride, act=False)
        self.layer_scale = Identity() if options.layer_scale is None else LayerScale(out, options.layer_scale)

    def branch(self, x: jax.Array) -> jax.Array:
        x = self.se(self.dw_mid(self.pw_exp(self.dw_start(x))))
        return self.layer_scale(self.dw_end(self.pw_proj(x)))


class _Projection(nnx.Module):
    """A 1x1 convolution, with a stride behind a depthwise one and its norm."""

    def __init__(self, in_channels: int, out_channels: int, block: Block, options: Options, stride: int = 1):
        strided = stride > 1
        self.down_conv: nnx.Module = Identity()
        self.norm: nnx.Module = Identity()
        if strided:
            self.down_conv = convolution(
                in_channels,
                in_channels,
                block.kernel,
                stride=stride,
                dilation=block.dilation,
                groups=in_channels,
                padding=options.padding,
            )
            self.norm = options.norm(in_channels, None)
        self.proj = convolution(in_channels, out_channels, 1)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.proj(self.norm(self.down_conv(x)))


class MultiQueryAttention(nnx.Module):
    """Attention over the places of an image, with one key and one value for all heads."""

    def __init__(self, in_channels: int, block: Block, options: Options):
        width = block.head_width
        self.heads = block.heads
        self.query = _Projection(in_channels, block.heads * width, block, options)
        self.key = _Projection(in_channels, width, block, options, block.key_stride)
        self.value = _Projection(in_channels, width, block, options, block.key_stride)
        self.output = _Projection(block.heads * width, block.channels, block, options)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        query, key, value = self.query(x), self.key(x), self.value(x)
        batch, rows, columns, width = query.shape

        def tokens(each: jax.Array) -> jax.Array:
            return each.reshape(batch, -1, 1, each.shape[-1])

        y = attend(tokens(heads(query, self.heads)), tokens(key), tokens(value))
        return self.output(y.reshape(batch, rows, columns, width))


class MobileAttention(_Residual):
    """``mqa``."""

    def __init__(self, in_channels: int, block: Block, options: Options):
        super().__init__(in_channels, block, options)
        self.norm = options.norm(in_channels, None)
        self.attn = MultiQueryAttention(in_channels, block, options)
        scale = options.layer_scale
        self.layer_scale = Identity() if scale is None else LayerScale(block.channels, scale)

    def branch(self, x: jax.Array) -> jax.Array:
        return self.layer_scale(self.attn(self.norm(x)))


_BLOCKS: dict[str, type[_Residual]] = {
    "cn": ConvBnAct,
    "ds": DepthwiseSeparableConv,
    "dsa": DepthwiseSeparableConv,
    "ir": InvertedResidual,
    "er": EdgeResidual,
    "uir": UniversalInvertedResidual,
    "mqa": MobileAttention,
}


def build_block(in_channels: int, block: Block, options: Options) -> nnx.Module:
    """The module of a resolved block."""
    return _BLOCKS[block.kind](in_channels, block, options)
