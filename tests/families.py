"""What the tests of the zoo need to know about each family: which members to take and how to make them small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtl.models import registry


def _no_options(name: str) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Family:
    """One file of `jaxtl/models`.

    Attributes:
        always: Architectures that every run of the tests compares with timm: one for each kind of option.
        member: A small one for training, round trips and whatever needs one member of each family.
        member_options: What makes it smaller still; keywords that jaxtl and timm share.
        member_size: Side of its images in pixels.
        sizes: Sides of the images on which networks are compared.
        options: Architecture -> keywords for jaxtl and timm with which it is compared, such as a smaller `img_size`.
        variants: Further comparisons: (architecture, keywords).
        too_large: Architectures of which a copy with fewer blocks is compared, and its keywords.
    """

    always: tuple[str, ...]
    member: str
    member_options: Mapping[str, Any] = field(default_factory=dict)
    member_size: int = 32
    sizes: tuple[int, ...] = (64, 97)
    options: Callable[[str], dict[str, Any]] = _no_options
    variants: tuple[tuple[str, dict[str, Any]], ...] = ()
    too_large: Mapping[str, dict[str, Any]] = field(default_factory=dict)


FAMILIES = {
    "resnet": Family(
        always=(
            "ecaresnet26t",
            "resnet18",
            "resnet50_gn",
            "resnetaa34d",
            "resnetblur18",
            "resnetrs50",
            "seresnext26d_32x4d",
            "test_resnet",
        ),
        member="resnet18",
        variants=(
            ("senet154", {"layers": (1, 1, 1, 1)}),
            ("resnet26", {"output_stride": 8, "in_chans": 1}),
            ("resnet10t", {"output_stride": 16}),
            ("resnetblur18", {"output_stride": 8, "replace_stem_pool": True}),
            ("resnet10t", {"act_layer": "silu", "num_classes": 7}),
        ),
    ),
}
"""By the name of the file. Those that timm does not have are missing."""


def family_of(name: str) -> str | None:
    """The key in `FAMILIES` of an architecture's family."""
    module = registry.family(name).__module__.rpartition(".")[2]
    return module if module in FAMILIES else None


def names() -> list[str]:
    """All architectures of these families, sorted."""
    return [name for name in registry.names() if family_of(name)]
