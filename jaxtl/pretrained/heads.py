"""The head in a source of weights beside the head of a network: the same one, or is a new one wanted?"""

from __future__ import annotations

import re
from collections.abc import Mapping

from jaxtl.errors import InputError
from jaxtl.models.graph import Graph
from jaxtl.pretrained import names

Shapes = Mapping[str, tuple[int, ...]]


def stored_head(found: Shapes, head: str) -> list[str]:
    """torch's names of the weights of a head's linear layers, first to last; one, unless it is an MLP.

    >>> stored_head({"fc.0.weight": (8, 4), "fc.0.bias": (8,), "fc.2.weight": (3, 8)}, "fc")
    ['fc.0.weight', 'fc.2.weight']
    """
    plain = names.torch_name(f"{head}.kernel")
    if plain in found:
        return [plain]
    numbered = _numbered(found, head)
    if numbered:
        return [f"{head}.{number}.weight" for number in numbered]
    inside = [name for name in found if name.startswith(f"{head}.") and name.endswith(".weight")]
    matrices = [name for name in inside if len(found[name]) > 1]
    return matrices if len(matrices) == 1 else []


def wanted_head(graph: Graph) -> list[str]:
    """The same for the head of a network."""
    return stored_head(_torch_shapes(graph), graph.head)


def renumbered(found: Shapes, graph: Graph) -> dict[str, str]:
    """Stored name -> name in the network, for an MLP whose layers have other numbers: dropout between them shifts them.

    Empty where nothing is to rename, or where the stored head holds more than linear layers.
    """
    head = graph.head
    stored, wanted = _numbered(found, head), _numbered(_torch_shapes(graph), head)
    if stored == wanted or len(stored) != len(wanted) or _not_linear(found, head):
        return {}
    return {
        f"{head}.{old}.{leaf}": f"{head}.{new}.{leaf}"
        for old, new in zip(stored, wanted, strict=True)
        for leaf in ("weight", "bias")
        if f"{head}.{old}.{leaf}" in found
    }


def head_is_new(graph: Graph, found: Shapes, where: str, *, classes_given: bool, other_given: bool, cut: bool) -> bool:
    """Whether a network's head starts afresh: the stored one is for another number of classes or other features, is of
    another make, or is not there.

    Args:
        graph: the network.
        found: shapes of what is stored, by torch's name.
        where: what the source is, for the message.
        classes_given: a number of classes was asked for.
        other_given: hidden widths were asked for that are not known to be the stored ones.
        cut: the network ends earlier than the one the weights are of.

    Raises:
        InputError: the stored head is of another make, and nobody asked for that.
    """
    stored, wanted = stored_head(found, graph.head), wanted_head(graph)
    if not stored:
        return classes_given
    if found[stored[-1]][0] != graph.network.num_classes:
        return True
    if stored != wanted:
        if other_given:
            return True
        widths = tuple(found[name][0] for name in stored[:-1])
        mlp = len(stored) > 1 and not _not_linear(found, graph.head)
        keep = f"pass head={widths} to keep it or " if mlp else "pass "
        raise InputError(
            f"{where}: the head {graph.head!r} has other layers ({', '.join(stored)}) than the network's "
            f"({', '.join(wanted)}); {keep}head=() for a new linear one"
        )
    shapes = _torch_shapes(graph)
    return (cut or other_given) and any(found[name] != shapes[name] for name in wanted)


def _torch_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {names.torch_name(path): names.torch_shape(path, leaf.shape) for path, leaf in graph.params.items()}


def _numbered(found: Shapes, head: str) -> list[int]:
    """The numbers of the linear layers of a head that is a torch ``Sequential``."""
    pattern = re.compile(rf"{re.escape(head)}\.(\d+)\.weight")
    return sorted(int(match[1]) for name in found if (match := pattern.fullmatch(name)) and len(found[name]) == 2)


def _not_linear(found: Shapes, head: str) -> list[str]:
    linear = {f"{head}.{number}.{leaf}" for number in _numbered(found, head) for leaf in ("weight", "bias")}
    return [name for name in found if name.startswith(f"{head}.") and name not in linear]
