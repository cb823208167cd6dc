"""``jaxtl lr-find``: the learning-rate range test (Smith 2015, https://arxiv.org/abs/1506.01186)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxtl.compiled import keep_compiled
from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.finetune.from_recipe import make_groups
from jaxtl.finetune.phases import span_of, trained_groups
from jaxtl.finetune.strategies import expand
from jaxtl.model import Model
from jaxtl.recipe import Recipe
from jaxtl.studies.rate_settings import is_override, rate_settings
from jaxtl.train.class_weights import class_weights
from jaxtl.train.fitted import fitted
from jaxtl.train.losses import make_task
from jaxtl.train.phase_steps import PhaseSteps, StepInputs, abstract
from jaxtl.train.state import TrainState

SMOOTHING = 0.9
DIVERGED = 4.0  # times the lowest smoothed loss


@dataclass(frozen=True)
class RangeTest:
    """What a range test found.

    Attributes:
        factors: what the recipe's rates were multiplied by, step by step, (steps,).
        losses: smoothed training loss of each step, (steps,).
        rates: the recipe's peak of each group, which a factor multiplies.
        settings: the fields of the recipe that decide these rates, with their values, as ``rate_settings`` names them.
        suggestions: factor by rule: ``steepest`` (where the loss falls fastest), ``minimum/10`` (a tenth of where it
            is lowest) and ``valley`` (the middle of its longest descent), without the first tenth of the steps; a rule
            that finds nothing is left out.
    """

    factors: np.ndarray
    losses: np.ndarray
    rates: Mapping[str, float]
    settings: Mapping[str, float] = field(default_factory=dict)
    suggestions: Mapping[str, float] = field(default_factory=dict)

    def rates_at(self, rule: str) -> dict[str, float]:
        """The rate of each group that a rule suggests.

        Raises:
            InputError: the rule found nothing on this curve.
        """
        if rule not in self.suggestions:
            rules = ", ".join(self.suggestions) or "none does"
            raise InputError(f"the rule {rule!r} suggests nothing on this curve; these do: {rules}")
        return {group: rate * self.suggestions[rule] for group, rate in self.rates.items()}

    def __str__(self) -> str:
        lines = [f"{len(self.losses)} steps, rates times {self.factors[0]:.1e} to {self.factors[-1]:.1e}"]
        for rule in self.suggestions:
            settings = {name: value * self.suggestions[rule] for name, value in self.settings.items()}
            overrides = [f"{name}={value:.2e}" for name, value in settings.items() if is_override(name)]
            written = [f"{name}: {value:.2e}" for name, value in settings.items() if not is_override(name)]
            lines.append(f"{rule:12s}{'; '.join([' '.join(overrides)] * bool(overrides) + written)}")
        if not all(map(is_override, self.settings)):
            lines.append("rates of phases have no override: write them into the recipe")
        return "\n".join(lines)


def find_rates(
    model: Model,
    data: Data,
    recipe: Recipe,
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    phase: int = 0,
) -> RangeTest:
    """Trains a copy for some steps while all rates grow exponentially, and suggests where to set them.

    The ratios between the groups are the recipe's own. Nothing that is given is changed. Ends early when the smoothed
    loss is not finite or four times its lowest.

    Args:
        model: as for ``fine_tune``; what the recipe fits before training is fitted first.
        data: its training batches are used.
        recipe: groups, optimizers, loss and the rest; its schedule is not used.
        lowest: rate of the fastest group in the first step.
        highest: rate of the fastest group in the last step.
        steps: how many at most, at least 10.
        phase: the recipe's phase that is tested, from 0.

    Raises:
        InputError: limits or steps that make no range, or a recipe that trains for no epoch.
        FloatingPointError: the first step is not finite, whatever the rates.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=10, in_chans=1)
    >>> data = jaxtl.open_data("digits", model)
    >>> found = find_rates(model, data, Recipe(batch_size=16), steps=10)
    >>> found.rates, len(found.factors) == len(found.losses) <= 10
    ({'fast': 0.001, 'slow': 0.0001}, True)
    """
    if not (0 < lowest < highest and math.isfinite(highest)):
        raise InputError(f"a range test goes from a lower to a higher rate above 0, not from {lowest:g} to {highest:g}")
    if steps < 10:
        raise InputError(f"a range test takes at least 10 steps, not {steps}")
    keep_compiled()
    given, recipe = recipe, expand(recipe, model.graph)
    if not recipe.epochs:
        raise InputError(
            "the recipe fits the head and trains for 0 epochs, so that no rate is used; there is none to find: give it "
            "another strategy, such as strategy=full"
        )
    phases = recipe.all_phases
    if not 0 <= phase < len(phases):
        raise InputError(f"the recipe has {len(phases)} phases, counted from 0; there is none with the number {phase}")
    peaks = {group: span_of(recipe, group, phase).peak for group in trained_groups(recipe, phases[phase])}
    scales = {group: pair for group, pair in make_groups(recipe, model).scales.items() if pair[0] in peaks}
    fastest = max(peaks.values())
    factors = np.geomspace(lowest / fastest, highest / fastest, steps)
    task = make_task(
        recipe.loss,
        label_smoothing=recipe.label_smoothing,
        class_weights=class_weights(recipe.class_weights, data),
    )
    model = fitted(model, data, recipe)
    with (
        PhaseSteps(model, recipe, task, data.steps_per_epoch(recipe.batch_size)) as compiled,
        closing(data.train_batches(recipe.batch_size, seed=recipe.seed)) as batches,
    ):
        state = TrainState.create(model, compiled.optimizer(phase), recipe.seed, ema=recipe.ema is not None)
        losses: list[float] = []
        mean = 0.0
        for number, factor in enumerate(factors):
            batch = next(batches)
            rates = {group: np.float32(scale * peaks[base] * factor) for group, (base, scale) in scales.items()}
            state, metrics = compiled.step(phase, StepInputs(abstract(batch)))(state, batch, rates)
            found = jax.device_get(metrics)
            mean = SMOOTHING * mean + (1 - SMOOTHING) * float(found["loss"])
            smoothed = mean / (1 - SMOOTHING ** (number + 1))
            if not found["finite"] or (losses and smoothed > DIVERGED * min(losses)):
                break
            losses.append(smoothed)
    if not losses:
        raise FloatingPointError(
            "the loss or a gradient is not finite in the first step, at which no rate has had an effect: look at the "
            "weights and the images (jaxtl check)"
        )
    used = factors[: len(losses)]
    settings = rate_settings(given, recipe, phase)
    return RangeTest(used, np.array(losses), peaks, settings, suggestions(used, losses))


def suggestions(factors: ArrayLike, losses: ArrayLike) -> dict[str, float]:
    """The suggested factor by rule. What comes behind the lowest loss does not count, nor does the first tenth of the
    points, whose averages are of few batches and differ as those do.

    >>> found = suggestions(np.geomspace(1e-4, 1e2, 7), [3.0, 2.9, 2.5, 1.5, 1.0, 2.0, 9.0])
    >>> {rule: round(float(factor), 4) for rule, factor in found.items()}
    {'steepest': 0.1, 'minimum/10': 0.1, 'valley': 0.01}
    """
    factors, losses = np.asarray(factors, float), np.asarray(losses, float)
    settled = math.ceil(len(losses) / 10)
    factors, losses = factors[settled:], losses[settled:]
    if len(losses) < 2:
        return {}
    found: dict[str, float] = {}
    lowest = int(np.argmin(losses))
    slopes = np.gradient(losses, np.log(factors))[: lowest + 1]
    if slopes.min() < 0:
        found["steepest"] = float(factors[int(np.argmin(slopes))])
    if lowest:
        found["minimum/10"] = float(factors[lowest] / 10)
    descent = _longest_descent(losses[: lowest + 1])
    if len(descent) > 1:
        found["valley"] = float(factors[(descent[0] + descent[-1]) // 2])
    return found


def _longest_descent(losses: np.ndarray) -> list[int]:
    """Places of the longest strictly decreasing subsequence."""
    length = np.ones(len(losses), int)
    before = np.full(len(losses), -1)
    for i in range(1, len(losses)):
        for j in range(i):
            if losses[i] < losses[j] and length[j] + 1 > length[i]:
                length[i], before[i] = length[j] + 1, j
    places = [int(np.argmax(length))]
    while before[places[-1]] >= 0:
        places.append(int(before[places[-1]]))
    return places[::-1]
