"""The recipe: its fields, their defaults, and what has to fit together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from jaxtl.errors import InputError
from jaxtl.notices import say
from jaxtl.recipe.changes import as_given, with_changes
from jaxtl.recipe.coherence import STRATEGY_FIELDS, Contradictions, group_problems, training_problems
from jaxtl.recipe.fields import Group, Number, Output, Section, Text, named
from jaxtl.recipe.optimizers import AdamW, AnyOptimizer, Optimizer
from jaxtl.recipe.problems import explain, listed
from jaxtl.recipe.removal import takes_out, without_decided
from jaxtl.recipe.schedules import Cosine, GivenSchedule
from jaxtl.recipe.sections import DataSection, ModelSection
from jaxtl.recipe.training import AnyPrecision, BatchNormPolicy, ClassWeights, Loss, Phase, Softmax, StrategyName

DEFAULT_GROUPS = {"head": "fast", "*": "slow"}


SLOW_LR, FAST_LR = 1e-4, 1e-3
FASTAIS_LR = 2e-3
"""``base_lr`` of fastai's ``fine_tune``."""


def default_optimizer(groups: Mapping[str, str]) -> dict[str, AnyOptimizer]:
    """The entries used where a recipe has no ``optimizer`` section: the defaults of the groups that occur.

    >>> list(default_optimizer({"head": "fast", "*": "frozen"}))
    ['fast']
    """
    known: dict[str, AnyOptimizer] = {"slow": AdamW(lr=SLOW_LR), "fast": AdamW(lr=FAST_LR)}
    return {group: entry for group, entry in known.items() if group in groups.values()}


def strategy_optimizer(strategy: str, given: Mapping[str, AnyOptimizer]) -> dict[str, AnyOptimizer]:
    """The entries of a strategy's two groups: those that were given, and AdamW at the strategy's own rates.

    >>> strategy_optimizer("lp-ft", {"slow": AdamW(lr=1e-5)})["fast"].lr
    1e-05
    """
    slow = given.get("slow", AdamW(lr=SLOW_LR))
    return {"slow": slow, "fast": given.get("fast", AdamW(lr=own_rate(strategy, "fast", slow.lr)))}


def own_rate(strategy: str, group: str, slow_lr: float) -> float:
    """The rate that a strategy gives a group for which none was given."""
    if group == "slow":
        return SLOW_LR
    return {"fine-tune": FASTAIS_LR, "lp-ft": slow_lr}.get(strategy, FAST_LR)


class Recipe(Section):
    """Everything a run needs. Each field has a default; ``model`` and ``data`` are only needed to start from a file.

    ``groups`` maps stage names ("layer4"), "head", or globs over parameter paths ("*.bn*.scale", "*" for the rest) to
    groups; the first that matches wins. "frozen" is reserved: such parameters never change. Each other group has an
    entry under ``optimizer``.

    >>> recipe = Recipe.from_keywords(epochs=3, groups={"head": "fast", "*": "frozen"})
    >>> recipe.epochs, recipe.optimizer["fast"].lr
    (3, 0.001)
    >>> recipe.replace(**{"optimizer.fast.lr": 3e-4}).optimizer["fast"].lr
    0.0003
    """

    model: ModelSection | None = None
    data: DataSection | None = None
    strategy: StrategyName | None = None
    """A whole strategy by name, in place of ``groups``, ``layer_decay``, ``phases`` and ``linear_probe``."""
    groups: dict[Text, Group] = Field(default_factory=lambda: dict(DEFAULT_GROUPS))
    """Parts of the network to groups; ``jaxtl.labels.by_pattern`` says what a part is. The first that matches wins."""
    layer_decay: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """A block's rate is its group's times this to the power of the blocks behind it (Clark 2020, Bao 2022)."""
    optimizer: dict[Group, Annotated[Optimizer, named("adamw", Optimizer)]] = Field(
        default_factory=lambda fields: default_optimizer(fields["groups"])
    )
    """For each group but "frozen": how it learns."""
    schedule: GivenSchedule = Cosine()
    phases: Annotated[tuple[Phase, ...], Field(strict=False)] = ()
    """Spans of epochs with their own active groups; none: everything that is not frozen trains from the first step."""
    epochs: Annotated[int, Field(ge=0)] = Field(
        default_factory=lambda fields: sum(phase.epochs for phase in fields.get("phases", ())) or 5
    )
    """How many; with ``phases``: their sum. 0 is for ``linear_probe`` alone."""
    patience: Annotated[int, Field(gt=0)] | None = None
    """Stop the run when validation has not improved so many times in a row (early stopping); null: never."""
    linear_probe: bool = False
    """Start from the head that fits the pretrained features best (LP-FT, Kumar 2022)."""
    batch_norm: BatchNormPolicy = "follow"
    """Statistics of BatchNorms in training: "follow" the label, "frozen" or "adapt"; or parts to one of these."""
    recalibrate: bool = False
    """Take all BatchNorm statistics of the training images before training (AdaBN, Li 2016)."""
    eval_every: Annotated[int, Field(gt=0)] = 1
    """Epochs between two validations, each with its record and its checkpoint; there is always one at the end."""
    batch_size: Annotated[int, Field(gt=0)] = 32
    accumulate: Annotated[int, Field(gt=0)] = 1
    """Compute each batch in so many parts, one after the other, for the memory of one of them."""
    eval_batch_size: Annotated[int, Field(gt=0)] = 64
    loss: Annotated[Loss, named("softmax", Loss)] = Softmax()
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    class_weights: ClassWeights | None = None
    """The word "balanced" (inverse to the class's share of training images), or a number for each class."""
    mixup: Annotated[Number, Field(ge=0)] = 0.0
    """Alpha of mixup (Zhang 2018); 0: none."""
    cutmix: Annotated[Number, Field(ge=0)] = 0.0
    """Alpha of CutMix (Yun 2019); with mixup, each batch gets one of the two at random; 0: none."""
    ema: Annotated[Number, Field(gt=0, lt=1)] | None = None
    """Decay, per step, of the moving average of the weights that is validated and returned; null: none."""
    clip_norm: Annotated[Number, Field(gt=0)] | None = None
    """Largest global norm of the gradients of everything that trains; null: no clipping."""
    precision: AnyPrecision = "auto"
    """What the network computes in: "f32", "bf16", or "auto", bf16 on TPUs and on GPUs from Ampere on and f32
    elsewhere. Parameters and statistics are float32 either way. Products of "f32" have JAX's default precision: TF32 on
    these GPUs and bfloat16 on TPUs, unless ``jax_default_matmul_precision`` says otherwise."""
    feature_cache: bool = True
    """Compute the output of a frozen, deterministic part in front once for each image and view, and train on that."""
    views: Annotated[int, Field(gt=0)] | None = None
    """Random variants of each training image, drawn once, one an epoch and then the first again. null: one where
    augmentation is not random, 5 for phases on cached features, a fresh one in every epoch for others."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    output: Output | None = None
    """Folder for the tuned model, the history and the checkpoints; null: nothing is written."""

    if not TYPE_CHECKING:  # editors know the fields from above

        def __init__(self, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                given = {name: as_given(value) for name, value in fields.items()}
                raise InputError(listed("recipe", _all_problems(error, given))) from None

        __init__.__pydantic_base_init__ = True  # so that model_validate raises its own error

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [] if self.strategy else group_problems(self.groups, self.optimizer)
        problems += training_problems(self)
        if problems:
            raise Contradictions(problems)
        return self

    @property
    def all_phases(self) -> tuple[Phase, ...]:
        """The phases, or the one that a recipe without phases is; the run's patience is the last one's."""
        *first, last = self.phases or (Phase(epochs=self.epochs),)
        if self.patience is not None and last.patience is None:
            last = last.model_copy(update={"patience": self.patience})
        return (*first, last)

    def require(self, section: str) -> Any:
        """The ``model`` or ``data`` section.

        Raises:
            InputError: the recipe has none.
        """
        found = getattr(self, section)
        if found is None:
            field = {"model": "name: resnet18", "data": "source: folder:path/to/images"}[section]
            raise InputError(f"the recipe has no {section!r} section; add '{section}: {{{field}}}'")
        return found

    @classmethod
    def from_keywords(cls, **fields: Any) -> Recipe:
        """The default recipe with some fields given, as ``fine_tune(model, data, epochs=3)`` does.

        Raises:
            InputError: unknown fields or values that do not fit, all of them at once.
        """
        return cls().replace(**fields)

    def replace(self, **fields: Any) -> Recipe:
        """A copy with some fields changed; a dotted name reaches into a section: ``**{"optimizer.fast.lr": 3e-4}``.

        None for a field that does not take it, or for an entry of groups or optimizers, takes it out. A strategy takes
        the place of what it decides, which is said.

        Raises:
            InputError: unknown fields or values that do not fit, all of them at once.
        """
        return changed(as_given(self), list(fields.items()), "recipe")

    def to_yaml(self) -> str:
        """The whole recipe as YAML, defaults included, that ``load_recipe`` reads back as an equal recipe.

        >>> "epochs: 2" in Recipe(epochs=2).to_yaml().splitlines()
        True
        """
        decided: set[str] = set()  # by the strategy, and as long as nobody gives it
        if self.strategy:
            own = {"optimizer", "schedule", *(["epochs"] if self.strategy == "linear-probe" else [])}
            decided = {*STRATEGY_FIELDS, *(own - self.model_fields_set)}
        fields = self.model_dump(mode="json", exclude=decided)
        return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def section_default(keys: tuple[str, ...], fields: Mapping[str, Any]) -> dict[str, Any]:
    """What else a section holds that was not there before single fields of it were set.

    >>> fields = {"strategy": "lp-ft", "optimizer": {"slow": {"lr": 1e-5}, "fast": {"weight_decay": 0}}}
    >>> section_default(("optimizer",), fields), section_default(("optimizer", "fast"), fields)
    ({'slow': {'lr': 0.0001}, 'fast': {'lr': 1e-05}}, {'lr': 1e-05})
    """
    if keys == ("groups",):
        return dict(DEFAULT_GROUPS)
    if keys[0] != "optimizer":
        return {}
    if isinstance(strategy := fields.get("strategy"), str):
        entries = {
            g: entry for g, entry in fields["optimizer"].items() if g in ("slow", "fast") and isinstance(entry, Mapping)
        }
        slow_lr = entries.get("slow", {}).get("lr", SLOW_LR)
        own = {group: {"lr": own_rate(strategy, group, slow_lr)} for group in entries}
        return own if keys == ("optimizer",) else own.get(keys[1], {})
    if keys == ("optimizer",) and _is_rules(groups := fields.get("groups", DEFAULT_GROUPS)):
        return as_given(default_optimizer(groups))
    return {}


def changed(fields: Mapping[str, Any], changes: Iterable[tuple[str, Any]], place: str) -> Recipe:
    """The checked recipe of fields, some of them changed by their dotted names, as ``Recipe.replace`` does it."""
    changes = list(changes)
    strategy = dict(changes).get("strategy")
    if strategy is not None:
        fields, left_out = without_decided(fields, [name for name, _ in changes])
        if left_out:
            say(f"strategy {strategy!r} takes the place of the recipe's {', '.join(left_out)}")
    return checked(with_changes(fields, changes, section_default, partial(takes_out, Recipe)), place)


def checked(fields: Mapping[str, Any], place: str) -> Recipe:
    """The recipe of these fields, or one InputError with everything that is wrong with them."""
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise InputError(listed(place, _all_problems(error, fields))) from None


def _all_problems(error: ValidationError, fields: Mapping[str, Any]) -> list[str]:
    problems = [problem for e in error.errors() if not e["loc"] for problem in e["ctx"]["error"].problems]
    return problems or explain(error, fields, Recipe) + _problems_of_groups(fields)


def _problems_of_groups(fields: Mapping[str, Any]) -> list[str]:
    """What a recipe whose fields do not hold has wrong between groups and optimizers, as far as that can be told."""
    groups = fields.get("groups", DEFAULT_GROUPS)
    if not _is_rules(groups) or fields.get("strategy"):
        return []
    optimizer = fields.get("optimizer", default_optimizer(groups))
    return group_problems(groups, optimizer if isinstance(optimizer, Mapping) else groups.values())


def _is_rules(groups: Any) -> bool:
    return isinstance(groups, Mapping) and all(isinstance(text, str) for rule in groups.items() for text in rule)
