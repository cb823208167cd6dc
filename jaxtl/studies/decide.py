"""From what was measured to a recipe: every decision with the numbers that led to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from jaxtl.recipe import FROZEN
from jaxtl.studies.measure import Probes
from jaxtl.studies.rules import Domain, Rule, rule_for

FEW = 500
"""Training images in all below which the body stays as it is: less than 20 steps an epoch move it by chance."""
NOISE = 2.0
"""Standard errors of the probe: when less error is left, a trained body's gain could not be told from noise."""
STEPS, MOST_STEPS = 450, 900
LEAST_EPOCHS, MOST_EPOCHS, SHORTEST = 5, 30, 3
BATCH = 32
BODY_RATE = 1e-4
"""The rule of thumb's for any body that trains, where its row would not train it."""
SIZE_GAIN = 0.015
"""Accuracy of the probe that twice the input's side has to bring, for its four times longer steps."""
KEPT = 0.97
"""Part of its accuracy that a probe keeps for a view of the images that leaves the classes what they are."""


@dataclass(frozen=True)
class Decision:
    """What was chosen for one part of the recipe, and why."""

    subject: str
    choice: str
    reason: str
    overrules: bool = False
    """Whether it goes against the rule of thumb."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.choice}, because {self.reason}"


@dataclass(frozen=True)
class Measured:
    """What the decisions rest on.

    Attributes:
        classes, images, val_images: how many.
        stages: of the body, in order, as ``Graph.counted_stages``.
        domain: of the images against those of the pretraining.
        distance: from these; None for a network without BatchNorm, whose domain is taken as medium.
        probes: on frozen features.
        forward: seconds an image of an evaluation pass.
        step: seconds an image of a training step by the number of last body stages that train; it may measure.
        imbalance: images of the largest class over those of the smallest.
        glyphs: whether the source is known to be letters or digits.
    """

    classes: int
    images: int
    val_images: int
    imbalance: float
    stages: tuple[tuple[str, ...], ...]
    domain: Domain
    distance: float | None
    probes: Probes
    forward: float
    step: Callable[[int], float]
    glyphs: bool = False

    def last(self, depth: int) -> tuple[str, ...]:
        """The names of the body's last stages."""
        return names(self.stages[len(self.stages) - depth :])


def names(stages: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Of counted stages, one after the other.

    >>> names([("blocks.5",), ("blocks.6", "conv_head")])
    ('blocks.5', 'blocks.6', 'conv_head')
    """
    return tuple(chain.from_iterable(stages))


@dataclass(frozen=True)
class Decided:
    """Fields of a recipe, the decisions behind them, and the seconds that its epochs should take."""

    fields: Mapping[str, Any]
    decisions: tuple[Decision, ...]
    seconds: float


def decide(found: Measured, budget: float | None = None) -> Decided:
    """The fields of a recipe but ``model`` and ``data`` (of which ``data.augment`` is among them).

    Args:
        found: the measurements.
        budget: seconds for training steps and validations; None: as long as it is of use.

    >>> probes = Probes({"layer1": 0.7, "layer2": 0.9}, images=500)
    >>> found = Measured(5, 250, 50, 1.0, (("layer1",), ("layer2",)), "near", 0.1, probes, 0.01, lambda depth: 0.03)
    >>> decided = decide(found)
    >>> decided.fields["strategy"], decided.decisions[0].choice
    ('linear-probe', 'nothing but the head trains')
    """
    rule = rule_for(found.images / found.classes, found.images, found.domain)
    if rule.strategy == "scratch":
        return _from_scratch(found, rule, budget)
    wanted, reason = _depth(found, rule)
    depth, epochs, cut = _affordable(found, wanted, budget)
    reason = f"{reason}; {cut}" if cut else reason
    prior = len(found.stages) if rule.stages is None else rule.stages
    overrules = depth != prior
    if overrules:
        reason += f". This overrules the rule of thumb ({_trained(prior, found)}: {rule.reason})"
    freeze = Decision("what trains", _trained(depth, found), reason, overrules)
    if depth == 0:
        return _probe(found, freeze)
    decisions = [freeze]
    fields: dict[str, Any] = {"batch_size": BATCH, "schedule": {"name": "one_cycle"}, "label_smoothing": 0.1}
    fields.update(_groups(found, depth, rule, decisions))
    fields.update(_batch_norm(found, depth, decisions))
    fields["data.augment"] = _augment(found, decisions)
    fields.update(_class_weights(found, decisions))
    seconds = _seconds(found, depth, epochs)
    decisions.append(Decision("epochs", str(epochs), _why_epochs(found, epochs, budget)))
    return Decided({**fields, "epochs": epochs}, tuple(decisions), seconds)


def _depth(found: Measured, rule: Rule) -> tuple[int, str]:
    """How many of the body's last stages should train, and why."""
    probes = found.probes
    seen = f"a linear probe on frozen features is right on {probes.last:.1%} of held-out training images"
    if 1 - probes.last <= NOISE * probes.error:
        return 0, f"{seen}, and the rest is within the noise of {probes.images} images"
    if found.images < FEW:
        return 0, (
            f"{found.images} training images in all make {max(1, found.images // BATCH)} steps an epoch, too few to "
            f"move the body by more than chance; {seen}"
        )
    end = probes.transferable
    error = f"{1 - probes.last:.1%} ± {probes.error:.1%} of error are left"
    if end not in found.stages[-1] and probes.stages[end] - probes.last > probes.error:
        return len(found.stages), (
            f"the probes' accuracy falls behind {end} ({probes.stages[end]:.1%}, then {probes.last:.1%}): what comes "
            f"later is too special to the pretraining; {error} for {found.images} images to take away"
        )
    return len(found.stages), (
        f"the probes rise up to {end} ({probes.stages[end]:.1%}): the features transfer, and {error} that only the "
        f"body can take away; {found.images} images are enough to move it"
    )


def _affordable(found: Measured, wanted: int, budget: float | None) -> tuple[int, int, str]:
    """The depth that fits into the budget, its epochs, and what had to be given up for it."""
    if wanted == 0:
        return 0, 0, ""
    steps = max(1, found.images // BATCH)
    useful = min(max(math.ceil(STEPS / steps), LEAST_EPOCHS), MOST_EPOCHS)
    if budget is None:
        return wanted, useful, ""
    useful = min(max(math.ceil(MOST_STEPS / steps), LEAST_EPOCHS), MOST_EPOCHS)
    given_up = ""
    for depth in dict.fromkeys((wanted, min(2, wanted), 1)):
        epochs = min(useful, math.floor(budget / _seconds(found, depth, 1)))
        if epochs >= SHORTEST:
            return depth, epochs, given_up
        given_up = (
            f"more would take {_seconds(found, depth, 1):.0f} s an epoch, and the budget of {budget:.0f} s "
            f"does not hold {SHORTEST} of them"
        )
    return 0, 0, given_up


def _seconds(found: Measured, depth: int, epochs: int) -> float:
    return epochs * (found.images * found.step(depth) + found.val_images * found.forward)


def _trained(depth: int, found: Measured) -> str:
    if depth == 0:
        return "nothing but the head trains"
    if depth >= len(found.stages):
        return "everything trains"
    return f"{', '.join(found.last(depth))} and the head train"


def _groups(found: Measured, depth: int, rule: Rule, decisions: list[Decision]) -> dict[str, Any]:
    usual_body, usual_head = rule.rates.get("body", BODY_RATE), rule.rates["head"]
    body, head = 2 * usual_body, 2 * usual_head
    rates = {"slow": body, "fast": head}
    why = (
        f"the rule of thumb's {usual_body:g} and {usual_head:g} twice over, since one cycle runs at "
        "half its peak on average"
    )
    everything = depth >= len(found.stages)
    groups = {"head": "fast", "*": "slow"}
    if not everything:
        groups = {"head": "fast", **dict.fromkeys(found.last(depth), "slow"), "*": FROZEN}
    elif found.domain == "far" and len(found.stages) > 1:
        late = names(found.stages[len(found.stages) // 2 :])
        groups = {"head": "fast", **dict.fromkeys(late, "slow"), "*": "early"}
        rates, why = _far_rates(found, rule)
    optimizer = {group: {"name": "adamw", "lr": rate, "weight_decay": 0.01} for group, rate in rates.items()}
    decisions.append(Decision("rates", ", ".join(f"{group} {rate:g}" for group, rate in rates.items()), why))
    return {"groups": groups, "optimizer": optimizer}


def _far_rates(found: Measured, rule: Rule) -> tuple[dict[str, float], str]:
    rates = {"early": 2e-4, "slow": 5e-4, "fast": 2e-3}
    return rates, (
        f"at a distance of {found.distance:.2f} the body has a long way to go in few steps: the rule of thumb's "
        f"{rule.rates['early']:g}, {rule.rates['body']:g} and {rule.rates['head']:g} are for many times as many"
    )


def _batch_norm(found: Measured, depth: int, decisions: list[Decision]) -> dict[str, Any]:
    if found.distance is None:
        return {}
    per_batch = min(BATCH, found.images)
    where = "everywhere" if depth >= len(found.stages) else f"in {', '.join(found.last(depth))}, stored ones before"
    reason = f"{per_batch} images in a batch give sound statistics"
    if found.domain != "near":
        reason += f", and the stored ones are of other images (distance {found.distance:.2f})"
    decisions.append(Decision("BatchNorm", f"batch statistics {where}", reason))
    return {"batch_norm": "follow"}


def _augment(found: Measured, decisions: list[Decision]) -> str:
    views = found.probes.views
    plain, mirrored, turned = (views.get(name, 0.0) for name in ("as they are", "mirrored", "turned"))
    numbers = f"the probe is right on {plain:.0%} of images as they are, {mirrored:.0%} mirrored, {turned:.0%} turned"
    if found.glyphs or (plain and mirrored < KEPT * plain - found.probes.error and found.domain == "far"):
        decisions.append(Decision("augmentation", "glyph (no flips)", f"mirroring changes what is seen: {numbers}"))
        return "glyph"
    reason = f"mirroring leaves the classes what they are: {numbers}"
    if plain and turned >= KEPT * plain:
        reason += "; there is no up, so a run of many epochs may turn images as well (data.augment.rotate)"
    decisions.append(Decision("augmentation", "light (crops and flips)", reason))
    return "light"


def _class_weights(found: Measured, decisions: list[Decision]) -> dict[str, Any]:
    if found.imbalance < 5:
        return {}
    reason = f"the largest class has {found.imbalance:.0f} times the images of the smallest"
    decisions.append(Decision("class weights", "balanced", reason))
    return {"class_weights": "balanced"}


def _why_epochs(found: Measured, epochs: int, budget: float | None) -> str:
    steps = max(1, found.images // BATCH)
    reason = f"they make {epochs * steps} steps of {BATCH} images"
    return reason if budget is None else f"{reason} and fit into {budget:.0f} s"


def _probe(found: Measured, freeze: Decision) -> Decided:
    seconds = (found.images + found.val_images) * found.forward
    exact = Decision(
        "head",
        "fitted in one go",
        "on fixed features the best linear head is found by logistic regression, without steps or rates; augmentation "
        "would only blur features that a head cannot change",
    )
    norm = Decision(
        "BatchNorm", "stored statistics", "frozen layers keep the statistics that their weights were made with"
    )
    fields = {"strategy": "linear-probe", "data.augment": "none"}
    norms = () if found.distance is None else (norm,)
    return Decided(fields, (freeze, exact, *norms), seconds)


def _from_scratch(found: Measured, rule: Rule, budget: float | None) -> Decided:
    rates = {"fast": {"name": "adamw", "lr": rule.rates["head"], "weight_decay": 0.05}}
    epochs = MOST_EPOCHS
    if budget is not None:
        epochs = max(1, min(epochs, math.floor(budget / _seconds(found, len(found.stages), 1))))
    decisions = (
        Decision("what trains", "everything, from random weights", rule.reason),
        Decision("epochs", str(epochs), _why_epochs(found, epochs, budget)),
    )
    fields = {"strategy": "scratch", "optimizer": rates, "epochs": epochs, "data.augment": "light"}
    return Decided(fields, decisions, _seconds(found, len(found.stages), epochs))
