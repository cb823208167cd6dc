"""torchvision's names for what timm has, as tables: ``jaxtl.pretrained.torchvision`` reads and writes by them.

Each family has a short one: a pattern of timm's module names, and where torchvision keeps the same module. Numbers in
the pattern are handed to the right-hand side as integers. ResNets, DenseNets and Inception v3 have the same in both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

Place = tuple[str, str]
"""(name, form). The form says how torchvision keeps an array: ``same``; ``matrix``: as a linear layer what is a
convolution in timm; ``column``: with two more axes; ``first third``, ``last third``: a part of a longer vector."""

Rules = tuple[tuple[str, Callable[..., str] | str] | tuple[str, Callable[..., str] | str, str], ...]

_CONVNEXT: Rules = (
    (r"stem\.(\d)", lambda i: f"features.0.{i}"),
    (r"stages\.(\d)\.downsample\.(\d)", lambda s, i: f"features.{2 * s}.{i}"),
    (r"stages\.(\d)\.blocks\.(\d+)\.gamma", lambda s, b: f"features.{2 * s + 1}.{b}.layer_scale", "column"),
    (r"stages\.(\d)\.blocks\.(\d+)\.conv_dw", lambda s, b: f"features.{2 * s + 1}.{b}.block.0"),
    (r"stages\.(\d)\.blocks\.(\d+)\.norm", lambda s, b: f"features.{2 * s + 1}.{b}.block.2"),
    (r"stages\.(\d)\.blocks\.(\d+)\.mlp\.fc1", lambda s, b: f"features.{2 * s + 1}.{b}.block.3"),
    (r"stages\.(\d)\.blocks\.(\d+)\.mlp\.fc2", lambda s, b: f"features.{2 * s + 1}.{b}.block.5"),
    (r"head\.norm", "classifier.0"),
    (r"head\.fc", "classifier.2"),
)

_LAYERS = dict(zip("abc", ("conv1", "conv2", "conv3"), strict=True))
_REGNET: Rules = (
    (r"stem\.conv", "stem.0"),
    (r"stem\.bn", "stem.1"),
    *(
        rule
        for letter, conv in _LAYERS.items()
        for rule in (
            (rf"s(\d)\.b(\d+)\.{conv}\.conv", lambda s, b, x=letter: f"{_regnet_block(s, b)}.f.{x}.0"),
            (rf"s(\d)\.b(\d+)\.{conv}\.bn", lambda s, b, x=letter: f"{_regnet_block(s, b)}.f.{x}.1"),
        )
    ),
    (r"s(\d)\.b(\d+)\.se", lambda s, b: f"{_regnet_block(s, b)}.f.se"),
    (r"s(\d)\.b(\d+)\.downsample\.conv", lambda s, b: f"{_regnet_block(s, b)}.proj.0"),
    (r"s(\d)\.b(\d+)\.downsample\.bn", lambda s, b: f"{_regnet_block(s, b)}.proj.1"),
    (r"head\.fc", "fc"),
)

_SWIN: Rules = (
    (r"patch_embed\.proj", "features.0.0"),
    (r"patch_embed\.norm", "features.0.2"),
    (r"layers\.(\d)\.downsample", lambda s: f"features.{2 * s}"),
    (r"layers\.(\d)\.blocks\.(\d+)\.mlp\.fc1", lambda s, b: f"features.{2 * s + 1}.{b}.mlp.0"),
    (r"layers\.(\d)\.blocks\.(\d+)\.mlp\.fc2", lambda s, b: f"features.{2 * s + 1}.{b}.mlp.3"),
    (r"layers\.(\d)\.blocks\.(\d+)\.attn\.q_bias", lambda s, b: f"{_swin_qkv(s, b)}.bias", "first third"),
    (r"layers\.(\d)\.blocks\.(\d+)\.attn\.v_bias", lambda s, b: f"{_swin_qkv(s, b)}.bias", "last third"),
    (r"layers\.(\d)\.blocks\.(\d+)", lambda s, b: f"features.{2 * s + 1}.{b}"),
    (r"head\.fc", "head"),
)

_VGG: Rules = (
    (r"pre_logits\.fc1", "classifier.0", "matrix"),
    (r"pre_logits\.fc2", "classifier.3", "matrix"),
    (r"head\.fc", "classifier.6"),
)

_VIT: Rules = (
    (r"cls_token", "class_token"),
    (r"pos_embed", "encoder.pos_embedding"),
    (r"patch_embed\.proj", "conv_proj"),
    (r"blocks\.(\d+)\.norm([12])", lambda b, i: f"encoder.layers.encoder_layer_{b}.ln_{i}"),
    (r"blocks\.(\d+)\.attn\.qkv\.weight", lambda b: f"encoder.layers.encoder_layer_{b}.self_attention.in_proj_weight"),
    (r"blocks\.(\d+)\.attn\.qkv\.bias", lambda b: f"encoder.layers.encoder_layer_{b}.self_attention.in_proj_bias"),
    (r"blocks\.(\d+)\.attn\.proj", lambda b: f"encoder.layers.encoder_layer_{b}.self_attention.out_proj"),
    (r"blocks\.(\d+)\.mlp\.fc1", lambda b: f"encoder.layers.encoder_layer_{b}.mlp.0"),
    (r"blocks\.(\d+)\.mlp\.fc2", lambda b: f"encoder.layers.encoder_layer_{b}.mlp.3"),
    (r"norm", "encoder.ln"),
    (r"head", "heads.head"),
)


def _regnet_block(stage: int, block: int) -> str:
    return f"trunk_output.block{stage}.block{stage}-{block - 1}"


def _swin_qkv(stage: int, block: int) -> str:
    return f"features.{2 * stage + 1}.{block}.attn.qkv"


def _table(rules: Rules) -> Callable[[Iterable[str]], dict[str, Place]]:
    """timm's names -> places, by the first rule whose pattern is a name's beginning; names without a rule stay."""
    compiled = [(re.compile(rf"{rule[0]}(?=\.|$)"), rule[1], rule[2] if len(rule) > 2 else "same") for rule in rules]

    def places(timm_names: Iterable[str]) -> dict[str, Place]:
        return {name: place(name) for name in timm_names}

    def place(name: str) -> Place:
        for pattern, target, form in compiled:
            if match := pattern.match(name):
                start = target if isinstance(target, str) else target(*map(int, match.groups()))
                only_weight = form == "matrix" and not name.endswith(".weight")
                return f"{start}{name[match.end() :]}", "same" if only_weight else form
        return name, "same"

    return places


def _mobile(
    steps_in: str, head: int | None, classifier: int, *, in_a_row: bool
) -> Callable[[Iterable[str]], dict[str, Place]]:
    """Names of networks of inverted residuals.

    Args:
        steps_in: what torchvision calls the row of steps inside a block.
        head: the place in the classifier of ``conv_head``, a linear layer there; ``None``: it is one of the features.
        classifier: the place of the last layer.
        in_a_row: the blocks of all stages are numbered through.
    """

    def places(timm_names: Iterable[str]) -> dict[str, Place]:
        split = {name: re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(.+)", name) for name in timm_names}
        blocks: dict[tuple[int, int], set[str]] = {}
        for match in split.values():
            if match:
                blocks.setdefault((int(match[1]), int(match[2])), set()).add(match[3])
        numbers = {at: f"{i if in_a_row else f'{at[0] + 1}.{at[1]}'}" for i, at in enumerate(sorted(blocks), start=1)}
        last = 1 + (len(blocks) if in_a_row else len({stage for stage, _ in blocks}))
        outside = {
            "conv_stem": "features.0.0",
            "bn1": "features.0.1",
            "conv_head": f"features.{last}.0" if head is None else f"classifier.{head}",
            "bn2": f"features.{last}.1",
            "classifier": f"classifier.{classifier}",
        }
        found: dict[str, Place] = {}
        for name, match in split.items():
            if match:
                at = int(match[1]), int(match[2])
                found[name] = (
                    f"features.{numbers[at]}.{_step(blocks[at], match[3], match[4], steps_in, in_a_row)}",
                    "same",
                )
            else:
                module, _, leaf = name.partition(".")
                form = "matrix" if name == "conv_head.weight" and head is not None else "same"
                found[name] = (f"{outside[module]}.{leaf}" if module in outside else name), form
        return found

    return places


def _step(modules: set[str], module: str, leaf: str, steps_in: str, in_a_row: bool) -> str:
    """Where a block with these modules keeps a leaf of one of them. A step is a convolution and its norm, or ``se``."""
    inverted = "conv_pwl" in modules  # else depthwise separable, or a convolution alone
    first_to_last = "conv_exp conv_pw conv_dw se conv_pwl" if inverted else "conv conv_dw se conv_pw"
    steps = [step for step in first_to_last.split() if step in modules]
    norm = module.startswith("bn")
    if norm:
        module = [step for step in steps if step != "se"][int(module[2:]) - 1]
    position = steps.index(module)
    if module == "se":
        return f"{steps_in}.{position}.{leaf.replace('conv_reduce', 'fc1').replace('conv_expand', 'fc2')}"
    if steps == ["conv"] and in_a_row:
        return f"{int(norm)}.{leaf}"
    if steps_in == "conv" and module == steps[-1]:  # MobileNetV2's last convolution and norm are steps of their own
        return f"conv.{position + norm}.{leaf}"
    return f"{steps_in}.{position}.{int(norm)}.{leaf}"


@dataclass(frozen=True)
class _Family:
    """What a family's networks have in common: timm's names by a pattern, and the places in torchvision."""

    pattern: str
    places: Callable[[Iterable[str]], dict[str, Place]]


_FAMILIES = (
    _Family(r"convnext_(tiny|small|base|large)", _table(_CONVNEXT)),
    _Family(r"densenet\d+|(wide_)?resnet\d+(_2)?|resnext\d+_\d+x\d+d|inception_v3", _table(())),
    _Family(r"efficientnet(v2)?_\w+", _mobile("block", None, 1, in_a_row=False)),
    _Family(r"mobilenetv2_\w+", _mobile("conv", None, 1, in_a_row=True)),
    _Family(r"mobilenetv3_\w+", _mobile("block", 0, 3, in_a_row=True)),
    _Family(r"regnet[xy]_\w+", _table(_REGNET)),
    _Family(r"swin(v2)?_\w+", _table(_SWIN)),
    _Family(r"vgg\d+(_bn)?", _table(_VGG)),
    _Family(r"vit_(base|large|huge)_patch\d+_\d+", _table(_VIT)),
)

UNUSED = r"AuxLogits\..*|.*\.relative_(position_index|coords_table)"
"""What torchvision stores and timm does not: Inception's second classifier, and tables that Swin computes."""

EARLIER = (
    (r"(denselayer\d+\.(?:norm|conv))\.([12])", r"\1\2"),
    (r"(encoder_layer_\d+\.mlp)\.linear_1", r"\1.0"),
    (r"(encoder_layer_\d+\.mlp)\.linear_2", r"\1.3"),
)
"""Names in files of earlier versions of torchvision."""


@dataclass(frozen=True)
class Builder:
    """A network of torchvision's.

    Attributes:
        name: of the function in ``torchvision.models``.
        size: side of the images in pixels, of torchvision's best weights.
        resize: what the shorter side of an image is resized to before.
        interpolation: with which filter.
        bn_eps: epsilon of its BatchNorms, where it is not PyTorch's 1e-5.
        half: images are normalised by 0.5 and 0.5, and not by ImageNet's mean and standard deviation.
        arguments: further ones of the function, for the network that timm has.
    """

    name: str
    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    bn_eps: float | None = None
    half: bool = False
    arguments: str = ""


def _rows() -> Iterator[tuple[str, Builder]]:
    for name in ("resnet18", "resnet34", "vgg11", "vgg13", "vgg16", "vgg19", *(f"vgg{n}_bn" for n in (11, 13, 16, 19))):
        yield name, Builder(name)
    for n in (121, 161, 169, 201):
        yield f"densenet{n}", Builder(f"densenet{n}")
    for name in ("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"):
        yield name, Builder(name, resize=232)
    for name in ("wide_resnet50_2", "wide_resnet101_2"):
        yield name, Builder(name, resize=232)
    yield (
        "inception_v3",
        Builder("inception_v3", 299, 342, bn_eps=1e-3, half=True, arguments=", aux_logits=False, init_weights=False"),
    )
    for name, resize in (("tiny", 236), ("small", 230), ("base", 232), ("large", 232)):
        yield f"convnext_{name}", Builder(f"convnext_{name}", resize=resize)
    yield "mobilenetv2_100", Builder("mobilenet_v2", resize=232)
    yield "mobilenetv3_large_100", Builder("mobilenet_v3_large", resize=232, bn_eps=1e-3)
    yield "mobilenetv3_small_100", Builder("mobilenet_v3_small", bn_eps=1e-3)
    sizes = ((224, 256), (240, 255), (288, 288), (300, 320), (380, 384), (456, 456), (528, 528), (600, 600))
    for n, (size, resize) in enumerate(sizes):
        filter_name, eps = "bilinear" if n == 1 else "bicubic", 1e-3 if n >= 5 else None
        yield f"efficientnet_b{n}", Builder(f"efficientnet_b{n}", size, resize, filter_name, eps)
    yield "efficientnetv2_s", Builder("efficientnet_v2_s", 384, 384, bn_eps=1e-3)
    yield "efficientnetv2_m", Builder("efficientnet_v2_m", 480, 480, bn_eps=1e-3)
    yield "efficientnetv2_l", Builder("efficientnet_v2_l", 480, 480, "bicubic", 1e-3, half=True)
    for timm_name, size in _REGNETS:
        yield f"regnet{timm_name}", Builder(f"regnet_{timm_name[0]}_{size}", resize=232)
    for name, resize in (("tiny", 232), ("small", 246), ("base", 238)):
        yield f"swin_{name}_patch4_window7_224", Builder(f"swin_{name[0]}", 224, resize, "bicubic")
    for name, resize in (("tiny", 260), ("small", 260), ("base", 272)):
        yield f"swinv2_{name}_window8_256", Builder(f"swin_v2_{name[0]}", 256, resize, "bicubic")
    for name, patch, resize in (("base", 16, 256), ("base", 32, 256), ("large", 16, 242), ("large", 32, 256)):
        yield f"vit_{name}_patch{patch}_224", Builder(f"vit_{name[0]}_{patch}", resize=resize)
    yield "vit_huge_patch14_224", Builder("vit_h_14", 224, 224, "bicubic")


_REGNETS = re.findall(
    r"(\S+):(\S+)",
    "x_004_tv:400mf x_008:800mf x_016:1_6gf x_032:3_2gf x_080:8gf x_160:16gf x_320:32gf "
    "y_004:400mf y_008_tv:800mf y_016:1_6gf y_032:3_2gf y_080_tv:8gf y_160:16gf y_320:32gf y_1280:128gf",
)

BUILDERS: dict[str, Builder] = dict(_rows())
"""timm's name -> the same network in torchvision."""


def places(architecture: str, timm_names: Iterable[str]) -> dict[str, Place]:
    """timm's name -> where torchvision keeps it, for a network of a family that torchvision has; else empty.

    >>> places("mobilenetv2_100", ["blocks.0.0.conv_dw.weight", "blocks.0.0.conv_pw.weight", "classifier.bias"])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'blocks.0.0.conv_dw.weight': ('features.1.conv.0.0.weight', 'same'),
     'blocks.0.0.conv_pw.weight': ('features.1.conv.1.weight', 'same'),
     'classifier.bias': ('classifier.1.bias', 'same')}
    """
    family = _family(architecture)
    return {} if family is None else family.places(timm_names)


def is_known(architecture: str) -> bool:
    """Whether torchvision has the family of an architecture."""
    return _family(architecture) is not None


def _family(architecture: str) -> _Family | None:
    return next((family for family in _FAMILIES if re.fullmatch(family.pattern, architecture)), None)
