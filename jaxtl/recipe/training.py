"""Phases, losses and BatchNorm policies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from jaxtl.recipe.fields import Group, Number, Section, Text
from jaxtl.recipe.schedules import GivenSchedule


def kind_of(value: Any) -> str:
    """Tells a single word from a mapping or a list, so that what is wrong is said of the one that was meant."""
    return "policy" if isinstance(value, str) else "parts"


Positive = Annotated[Number, Field(gt=0)]
Policy = Literal["follow", "frozen", "adapt"]
BatchNormPolicy = Annotated[
    Annotated[Policy, Tag("policy")] | Annotated[dict[Text, Policy], Tag("parts")], Discriminator(kind_of)
]
Precision = Literal["f32", "bf16"]
AnyPrecision = Literal["f32", "bf16", "auto"]
StrategyName = Literal[
    "scratch",
    "features",
    "linear-probe",
    "last-stage",
    "full",
    "layerwise",
    "norm-and-bias",
    "fine-tune",
    "gradual",
    "lp-ft",
    "l2-sp",
]


class Phase(Section):
    """A span of epochs in which some groups train; the others are frozen meanwhile."""

    epochs: Annotated[int, Field(ge=0)]
    train: Annotated[tuple[Group, ...], Field(strict=False, min_length=1)] | None = None
    """The groups that train; null: all of them."""
    rates: dict[Group, Positive] = Field(default_factory=dict)
    """Peaks from here on, in place of the groups' ``lr``; such a group begins its schedule anew."""
    schedule: GivenSchedule | None = None
    """In place of the others, for this phase alone, from its first step to its last."""
    patience: Annotated[int, Field(gt=0)] | None = None
    """End the phase early when validation has not improved so many times in a row."""


class Softmax(Section):
    """Cross entropy: one class an image."""

    name: Literal["softmax"] = "softmax"


class Sigmoid(Section):
    """Binary cross entropy for every class: any number of classes an image."""

    name: Literal["sigmoid"] = "sigmoid"


class Focal(Section):
    """Cross entropy weighted by (1 - p)^gamma: easy images count less (Lin et al., 2017)."""

    name: Literal["focal"] = "focal"
    gamma: Annotated[Number, Field(ge=0)] = 2.0


class MSE(Section):
    """Mean squared error: regression."""

    name: Literal["mse"] = "mse"


AnyLoss = Softmax | Sigmoid | Focal | MSE
Loss = Annotated[AnyLoss, Field(discriminator="name")]
ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("policy")]
    | Annotated[tuple[Positive, ...], Field(strict=False, min_length=1), Tag("parts")],
    Discriminator(kind_of),
]
