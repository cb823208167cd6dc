"""How a learning rate goes over a group's training: ``lr`` is always the peak."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jaxtl.recipe.fields import Fraction, Number, Section, named

Warmup = Annotated[Number, Field(ge=0)]


class Cosine(Section):
    """A linear rise to the peak, then half a cosine down (Loshchilov and Hutter, 2017)."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: Warmup = 0.5
    final: Fraction = 0.01
    """The last rate, as a fraction of the peak."""


class Linear(Section):
    """A linear rise to the peak, then a straight line down."""

    name: Literal["linear"] = "linear"
    warmup_epochs: Warmup = 0.5
    final: Fraction = 0.01
    """The last rate, as a fraction of the peak."""


class Constant(Section):
    """A linear rise to the peak, which is then kept."""

    name: Literal["constant"] = "constant"
    warmup_epochs: Warmup = 0.0


class OneCycle(Section):
    """One cosine up to the peak and one down (Smith and Topin, 2018), as in torch's ``OneCycleLR``."""

    name: Literal["one_cycle"] = "one_cycle"
    pct_start: Annotated[Number, Field(gt=0, lt=1)] = 0.3
    """The part of the span that rises."""
    div_factor: Annotated[Number, Field(ge=1)] = 25.0
    """It starts at the peak divided by this."""
    final_div: Annotated[Number, Field(ge=1)] = 1e4
    """It ends at its start divided by this."""


class Step(Section):
    """The peak, multiplied by a factor after every so many epochs, as in torch's ``StepLR``."""

    name: Literal["step"] = "step"
    warmup_epochs: Warmup = 0.0
    every_epochs: Annotated[Number, Field(gt=0)] = 30.0
    factor: Annotated[Number, Field(gt=0, le=1)] = 0.1


class Plateau(Section):
    """The peak, multiplied by a factor whenever validation has not improved for some time (``ReduceLROnPlateau``)."""

    name: Literal["plateau"] = "plateau"
    warmup_epochs: Warmup = 0.0
    patience: Annotated[int, Field(gt=0)] = 3
    """How many validations in a row may pass without a better one."""
    factor: Annotated[Number, Field(gt=0, lt=1)] = 0.1


AnySchedule = Cosine | Linear | Constant | OneCycle | Step | Plateau
Schedule = Annotated[AnySchedule, Field(discriminator="name")]
GivenSchedule = Annotated[Schedule, named("cosine", Schedule)]
