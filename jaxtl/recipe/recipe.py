"""The recipe: its fields, their defaults, and what has to fit together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from jaxtl.errors import InputError, nearest
from jaxtl.recipe.changes import with_changes
from jaxtl.recipe.problems import explain, listed
from jaxtl.recipe.sections import (
    SGD,
    AdamW,
    Cosine,
    DataSection,
    Group,
    Location,
    ModelSection,
    Number,
    Optimizer,
    Schedule,
    Section,
    Text,
    named,
)

FROZEN = "frozen"
DEFAULT_GROUPS = {"head": "fast", "*": "slow"}


def default_optimizer(groups: Mapping[str, str]) -> dict[str, AdamW | SGD]:
    """The entries used where a recipe has no ``optimizer`` section: the defaults of the groups that occur.

    >>> list(default_optimizer({"head": "fast", "*": "frozen"}))
    ['fast']
    """
    known = {"slow": AdamW(lr=1e-4), "fast": AdamW(lr=1e-3)}
    return {group: entry for group, entry in known.items() if group in groups.values()}


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
    groups: dict[Text, Group] = Field(default_factory=lambda: dict(DEFAULT_GROUPS))
    """Stage name, "head" or glob over parameter paths, to group. The first that matches wins."""
    optimizer: dict[Group, Annotated[Optimizer, named("adamw")]] = Field(
        default_factory=lambda fields: default_optimizer(fields["groups"])
    )
    """For each group but "frozen": how it learns."""
    schedule: Annotated[Schedule, named("cosine")] = Cosine()
    epochs: Annotated[int, Field(gt=0)] = 5
    eval_every: Annotated[int, Field(gt=0)] = 1
    """Epochs between two validations, each with its record and its checkpoint; there is always one at the end."""
    batch_size: Annotated[int, Field(gt=0)] = 32
    eval_batch_size: Annotated[int, Field(gt=0)] = 64
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    clip_norm: Annotated[Number, Field(gt=0)] | None = None
    """Largest global norm of the gradients of everything that trains; null: no clipping."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    output: Location | None = None
    """Folder for the tuned model, the history and the checkpoints; null: nothing is written."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = _contradictions(self.groups, self.optimizer)
        if problems:
            raise ValueError("; ".join(problems))
        return self

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

        Raises:
            InputError: unknown fields or values that do not fit, all of them at once.
        """
        whole = self.model_dump()
        given = {name: whole[name] for name in whole if name in self.model_fields_set}
        return checked(with_changes(given, fields.items(), section_default), "recipe")

    def to_yaml(self) -> str:
        """The whole recipe as YAML, defaults included, that ``load_recipe`` reads back as an equal recipe.

        >>> "epochs: 2" in Recipe(epochs=2).to_yaml().splitlines()
        True
        """
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def section_default(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a section holds that is not there, before single fields of it are changed."""
    if name == "groups":
        return dict(DEFAULT_GROUPS)
    if name == "optimizer" and _is_rules(groups := fields.get("groups", DEFAULT_GROUPS)):
        return {group: entry.model_dump() for group, entry in default_optimizer(groups).items()}
    return {}


def checked(fields: Mapping[str, Any], place: str) -> Recipe:
    """The recipe of these fields, or one InputError with everything that is wrong with them."""
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        problems = explain(error, fields, Recipe)
        groups = fields.get("groups", DEFAULT_GROUPS)
        if _is_rules(groups):
            optimizer = fields.get("optimizer", default_optimizer(groups))
            problems += _contradictions(groups, optimizer if isinstance(optimizer, Mapping) else groups.values())
        raise InputError(listed(place, problems)) from None


def _is_rules(groups: Any) -> bool:
    return isinstance(groups, Mapping) and all(isinstance(text, str) for rule in groups.items() for text in rule)


def _contradictions(groups: Mapping[str, str], optimizer: Iterable[str]) -> list[str]:
    """Groups without an optimizer, optimizers without a group, and rules that nothing can reach."""
    used = [group for group in dict.fromkeys(groups.values()) if group != FROZEN]
    entries = [entry for entry in optimizer if isinstance(entry, str)]
    problems = []
    for group in used:
        if group not in entries:
            put = ", ".join(repr(rule) for rule, its in groups.items() if its == group)
            problems.append(
                f"groups puts {put} in {group!r}, which has no entry under optimizer"
                + nearest(group, [*entries, FROZEN])
            )
    for entry in entries:
        if entry == FROZEN:
            problems.append(f"optimizer.{FROZEN}: {FROZEN!r} is reserved for what never changes and takes no optimizer")
        elif entry not in used:
            problems.append(f"optimizer.{entry} is used by no rule under groups" + nearest(entry, used))
    if not used:
        problems.append("groups freezes everything, so nothing would be trained")
    rules = list(groups)
    if "*" in rules[:-1]:
        behind = ", ".join(map(repr, rules[rules.index("*") + 1 :]))
        problems.append(f"groups: nothing reaches {behind} behind '*', which matches everything; put '*' last")
    return problems
