"""The teachers' rules of thumb as one table: what a plan begins with, before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from jaxtl.errors import InputError, nearest
from jaxtl.recipe.training import StrategyName

Domain = Literal["near", "medium", "far"]
ENDLESS = 10**12
MILLIONS = 10**6
ANY = (0, ENDLESS)


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        images: training images a class it is for: from, and up to but without.
        total: training images in all it is for, likewise.
        domains: how far the images may be from those of the pretraining.
        strategy: the recipe's word for it.
        stages: how many of the body's last stages train; None: all.
        rates: learning rates of AdamW: "early", "body" and "head", as far as they train.
        reason: in plain words.
    """

    images: tuple[int, int]
    total: tuple[int, int]
    domains: tuple[Domain, ...]
    strategy: StrategyName
    stages: int | None
    rates: Mapping[str, float]
    reason: str


def _rates(**rates: float) -> Mapping[str, float]:
    return MappingProxyType(rates)


RULES = (
    Rule(
        ANY,
        (MILLIONS, ENDLESS),
        ("far",),
        "scratch",
        None,
        _rates(body=1e-3, head=1e-3),
        "millions of images far from the pretraining's can teach a network by themselves",
    ),
    Rule(
        ANY,
        ANY,
        ("far",),
        "layerwise",
        None,
        _rates(early=1e-5, body=1e-4, head=1e-3),
        "far from the pretraining's images even early stages have to move, the earliest least",
    ),
    Rule(
        (0, 100),
        ANY,
        ("near", "medium"),
        "features",
        0,
        _rates(head=1e-3),
        "under 100 images a class say too little to move pretrained weights without overfitting",
    ),
    Rule(
        (100, 1_000),
        ANY,
        ("near", "medium"),
        "last-stage",
        1,
        _rates(body=1e-4, head=1e-3),
        "100 to 1000 images a class, like the pretraining's, are enough for a new head and at most the last stage",
    ),
    Rule(
        (1_000, 10_000),
        ANY,
        ("near", "medium"),
        "full",
        2,
        _rates(body=1e-4, head=1e-3),
        "1000 to 10000 images a class can move the last stages; the early ones serve every photograph",
    ),
    Rule(
        (10_000, ENDLESS),
        ANY,
        ("near", "medium"),
        "full",
        None,
        _rates(body=1e-4, head=1e-3),
        "over 10000 images a class can move every weight without overfitting",
    ),
)
"""The first row that fits counts."""


def rule_for(images_per_class: float, total: int, domain: Domain) -> Rule:
    """The row for so many training images a class, so many in all, and a domain.

    Raises:
        InputError: an unknown domain, or no images.

    >>> rule_for(50, 250, "near").strategy, rule_for(500, 2500, "near").strategy, rule_for(160, 1600, "far").strategy
    ('features', 'last-stage', 'layerwise')
    """
    domains = get_args(Domain)
    if domain not in domains:
        raise InputError(f"a domain is one of {', '.join(domains)}, not {domain!r}{nearest(str(domain), domains)}")
    if images_per_class <= 0 or total <= 0:
        raise InputError(f"rules are for at least one image, not {images_per_class:g} a class and {total} in all")
    for rule in RULES:
        fits = rule.images[0] <= images_per_class < rule.images[1] and rule.total[0] <= total < rule.total[1]
        if fits and domain in rule.domains:
            return rule
    raise AssertionError("the table has a row for everything")
