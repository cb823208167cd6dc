"""Up to where a network is fixed during training, so that its output there need be computed only once."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtl.finetune.labels import FROZEN
from jaxtl.finetune.parts import stage_of_module
from jaxtl.models.graph import POOLED, Graph, Modes


def frozen_prefix(graph: Graph, groups: Mapping[str, str], modes: Modes) -> str | None:
    """The last stage of the part in front that training neither changes nor draws random numbers in.

    Every parameter up to there is frozen, every BatchNorm uses its stored statistics and leaves them alone, and no
    dropout or drop path is active. ``jaxtl.models.graph.POOLED`` where that is the whole body: then the head's input
    is fixed. None where the first stage already changes.

    Args:
        graph: of the network.
        groups: group of each parameter by path.
        modes: of training, from ``jaxtl.finetune.batch_norm.modes_of``.

    >>> from jaxtl.finetune.batch_norm import modes_of
    >>> graph = Graph("resnet18")
    >>> groups = {path: "fast" if path.startswith(("layer4", "fc")) else "frozen" for path in graph.params}
    >>> frozen_prefix(graph, groups, modes_of(graph, groups))
    'layer3'
    >>> frozen_prefix(graph, groups, modes_of(graph, groups, "adapt"))
    """
    active = {graph.stage_of(path) for path, group in groups.items() if group != FROZEN}
    active |= {stage_of_module(module, graph) for module in modes.adapt | modes.observe | modes.random}
    last = None
    for stage in graph.stages[:-1]:
        if stage in active:
            return last
        last = stage
    return POOLED if graph.classifies_pooled else last
