"""What every architecture offers: named stages in order, pooled features, and a head that can be replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeGuard

import jax
import numpy as np
from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.models.convolution import Pair
from jaxtl.models.layers import Stack
from jaxtl.models.pooling import global_average


class Network(nnx.Module):
    """An image network as an ordered run of stages, the last of which is the head.

    A family sets ``stages``, ``num_features`` and ``num_classes`` and implements ``run_stage`` and ``classify``.

    Attributes:
        stages: names in the order in which they run; the last is the head's.
        num_features: width of what ``pooled_features`` returns.
        num_classes: width of the logits; 0: no head, calling the network returns the pooled features.
    """

    aliases: ClassVar[Mapping[str, str]] = {}
    """Other names for top-level modules that checkpoints are known to use."""

    in_timm: ClassVar[bool] = True
    """Whether timm has the family's architectures."""

    stages: tuple[str, ...]
    num_features: int
    num_classes: int

    @property
    def stage_names(self) -> tuple[str, ...]:
        """``stages``, except in a family whose modules lie under that name (timm's ``stages.0``): it says them here."""
        return self.stages

    @property
    def head_stage(self) -> str:
        """The last stage, which is also the prefix of the head's parameters."""
        return self.stage_names[-1]

    @property
    def stage_modules(self) -> dict[str, tuple[str, ...]]:
        """For each stage the paths of the modules and parameters that belong to it, in the order in which they act; the
        stage's own name unless a family says else. The first path that is a parameter's beginning decides."""
        return {stage: (stage,) if find(self, stage) is not None else () for stage in self.stage_names}

    @property
    def block_steps(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The steps that block depth counts, first to last: (name, attribute paths whose parameters belong to it).

        Each child of a ``Stack`` of blocks is a block ("layer1.0", "layer1.1", ...), with it what acts in its stage
        between the block before it and itself; what comes after a stage's last block belongs to that one. A stage
        without such a stack, the head always, is one block under the stage's name.
        """
        found: list[tuple[str, tuple[str, ...]]] = []
        for stage, modules in self.stage_modules.items():
            steps: list[tuple[str, tuple[str, ...]]] = []
            waiting: tuple[str, ...] = ()
            for path in modules if stage != self.head_stage else ():
                stack = find(self, path)
                if is_stack_of_blocks(stack):
                    steps += [(f"{path}.{key}", (f"{path}.{key}",)) for key in stack.keys]
                    first = len(steps) - stack.length
                    steps[first] = (steps[first][0], (*waiting, *steps[first][1]))
                    waiting = ()
                else:
                    waiting += (path,)
            if steps:
                steps[-1] = (steps[-1][0], (*steps[-1][1], *waiting))
            found += steps or [(stage, modules)]
        return tuple(found)

    @property
    def adapters(self) -> Mapping[str, Callable[..., np.ndarray]]:
        """For leaves that weights of another shape can fill, such as position embeddings made for another size of
        images: path -> the function from the stored array, axes in this network's order, to the one that fits. For a
        path in ``grids`` it takes ``old``, the stored array's grid, as well; ``None``: that is not known."""
        return {}

    @property
    def grids(self) -> Mapping[str, Pair]:
        """For those of these leaves that belong to places on a grid, which their shape does not tell: path -> the
        grid's rows and columns."""
        return {}

    def run_stage(self, name: str, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """The output of one stage from the output of the one before it (the first takes the images)."""
        raise NotImplementedError

    def pool(self, x: jax.Array) -> jax.Array:
        """(batch, num_features) from the output of the last stage before the head."""
        return global_average(x)

    def classify(self, pooled: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """(batch, num_classes) from what ``pool`` returns; with ``pool`` in front of it, it is the head's stage."""
        raise NotImplementedError

    @property
    def classifies_pooled(self) -> bool:
        """Whether the head sees what ``pool`` returns and nothing else, so that ``classify`` can be used."""
        return True

    def pooled_features(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """(batch, num_features): what the head sees, before its dropout."""
        for stage in self.stage_names[:-1]:
            x = self.run_stage(stage, x, rngs)
        return self.pool(x)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """(batch, num_classes): logits of normalised images (batch, height, width, channels).

        ``rngs`` are the random numbers of dropout and stochastic depth, needed in training mode only.
        """
        for stage in self.stage_names:
            x = self.run_stage(stage, x, rngs)
        return x


def find(module: object, path: str) -> object | None:
    """The module or parameter at a dotted attribute path, ``None`` where there is none.

    >>> find(Stack(Stack()), "0").length
    0
    """
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def is_stack_of_blocks(module: object) -> TypeGuard[Stack]:
    """Whether all children of a ``Stack`` are made of modules themselves; a stack of plain layers is one step."""
    return (
        isinstance(module, Stack)
        and module.length > 0
        and all(
            any(isinstance(part, nnx.Module) for part in vars(getattr(module, key)).values()) for key in module.keys
        )
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
