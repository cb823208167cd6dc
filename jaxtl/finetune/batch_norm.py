"""What the labels mean for BatchNorm and dropout during training."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtl.finetune.labels import FROZEN, Label, groups_of
from jaxtl.model import Model
from jaxtl.models.graph import Graph, Modes


def training_modes(model: Model, label: Label) -> Modes:
    """Which modules leave evaluation mode while training with a label function.

    A BatchNorm follows the label of its own scale: frozen, it uses its stored statistics and leaves them alone;
    otherwise it uses the batch's and updates the stored ones. Dropout and drop path are active where anything beside
    them in the same module is trained, dropout before the head where the head is: a frozen part stays deterministic.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> modes = training_modes(model, lambda path, _: "slow" if path.startswith("layer3") else "frozen")
    >>> sorted(modes.adapt)[:2]
    ['layer3.0.bn1', 'layer3.0.bn2']
    """
    return modes_of(model.graph, groups_of(model.params, label))


def modes_of(graph: Graph, groups: Mapping[str, str]) -> Modes:
    """The same from the groups by path."""
    trained = [path for path, group in groups.items() if group != FROZEN]

    def any_trained(module: str) -> bool:
        beside = module.rpartition(".")[0] or graph.head
        return any(path.startswith(f"{beside}.") for path in trained)

    return Modes(
        adapt=frozenset(norm for norm in graph.batch_norms if groups[f"{norm}.scale"] != FROZEN),
        random=frozenset(module for module in graph.random if any_trained(module)),
    )
