"""Parts of a network by name, as label functions and recipes write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from jaxtl.errors import InputError, nearest
from jaxtl.models.graph import Graph

_LAST = re.compile(r"last (\d+) blocks?")
_FROM = re.compile(r"from (.+)")


def paths_of(part: str, graph: Graph) -> frozenset[str]:
    """The parameter paths that a part of a network means.

    ==================  ============================================================================================
    a stage's name      the stage: ``"layer4"``
    ``"head"``          the last stage
    ``"from layer3"``   this stage and all behind it, the head included
    ``"last 2 blocks"`` so many blocks in front of the head (``Graph.blocks``), the head not included
    ``"norms"``         scale and bias of all normalisation layers
    ``"biases"``        all other biases
    anything else       a glob over parameter paths: ``"*.bn*.scale"``, ``"layer[34].*"``, ``"*"``
    ==================  ============================================================================================

    Raises:
        InputError: a stage that is not there behind ``"from"``, or more blocks than there are.

    >>> sorted(paths_of("head", Graph("resnet18")))
    ['fc.bias', 'fc.kernel']
    >>> len(paths_of("norms", Graph("resnet18"))), paths_of("biases", Graph("resnet18"))
    (40, frozenset({'fc.bias'}))
    """
    return graph.remember(("paths_of", part), lambda: frozenset(_matching(part, graph)))


def stage_of_module(module: str, graph: Graph) -> str:
    """The stage of a module; for dropout outside of all stages the head's if it is the head's, else the first.

    >>> graph = Graph("cifar_resnet20", drop_rate=0.1)
    >>> stage_of_module("layer1.0.bn1", graph), stage_of_module("head_drop", graph)
    ('layer1', 'fc')
    """
    try:
        return graph.stage_of(module)
    except KeyError:
        return graph.head if module.startswith("head") else graph.stages[0]


def _matching(part: str, graph: Graph) -> Iterable[str]:
    stages, paths = graph.stages, graph.params
    if part in stages or part == "head":
        stage = graph.head if part == "head" else part
        return (path for path in paths if graph.stage_of(path) == stage)
    if part == "norms":
        return (path for path in paths if _is_of_norm(path, graph))
    if part == "biases":
        return (path for path in paths if path.endswith("bias") and not _is_of_norm(path, graph))
    if found := _LAST.fullmatch(part):
        count, most = int(found[1]), len(graph.blocks) - 1
        if not 1 <= count <= most:
            raise InputError(
                f"{part!r}: {graph.architecture} has {most} blocks in front of its head, so give 1 to {most}"
            )
        return (path for path in paths if 1 <= graph.depth_of(path) <= count)
    if found := _FROM.fullmatch(part):
        first = found[1]
        if first not in stages:
            raise InputError(
                f"{part!r}: no stage of {graph.architecture} is called {first!r}{nearest(first, stages)}; "
                f"its stages are {', '.join(stages)}"
            )
        wanted = stages[stages.index(first) :]
        return (path for path in paths if graph.stage_of(path) in wanted)
    return (path for path in paths if fnmatchcase(path, part))


def _is_of_norm(path: str, graph: Graph) -> bool:
    """What is normalised is scaled afterwards; no other layer has a leaf of the name ``scale``."""
    return f"{path.rpartition('.')[0]}.scale" in graph.params
