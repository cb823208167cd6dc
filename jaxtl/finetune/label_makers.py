"""The labels that most fine-tuning needs, under their public names in ``jaxtl.labels``.

The groups are "fast" for the head, "slow" for what else is trained, and "frozen". None of these labels knows a network
before it is bound to one: see ``Unbound``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtl.errors import InputError
from jaxtl.finetune.labels import FROZEN, Label, Unbound, check_decay, from_groups, label_of
from jaxtl.models.graph import Graph


@dataclass(frozen=True)
class ByPattern(Unbound):
    """What ``by_pattern`` returns."""

    parts: tuple[tuple[str, str], ...]

    def bind(self, graph: Graph) -> Label:
        return from_groups(dict(self.parts), graph)


def by_pattern(groups: Mapping[str, str]) -> ByPattern:
    """Groups by part of the network; the first part that matches a parameter wins.

    A part is

    * a stage's name (``model.stages``), or ``"head"`` for the last;
    * ``"from layer3"``: this stage and all behind it, the head included;
    * ``"last 2 blocks"``: so many blocks in front of the head (``model.graph.blocks``), the head not included;
    * ``"norms"``: scale and bias of all normalisation layers; ``"biases"``: all other biases;
    * a glob over parameter paths: ``"*.bn*.scale"``, ``"layer[34].*"``, ``"*"`` for the rest.

    Raises:
        InputError: names that are not text. When it is bound: a part that matches no parameter, or parameters that no
            part matches.

    >>> import jaxtl
    >>> model = jaxtl.load("resnet18", weights=None)
    >>> label = by_pattern({"head": "fast", "norms": "slow", "*": "frozen"}).bind(model.graph)
    >>> label("layer1.0.bn1.scale", None), label("layer1.0.conv1.kernel", None)
    ('slow', 'frozen')
    """
    fits = isinstance(groups, Mapping) and all(
        isinstance(name, str) and name for pair in groups.items() for name in pair
    )
    if not fits:
        raise InputError(
            f"by_pattern takes parts and groups by name, like {{'head': 'fast', '*': 'frozen'}}; got {groups}"
        )
    return ByPattern(tuple(groups.items()))


def head_only() -> ByPattern:
    """Trains the head ("fast"); everything else is frozen.

    >>> head_only().bind(Graph("resnet18"))("fc.bias", None)
    'fast'
    """
    return by_pattern({"head": "fast", "*": FROZEN})


def from_stage(stage: str) -> ByPattern:
    """Trains the head ("fast"), and a stage and all behind it ("slow"); what is in front of it is frozen.

    >>> label = from_stage("layer4").bind(Graph("resnet18"))
    >>> [label(path, None) for path in ("fc.bias", "layer4.0.bn1.scale", "layer3.0.bn1.scale")]
    ['fast', 'slow', 'frozen']
    """
    return by_pattern({"head": "fast", f"from {stage}": "slow", "*": FROZEN})


def last_blocks(count: int) -> ByPattern:
    """Trains the head ("fast") and so many blocks in front of it ("slow"); the rest is frozen.

    ``model.graph.blocks`` lists the blocks: in ResNets the residual blocks, and the stem as one.

    >>> label = last_blocks(1).bind(Graph("resnet18"))
    >>> [label(f"{block}.conv1.kernel", None) for block in ("layer4.1", "layer4.0")]
    ['slow', 'frozen']
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"last_blocks takes a number of blocks from 1 on, not {count!r}; for none, use head_only()")
    return by_pattern({"head": "fast", f"last {count} blocks": "slow", "*": FROZEN})


def norm_and_bias_only() -> ByPattern:
    """Trains the head ("fast"), and of the rest what normalisation layers learn and all biases ("slow").

    Frankle, Schwab and Morcos, https://arxiv.org/abs/2003.00152; for biases BitFit, https://arxiv.org/abs/2106.10199.
    BatchNorms follow the label of their scale, so all of them use and update batch statistics.

    >>> label = norm_and_bias_only().bind(Graph("resnet18"))
    >>> [label(path, None) for path in ("fc.kernel", "bn1.bias", "conv1.kernel")]
    ['fast', 'slow', 'frozen']
    """
    return by_pattern({"head": "fast", "norms": "slow", "biases": "slow", "*": FROZEN})


@dataclass(frozen=True)
class Layerwise(Unbound):
    """What ``layerwise`` returns."""

    decay: float

    def bind(self, graph: Graph) -> Label:
        return label_of({path: f"depth{graph.depth_of(path)}" for path in graph.params}, graph)

    def scales(self, graph: Graph) -> dict[str, float]:
        """For each group the factor of its rate, ``decay ** depth``; head first."""
        depths = sorted({graph.depth_of(path) for path in graph.params})
        return {f"depth{depth}": self.decay**depth for depth in depths}


def layerwise(decay: float = 0.75) -> Layerwise:
    """Trains everything in one group for each block: "depth0" is the head, "depth1" the last block before it, ...

    The group ``depthN`` is meant to learn at ``decay ** N`` times the head's rate: give ``jaxtl.multi_transform`` a
    function from that factor to a transformation. ``model.graph.depth_of`` says how depth is counted.

    Raises:
        InputError: a decay that is not above 0 and at most 1.

    Clark et al., https://arxiv.org/abs/2003.10555; Bao, Dong and Wei, https://arxiv.org/abs/2106.08254.

    >>> import jaxtl, optax
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> optimizer = jaxtl.multi_transform(lambda scale: optax.sgd(0.1 * scale), layerwise(0.5))
    >>> [(row.group, row.rate) for row in jaxtl.explain(model, optimizer).rows][-2:]
    [('depth1', 0.05000000074505806), ('depth0', 0.10000000149011612)]
    """
    check_decay(decay)
    return Layerwise(decay)
