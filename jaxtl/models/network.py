"""What every architecture offers: named stages in order, pooled features, and a head that can be replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypeGuard

import jax
from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.models.layers import Stack
from jaxtl.models.pooling import global_average


class Network(nnx.Module):
    """An image network as an ordered run of stages, the last of which is the head.

    A family sets ``stages``, ``num_features`` and ``num_classes`` and implements ``run_stage``.

    Attributes:
        stages: names in the order in which they run; the last is the head's.
        num_features: width of what ``features`` returns.
        num_classes: width of the logits; 0: no head, calling the network returns the pooled features.
    """

    aliases: ClassVar[Mapping[str, str]] = {}
    """Other names for top-level modules that checkpoints are known to use."""

    stages: tuple[str, ...]
    num_features: int
    num_classes: int

    @property
    def head(self) -> str:
        """The last stage, which is also the prefix of the head's parameters."""
        return self.stages[-1]

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        """For each stage the attributes whose parameters belong to it; a stage's own name unless a family says else."""
        return {stage: (stage,) if hasattr(self, stage) else () for stage in self.stages}

    @property
    def blocks(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The steps that block depth counts, first to last: (name, attribute paths whose parameters belong to it).

        A stage whose parameters lie in one ``Stack`` of blocks under the stage's own name is a block for each child
        ("layer1.0", "layer1.1", ...). Every other stage, the head included, is one block under the stage's name.
        """
        found: list[tuple[str, tuple[str, ...]]] = []
        for stage, modules in self.stage_modules.items():
            stack = getattr(self, stage, None)
            if stage != self.head and modules == (stage,) and _is_stack_of_blocks(stack):
                found += [(f"{stage}.{i}", (f"{stage}.{i}",)) for i in range(stack.length)]
            else:
                found.append((stage, modules))
        return tuple(found)

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """The output of one stage from the output of the one before it (the first takes the images)."""
        raise NotImplementedError

    def pool(self, x: jax.Array) -> jax.Array:
        """(batch, num_features) from the output of the last stage before the head."""
        return global_average(x)

    def features(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """(batch, num_features): what the head sees, before its dropout."""
        for stage in self.stages[:-1]:
            x = self.run_stage(stage, x, rngs)
        return self.pool(x)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """(batch, num_classes): logits of normalised images (batch, height, width, channels).

        ``rngs`` are the random numbers of dropout and stochastic depth, needed in training mode only.
        """
        for stage in self.stages:
            x = self.run_stage(stage, x, rngs)
        return x


def _is_stack_of_blocks(module: object) -> TypeGuard[Stack]:
    """Whether all children of a ``Stack`` are made of modules themselves; a stack of plain layers is one step."""
    return isinstance(module, Stack) and all(
        any(isinstance(part, nnx.Module) for part in vars(getattr(module, str(i))).values())
        for i in range(module.length)
    )


def stages_until(stages: tuple[str, ...], until: str | None) -> tuple[str, ...]:
    """The stages of a network cut after the stage ``until``, its head kept.

    Raises:
        InputError: when there is no such stage before the head.

    >>> stages_until(("stem", "layer1", "layer2", "fc"), "layer1")
    ('stem', 'layer1', 'fc')
    """
    *body, head = stages
    if until is None:
        return stages
    if until not in body:
        raise InputError(
            f"no stage is called {until!r}{nearest(until, body)}; a network can end after {', '.join(body)}"
        )
    return (*body[: body.index(until) + 1], head)
