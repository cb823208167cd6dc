"""The strings that describe the blocks of mobile networks.

A string such as ``"ir_r2_k3_s2_e6_c24_se0.25"`` begins with the kind of block and goes on with letters and numbers:

====  =======================================================================================================
kind  block
====  =======================================================================================================
cn    convolution, norm, activation
ds    depthwise and 1x1 convolution (https://arxiv.org/abs/1704.04861); ``dsa`` with an activation at the end
ir    inverted residual (https://arxiv.org/abs/1801.04381): 1x1 to a wider inside, depthwise, 1x1
er    the same with one full convolution in the place of the first two (https://arxiv.org/abs/2003.02838)
uir   universal inverted bottleneck (https://arxiv.org/abs/2404.10518)
mqa   attention with one key and one value for all heads (https://arxiv.org/abs/1911.02150)
====  =======================================================================================================

``r`` repeats, ``k`` kernel (``k3.5.7``: channels shared out to several, https://arxiv.org/abs/1907.09595), ``s`` stride
of the first, ``e`` expansion of the inside, ``c`` channels, ``se`` ratio of squeeze-and-excitation, ``a`` and ``p``
kernels of the first and last convolution (in ``uir`` of depthwise ones before and behind), ``n`` activation, ``skip``
and ``noskip`` a shortcut or none, ``fc`` the channels that ``e`` expands, ``cc`` experts of conditional convolutions
(https://arxiv.org/abs/1904.04971), ``gs`` channels of a group, ``d`` space to depth (https://arxiv.org/abs/2102.05610),
and in ``mqa`` ``h`` heads, ``d`` their width, ``v`` stride of keys and values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flax import nnx

from jaxtl.errors import InputError

Kernel = int | tuple[int, ...]


def make_divisible(value: float, divisor: int = 8, round_limit: float = 0.9) -> int:
    """The multiple of ``divisor`` nearest to a width, but not below ``round_limit`` of it.

    >>> make_divisible(35), make_divisible(11), make_divisible(11, round_limit=0.0)
    (32, 16, 8)
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded


@dataclass(frozen=True)
class Block:
    """One block, as its string says it and then, after ``resolve``, as it is built."""

    kind: str
    channels: int
    kernel: Kernel = 3
    stride: int = 1
    dilation: int = 1
    expansion: float = 1.0
    first_kernel: Kernel | None = None
    last_kernel: Kernel | None = None
    se_ratio: float = 0.0
    act: str | None = None
    skip: bool | None = None
    expanded_channels: int = 0
    experts: int = 0
    group_size: int | None = None
    space_to_depth: int = 0
    heads: int = 0
    head_width: int = 0
    key_stride: int = 1
    drop_path: float = 0.0


def _kernel(text: str) -> Kernel:
    sizes = tuple(map(int, text.split(".")))
    return sizes if len(sizes) > 1 else sizes[0]


_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "r": ("repeats", int),
    "k": ("kernel", _kernel),
    "s": ("stride", int),
    "e": ("expansion", float),
    "c": ("channels", int),
    "se": ("se_ratio", float),
    "a": ("first_kernel", _kernel),
    "p": ("last_kernel", _kernel),
    "fc": ("expanded_channels", int),
    "cc": ("experts", int),
    "gs": ("group_size", int),
    "d": ("space_to_depth", int),
    "h": ("heads", int),
    "v": ("key_stride", int),
}
KINDS = ("cn", "ds", "dsa", "ir", "er", "uir", "mqa")
_ACTIVATIONS = {"re": "relu", "r6": "relu6", "hs": "hard_swish", "sw": "silu", "mi": "mish"}


def decode(string: str) -> tuple[int, Block]:
    """The number of repeats and the block that a string describes.

    Raises:
        InputError: a string that says something else.

    >>> repeats, block = decode("ir_r2_k3_s2_e6_c24_se0.25")
    >>> repeats, block.kind, block.stride, block.expansion, block.channels, block.se_ratio
    (2, 'ir', 2, 6.0, 24, 0.25)
    """
    kind, *parts = string.split("_")
    values: dict[str, Any] = {}
    for part in parts:
        found = re.fullmatch(r"([a-z]+)(\d[\d.]*)", part)
        if part in ("skip", "noskip"):
            values["skip"] = part == "skip"
        elif part[0] == "n" and part[1:] in _ACTIVATIONS:
            values["act"] = _ACTIVATIONS[part[1:]]
        elif found and found[1] in _FIELDS:
            name, parse = _FIELDS[found[1]]
            values[name] = parse(found[2])
        else:
            raise InputError(f"{part!r} in the block string {string!r} means nothing")
    if kind not in KINDS or not {"repeats", "channels"} <= set(values):
        raise InputError(f"{string!r} is no block string; those begin with {', '.join(KINDS)} and have r and c")
    if kind == "mqa":
        values["head_width"] = values.pop("space_to_depth")
    return values.pop("repeats"), Block(kind, **values)


def decode_stages(
    strings: Sequence[str],
    *,
    depth_multiplier: float | tuple[float, ...] = 1.0,
    depth_trunc: str = "ceil",
    fix_first_last: bool = False,
    experts_multiplier: int = 1,
    group_size: int | None = None,
) -> list[list[Block]]:
    """The blocks of each stage, repeats written out.

    Args:
        strings: for each stage its blocks, separated by spaces.
        depth_multiplier: of the number of blocks, for all stages or for each.
        depth_trunc: ``"ceil"`` or ``"round"``: how that becomes a whole number.
        fix_first_last: leaves the first and the last stage alone.
        experts_multiplier: of the experts of conditional convolutions.
        group_size: channels of a group where the string does not say.

    >>> [len(stage) for stage in decode_stages(["ds_r1_c8", "ir_r2_c16 ir_r1_c16"], depth_multiplier=1.4)]
    [2, 5]
    """
    count = len(strings)
    multipliers = depth_multiplier if isinstance(depth_multiplier, tuple) else (depth_multiplier,) * count
    if len(multipliers) != count:
        raise InputError(f"depth_multiplier has {len(multipliers)} numbers, the network {count} stages")
    stages = []
    for i, (stage, multiplier) in enumerate(zip(strings, multipliers, strict=True)):
        decoded = [decode(string) for string in stage.split()]
        fixed = fix_first_last and i in (0, count - 1)
        repeats = _scaled([repeats for repeats, _ in decoded], 1.0 if fixed else multiplier, depth_trunc)
        blocks = []
        for times, (_, block) in zip(repeats, decoded, strict=True):
            groups = group_size if block.group_size is None else block.group_size
            blocks += [replace(block, group_size=groups, experts=block.experts * experts_multiplier)] * times
        stages.append(blocks)
    return stages


def _scaled(repeats: list[int], multiplier: float, trunc: str) -> list[int]:
    """Shares the scaled number of blocks out, beginning behind: a stage's first kind is the last to be repeated."""
    left = sum(repeats)
    wanted = max(1, round(left * multiplier)) if trunc == "round" else math.ceil(left * multiplier)
    scaled = []
    for times in reversed(repeats):
        scaled.append(max(1, round(times / left * wanted)))
        left, wanted = left - times, wanted - scaled[-1]
    return scaled[::-1]


@dataclass(frozen=True)
class Options:
    """What all blocks of a network have in common.

    Attributes:
        norm: (channels, activation or none) -> normalisation with that activation.
        gate: (channels, ratio, activation) -> channel attention.
        anti_aliasing: stride -> what takes the stride behind an undivided convolution.
        padding: of ``Conv``.
        round_width: (channels) -> channels of this network.
        se_from_exp: ``se`` is a part of a block's inside, not of its input.
        layer_scale: start of a factor for each channel at the end of ``uir`` and ``mqa``.
    """

    act: str
    norm: Callable[[int, str | None], nnx.Module]
    gate: Callable[[int, float, str], nnx.Module]
    anti_aliasing: Callable[[int], nnx.Module] | None
    padding: str | None
    round_width: Callable[[float], int]
    se_from_exp: bool
    layer_scale: float | None


def resolve(
    stages: list[list[Block]], options: Options, *, output_stride: int = 32, drop_path_rate: float = 0.0
) -> Iterator[list[Block]]:
    """Gives each block of each stage the numbers it is built with: widths, stride, dilation, rates."""
    count, position = sum(map(len, stages)), 0
    net_stride, dilation = 2, 1
    packed = 0  # space to depth: 0 off, 1 in this block, 2 since an earlier one
    for stage in stages:
        resolved = []
        for i, block in enumerate(stage):
            stride, expansion = block.stride if i == 0 else 1, block.expansion
            if not packed and block.space_to_depth:
                packed = 1
                net_stride *= 2
            elif packed == 2 and stride == 2:  # its stride is taken already; back to the widths of the strings
                packed, stride, expansion = 0, 1, expansion / 4
            this_dilation = dilation
            if stride > 1 and net_stride * stride > output_stride:
                dilation, stride = dilation * stride, 1
            net_stride *= stride
            resolved.append(
                replace(
                    block,
                    channels=options.round_width(block.channels) * (4 if packed else 1),
                    stride=stride,
                    dilation=this_dilation,
                    expansion=expansion,
                    se_ratio=_se_ratio(block, expansion, packed, options),
                    act=block.act or options.act,
                    space_to_depth=packed,
                    drop_path=drop_path_rate * position / count,
                )
            )
            packed = 2 if packed else 0
            position += 1
        yield resolved


def _se_ratio(block: Block, expansion: float, packed: int, options: Options) -> float:
    ratio = block.se_ratio if options.se_from_exp or block.kind in ("ds", "dsa") else block.se_ratio / expansion
    return ratio / 4 if packed == 1 else ratio
