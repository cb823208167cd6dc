"""What the labels, and policies beside them, mean for BatchNorm and dropout during training."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from jaxtl.errors import InputError, nearest
from jaxtl.finetune.labels import FROZEN, Label, Unbound, bound, groups_of, some_paths
from jaxtl.finetune.parts import paths_of, stage_of_module
from jaxtl.model import Model
from jaxtl.models.graph import Graph, Modes
from jaxtl.notices import say

Policy = str | Mapping[str, str]
"""``"follow"``, ``"frozen"`` or ``"adapt"`` for all BatchNorms, or parts of the network to one of these."""

POLICIES = ("follow", "frozen", "adapt")
SMALL_BATCH = 32
"""Images; below it batch statistics are taken to be noisy (Wu and He 2018, https://arxiv.org/abs/1803.08494)."""


def training_modes(model: Model, label: Label | Unbound, policy: Policy = "follow") -> Modes:
    """Which modules leave evaluation mode while training with a label function.

    A BatchNorm follows the label of its own scale: frozen, it uses its stored statistics and leaves them alone;
    otherwise it uses the batch's and updates the stored ones. A policy changes that, and nothing but that:

    - ``"follow"``: as said.
    - ``"frozen"``: stored statistics, although scale and bias may train.
    - ``"adapt"``: batch statistics, which are stored, although scale and bias may be frozen.
    - a mapping from parts to these, like ``{"layer1": "frozen", "*.bn1": "adapt"}``: the first part that matches wins,
      and the BatchNorms that none matches follow the label. A part is one of ``jaxtl.labels.by_pattern``'s, or a glob
      over the BatchNorms' own paths.

    Dropout and drop path are active where anything beside them in the same module is trained; outside of all modules,
    as before the head or behind position embeddings, where anything of their stage is. So a frozen part stays
    deterministic.

    Raises:
        InputError: an unknown policy, or a part that matches no BatchNorm.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None)
    >>> label = lambda path, _: "slow" if path.startswith("layer3") else "frozen"
    >>> sorted(training_modes(model, label).adapt)[:2]
    ['layer3.0.bn1', 'layer3.0.bn2']
    >>> sorted(training_modes(model, label, {"layer3.0.*": "frozen", "stem": "adapt"}).adapt)[:2]
    ['bn1', 'layer3.1.bn1']
    """
    return modes_of(model.graph, groups_of(model.params, bound(label, model.graph)), policy)


def modes_of(graph: Graph, groups: Mapping[str, str], policy: Policy = "follow") -> Modes:
    """The same from the groups by path."""
    trained = [path for path, group in groups.items() if group != FROZEN]

    def any_trained(module: str) -> bool:
        beside = module.rpartition(".")[0]
        if beside:
            return any(path.startswith(f"{beside}.") for path in trained)
        return any(graph.stage_of(path) == stage_of_module(module, graph) for path in trained)

    policies = policies_of(graph, policy)

    def adapts(norm: str) -> bool:
        return policies[norm] == "adapt" or (policies[norm] == "follow" and groups[f"{norm}.scale"] != FROZEN)

    return Modes(
        adapt=frozenset(norm for norm in graph.batch_norms if adapts(norm)),
        random=frozenset(module for module in graph.random if any_trained(module)),
    )


def policies_of(graph: Graph, policy: Policy) -> dict[str, str]:
    """The policy of each BatchNorm, by module path.

    Raises:
        InputError: an unknown policy, or a part that matches no BatchNorm.

    >>> from jaxtl.models.graph import Graph
    >>> found = policies_of(Graph("resnet18"), {"from layer4": "adapt", "*": "frozen"})
    >>> found["layer4.0.bn1"], found["bn1"]
    ('adapt', 'frozen')
    """
    if isinstance(policy, str):
        _check(policy, "batch_norm")
        if policy != "follow" and not graph.batch_norms:
            sentence = f"batch_norm: {policy!r} changes nothing, because {graph.architecture} has no BatchNorm"
            graph.remember(sentence, lambda: say(sentence))
        return dict.fromkeys(graph.batch_norms, policy)
    if not isinstance(policy, Mapping):
        raise InputError(
            f"batch_norm is a {type(policy).__name__}; give {_listed()}, or parts of the network to one of these, "
            'like {"layer1": "frozen"}'
        )
    found: dict[str, str] = {}
    for part, word in policy.items():
        _check(word, f"batch_norm, {part!r}")
        norms = _norms_in(part, graph)
        if not norms:
            raise InputError(_nothing_matches(part, graph))
        for norm in norms:
            found.setdefault(norm, word)
    return {norm: found.get(norm, "follow") for norm in graph.batch_norms}


def small_batch_warning(modes: Modes, batch_size: int) -> str | None:
    """One sentence where BatchNorms adapt to batches of fewer than ``SMALL_BATCH`` images, else None.

    >>> print(small_batch_warning(Modes(adapt=frozenset({"bn1"})), batch_size=8))
    1 BatchNorm takes its statistics from batches of 8 images, which are noisy below 32: use a larger batch_size, or \
batch_norm: frozen
    >>> small_batch_warning(Modes(), batch_size=8)
    """
    count = len(modes.adapt)
    if not count or batch_size >= SMALL_BATCH:
        return None
    subject = "1 BatchNorm takes its" if count == 1 else f"{count} BatchNorms take their"
    images = "1 image" if batch_size == 1 else f"{batch_size} images"
    return (
        f"{subject} statistics from batches of {images}, which are noisy below {SMALL_BATCH}: "
        "use a larger batch_size, or batch_norm: frozen"
    )


def _norms_in(part: str, graph: Graph) -> list[str]:
    paths = paths_of(part, graph)
    return [norm for norm in graph.batch_norms if f"{norm}.scale" in paths or fnmatchcase(norm, part)]


def _nothing_matches(part: str, graph: Graph) -> str:
    if not graph.batch_norms:
        return f"batch_norm: {part!r} matches nothing, because {graph.architecture} has no BatchNorm; remove batch_norm"
    stages = [stage for stage in graph.stages if any(graph.stage_of(norm) == stage for norm in graph.batch_norms)]
    return (
        f"batch_norm: {part!r} matches no BatchNorm of {graph.architecture}"
        f"{nearest(part, [*stages, *graph.batch_norms])}; there are {some_paths(list(graph.batch_norms), most=4)}, "
        f"in the stages {', '.join(stages)}"
    )


def _check(word: object, place: str) -> None:
    if word not in POLICIES:
        near = nearest(word, POLICIES) if isinstance(word, str) else ""
        raise InputError(f"{place}: {word!r} is no policy{near}; there are {_listed()}")


def _listed() -> str:
    return ", ".join(map(repr, POLICIES))
