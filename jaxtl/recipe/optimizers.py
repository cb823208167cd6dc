"""How one group learns: an optimizer of optax's by name, with the fields it takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jaxtl.recipe.fields import Number, Section
from jaxtl.recipe.schedules import GivenSchedule

Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Average = Annotated[Number, Field(ge=0, lt=1)]


class Learning(Section):
    """What every optimizer takes."""

    lr: Positive
    """The schedule's peak."""
    schedule: GivenSchedule | None = None
    """This group's own; null: the recipe's."""
    weight_decay: NotNegative = 0.0
    """Pull towards 0."""
    decay_norm_and_bias: bool = False
    """Whether weight decay and ``l2_sp`` also pull on normalisation parameters and biases."""
    l2_sp: NotNegative = 0.0
    """Pull towards the weights the group started from, a penalty in the loss (L2-SP; Li, Grandvalet, Davoine 2018)."""


class AdamW(Learning):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    name: Literal["adamw"] = "adamw"
    weight_decay: NotNegative = 0.01
    """Pull towards 0."""
    b1: Average = 0.9
    b2: Average = 0.999
    eps: Positive = 1e-8


class Adam(Learning):
    """Adam (Kingma and Ba, 2015); weight decay is a penalty in the loss, as in torch."""

    name: Literal["adam"] = "adam"
    b1: Average = 0.9
    b2: Average = 0.999
    eps: Positive = 1e-8


class SGD(Learning):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    momentum: Average = 0.9
    nesterov: bool = False


class LAMB(Learning):
    """Adam with a trust ratio for every array, for large batches (You et al., 2020)."""

    name: Literal["lamb"] = "lamb"
    b1: Average = 0.9
    b2: Average = 0.999
    eps: Positive = 1e-6


class LARS(Learning):
    """SGD with a trust ratio for every array, for large batches (You, Gitman and Ginsburg, 2017)."""

    name: Literal["lars"] = "lars"
    momentum: Average = 0.9
    trust_coefficient: Positive = 0.001


class Lion(Learning):
    """The sign of a momentum (Chen et al., 2023); wants a rate 3 to 10 times below AdamW's."""

    name: Literal["lion"] = "lion"
    weight_decay: NotNegative = 0.01
    """Pull towards 0."""
    b1: Average = 0.9
    b2: Average = 0.99


class Adafactor(Learning):
    """Adam with a factored second moment, for little memory (Shazeer and Stern, 2018)."""

    name: Literal["adafactor"] = "adafactor"
    momentum: Average | None = None


class Muon(Learning):
    """Orthogonalised momentum for kernels (Jordan et al., 2024), AdamW for everything else."""

    name: Literal["muon"] = "muon"
    weight_decay: NotNegative = 0.01
    """Pull towards 0."""
    momentum: Average = 0.95
    b1: Average = 0.9
    b2: Average = 0.999


AnyOptimizer = AdamW | Adam | SGD | LAMB | LARS | Lion | Adafactor | Muon
Optimizer = Annotated[AnyOptimizer, Field(discriminator="name")]
