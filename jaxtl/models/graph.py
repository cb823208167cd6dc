"""The static side of a model: one architecture's graph, and the functions that run it on plain dicts of arrays."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxtl.errors import InputError, nearest
from jaxtl.jitted import jit
from jaxtl.models import registry
from jaxtl.models.layers import BatchNorm, Dropout, DropPath
from jaxtl.models.network import Network
from jaxtl.trees import Tree, flatten


@dataclass(frozen=True)
class Modes:
    """Which modules leave evaluation mode, by module path (``"layer4.0.bn1"``).

    ``adapt``: BatchNorms that use batch statistics and move the stored ones towards them. ``random``: dropout and drop
    path that are active. ``observe``: BatchNorms whose returned statistics are those of the batch alone; on its own it
    leaves the logits those of evaluation. Empty, the default: evaluation.
    """

    adapt: frozenset[str] = frozenset()
    random: frozenset[str] = frozenset()
    observe: frozenset[str] = frozenset()


EVALUATION = Modes()

POOLED = "pooled"
"""In place of a stage's name: what pooling makes of the last one's output, which the head takes."""


class Graph:
    """An architecture without arrays. Building one computes nothing and takes milliseconds.

    Args:
        architecture: a name of ``jaxtl.models.registry``.
        options: what ``registry.build`` takes: ``num_classes``, ``in_chans``, ``until``, ``drop_rate``, ...

    >>> graph = Graph("resnet18", num_classes=5)
    >>> graph.params["fc.kernel"].shape, graph.stages[-2:]
    ((512, 5), ('layer4', 'fc'))
    """

    def __init__(self, architecture: str, **options: Any):
        self.architecture = architecture
        self.options = options
        self.network = registry.build(architecture, **options)
        _, *states = nnx.split(self.network, nnx.Param, nnx.BatchStat, ...)
        params, stats, rest = states
        if nnx.to_pure_dict(rest):
            raise TypeError(f"{architecture} holds variables that are neither nnx.Param nor nnx.BatchStat: {rest}")
        self._variables = {
            ".".join(map(str, path)): variable
            for state in (params, stats)
            for path, variable in dict(nnx.to_flat_state(state)).items()
        }
        self.params: dict[str, jax.ShapeDtypeStruct] = flatten(nnx.to_pure_dict(params))
        self.batch_stats: dict[str, jax.ShapeDtypeStruct] = flatten(nnx.to_pure_dict(stats))
        self._views: dict[Modes, nnx.GraphDef] = {}
        self._remembered: dict[Any, Any] = {}
        self._lately: dict[Any, dict[Any, Any]] = {}
        self._lock = threading.Lock()

    @staticmethod
    def shared(architecture: str, **options: Any) -> Graph:
        """The one graph with these options in this process, so that what was compiled for it serves all its models."""
        key = (architecture, repr(sorted(options.items())))
        if key not in _shared:
            _shared[key] = Graph(architecture, **options)
        return _shared[key]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, and what other processes are sent, are their process's shared graph: what was compiled stays here."""
        return partial(Graph.shared, self.architecture, **self.options), ()

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """``make()`` the first time a key is asked for, and the same object ever after: for compiled functions."""
        if key not in self._remembered:
            self._remembered[key] = make()
        return self._remembered[key]

    def remember_lately(self, key: tuple[Any, ...], make: Callable[[], Any], most: int) -> Any:
        """As ``remember``, but of the keys with the same first part only those that were asked for last are kept.

        For programs of which every run may bring another one. Threads may ask at once; none waits for what another
        makes.

        >>> graph = Graph("cifar_resnet20")
        >>> [graph.remember_lately(("a", key), lambda key=key: [key], most=2)[0] for key in (1, 2, 1, 3)]
        [1, 2, 1, 3]
        >>> [graph.remember_lately(("a", key), lambda: ["anew"], most=2)[0] for key in (3, 1, 2)]
        [3, 1, 'anew']
        """
        found = self.remembered_lately(key)
        if found is not None:
            return found
        made = make()
        with self._lock:
            lately = self._lately.setdefault(key[0], {})
            lately[key] = made
            for oldest in list(lately)[:-most]:
                del lately[oldest]
        return made

    def remembered_lately(self, key: tuple[Any, ...]) -> Any:
        """What ``remember_lately`` keeps under a key, which counts as asking for it; None: nothing."""
        with self._lock:
            lately = self._lately.get(key[0], {})
            if key in lately:
                lately[key] = lately.pop(key)
            return lately.get(key)

    @property
    def stages(self) -> tuple[str, ...]:
        """The ordered, named parts, head last."""
        return tuple(self.network.stage_names)

    @property
    def head(self) -> str:
        """The path prefix of the last layer's parameters."""
        return self.network.head_stage

    @property
    def classifies_pooled(self) -> bool:
        """Whether pooled features are all that the head takes."""
        return self.network.classifies_pooled

    @cached_property
    def last_stage(self) -> str:
        """The stage from which on "the last stage" trains: the last of the body with more than one kernel, so that a
        final norm or 1x1 convolution with a stage of its own does not count.

        >>> Graph("resnet18").last_stage
        'layer4'
        """
        for stage in reversed(self.stages[:-1]):
            if sum(path.endswith(".kernel") for path in self.params if self.stage_of(path) == stage) > 1:
                return stage
        return self.stages[-2]

    @cached_property
    def counted_stages(self) -> tuple[tuple[str, ...], ...]:
        """The stages in front of the head as "the last two stages" counts them: what stands behind ``last_stage``
        counts with it.

        >>> Graph("efficientnet_b0").counted_stages[-2:]
        (('blocks.5',), ('blocks.6', 'conv_head'))
        """
        body = self.stages[:-1]
        last = body.index(self.last_stage)
        return (*((stage,) for stage in body[:last]), body[last:])

    def in_head(self, path: str) -> bool:
        """Whether a parameter belongs to the head."""
        return any(path == module or path.startswith(f"{module}.") for module in self.network.stage_modules[self.head])

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """The steps that ``depth_of`` counts, stem first, head last.

        >>> Graph("resnet18").blocks[:3], Graph("resnet18").blocks[-3:]
        (('stem', 'layer1.0', 'layer1.1'), ('layer4.0', 'layer4.1', 'fc'))
        """
        return tuple(name for name, _ in self.network.block_steps)

    def depth_of(self, path: str) -> int:
        """How many blocks lie behind the one that a parameter or module path belongs to.

        0 is the head, 1 the last block before it, and the stem has the largest. Blocks are counted, not layers or
        parameters: all of a residual block is at one depth, its shortcut included. A network without a head counts as
        if it had one.

        >>> graph = Graph("resnet18")
        >>> [graph.depth_of(path) for path in ("fc.bias", "layer4.1.conv2.kernel", "layer4.0.downsample.0", "conv1")]
        [0, 1, 2, 9]
        """
        keys = path.split(".")
        for end in range(1, len(keys) + 1):
            depth = self._depths.get(".".join(keys[:end]))
            if depth is not None:
                return depth
        raise KeyError(f"{path} belongs to no block of {self.architecture}")

    @cached_property
    def _depths(self) -> dict[str, int]:
        last_first = reversed(self.network.block_steps)
        return {prefix: depth for depth, (_, prefixes) in enumerate(last_first) for prefix in prefixes}

    @cached_property
    def first_conv(self) -> str:
        """Path of the kernel that sees the images."""
        return next(
            path for path, leaf in self.params.items() if self.stage_of(path) == self.stages[0] and leaf.ndim == 4
        )

    @cached_property
    def batch_norms(self) -> tuple[str, ...]:
        """Module paths of all BatchNorms."""
        return tuple(path for path, module in _named_modules(self.network) if isinstance(module, BatchNorm))

    @cached_property
    def random(self) -> tuple[str, ...]:
        """Module paths of dropout and drop-path layers with a rate above zero."""
        return tuple(
            path
            for path, module in _named_modules(self.network)
            if isinstance(module, Dropout | DropPath) and module.rate > 0
        )

    def stage_of(self, path: str) -> str:
        """The stage that a parameter or module path belongs to."""
        for stage, modules in self.network.stage_modules.items():
            if any(path == module or path.startswith(f"{module}.") for module in modules):
                return stage
        raise KeyError(f"{path} belongs to no stage of {self.architecture}")

    def initialise(self, paths: Iterable[str], seed: int) -> dict[str, np.ndarray]:
        """Fresh arrays for some leaves. A leaf's values depend on the seed and its own path alone."""
        arrays = {}
        for path in paths:
            variable = self._variables[path]
            generator = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(path.encode())]))
            shape = variable.get_value().shape
            arrays[path] = np.asarray(variable.get_metadata("init")(generator, shape), np.float32)
        return arrays

    def apply(
        self,
        params: Tree,
        batch_stats: Tree,
        images: jax.Array,
        modes: Modes = EVALUATION,
        rng: jax.Array | None = None,
        *,
        after: str | None = None,
    ) -> tuple[jax.Array, Tree]:
        """Logits (B, classes) and the new statistics, for images (B, H, W, C), already normalised.

        A pure function: differentiable, and fit for ``jax.jit``, ``jax.vmap`` and ``jax.lax.scan``.
        ``rng`` is needed only where ``modes.random`` names a module. With ``after``, a body stage's name or `POOLED`,
        ``images`` are what ``output_of`` gives for it, and nothing up to there is computed.
        """
        network = nnx.merge(self._view(modes), params, batch_stats)
        rngs = None if rng is None else nnx.Rngs(rng)
        if after is None:
            logits = network(images, rngs=rngs)
        elif after == POOLED:
            logits = network.classify(images, rngs)
        else:
            logits = images
            for stage in self.stages[self.stages.index(after) + 1 :]:
                logits = network.run_stage(stage, logits, rngs)
        moved = modes.adapt or modes.observe
        return logits, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat)) if moved else batch_stats

    def output_of(self, params: Tree, batch_stats: Tree, images: jax.Array, after: str) -> jax.Array:
        """What ``apply`` takes with ``after``, in evaluation mode: the output of a body stage as the next stage takes
        it, or for `POOLED` the pooled features.

        Raises:
            InputError: a name that is no stage in front of the head.
        """
        if after == POOLED:
            return self.features(params, batch_stats, images)
        return self.stage_maps(params, batch_stats, images, (after,))[after]

    def features(self, params: Tree, batch_stats: Tree, images: jax.Array) -> jax.Array:
        """Pooled features (B, num_features) before the head, in evaluation mode."""
        return nnx.merge(self._view(EVALUATION), params, batch_stats).pooled_features(images)

    def stage_outputs(
        self, params: Tree, batch_stats: Tree, images: jax.Array, stages: Iterable[str]
    ) -> dict[str, jax.Array]:
        """Outputs of body stages in evaluation mode, averaged over all positions: (B, channels) by stage; the last
        stage's as the head sees it.

        A pure function; nothing behind the last stage asked for is computed.

        Raises:
            InputError: names that are no stage in front of the head.
        """
        network, last = nnx.merge(self._view(EVALUATION), params, batch_stats), self.stages[-2]
        return {
            stage: network.pool(x) if stage == last else x.mean(tuple(range(1, x.ndim - 1)))
            for stage, x in self._run_body(network, images, stages).items()
        }

    def stage_maps(
        self, params: Tree, batch_stats: Tree, images: jax.Array, stages: Iterable[str]
    ) -> dict[str, jax.Array]:
        """``stage_outputs`` without the averaging: (B, rows, columns, channels), or (B, tokens, width)."""
        return self._run_body(nnx.merge(self._view(EVALUATION), params, batch_stats), images, stages)

    def _run_body(self, network: Network, images: jax.Array, stages: Iterable[str]) -> dict[str, jax.Array]:
        body, wanted = self.stages[:-1], set(stages)
        if unknown := sorted(wanted - set(body)):
            raise InputError(
                f"{self.architecture} has no body stage {unknown[0]!r}{nearest(unknown[0], body)}; "
                f"there are {', '.join(body)}"
            )
        outputs: dict[str, jax.Array] = {}
        x = images
        for stage in body:
            if len(outputs) == len(wanted):
                break
            x = network.run_stage(stage, x)
            if stage in wanted:
                outputs[stage] = x
        return outputs

    def stages_with(
        self, params: Tree, batch_stats: Tree, images: jax.Array, modes: Modes, rng: jax.Array
    ) -> tuple[dict[str, jax.Array], Tree]:
        """The output of each stage, head included, and the new statistics, in the given modes."""
        network = nnx.merge(self._view(modes), params, batch_stats)
        outputs, x, rngs = {}, images, nnx.Rngs(rng)
        for stage in self.stages:
            outputs[stage] = x = network.run_stage(stage, x, rngs)
        return outputs, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

    @cached_property
    def logits_jitted(self) -> Any:
        """``(params, batch_stats, images) -> logits`` in evaluation mode, compiled once per input shape."""
        return jit(lambda params, batch_stats, images: self.apply(params, batch_stats, images)[0])

    @cached_property
    def features_jitted(self) -> Any:
        """``features``, compiled once per input shape."""
        return jit(self.features)

    def _view(self, modes: Modes) -> nnx.GraphDef:
        if modes not in self._views:
            view = _view(self.network, modes.adapt, BatchNorm, use_running_average=False)
            view = _view(view, modes.observe, BatchNorm, observe=True)
            view = _view(view, modes.random, (Dropout, DropPath), deterministic=False)
            self._views[modes] = nnx.graphdef(view)
        return self._views[modes]


_shared: dict[tuple[str, str], Graph] = {}


def _view(network: nnx.Module, paths: frozenset[str], kind: Any, **mode: bool) -> nnx.Module:
    if not paths:
        return network
    return nnx.view(
        network, only=lambda path, module: isinstance(module, kind) and ".".join(map(str, path)) in paths, **mode
    )


def _named_modules(network: nnx.Module) -> list[tuple[str, nnx.Module]]:
    return [(".".join(map(str, path)), module) for path, module in nnx.iter_modules(network)]
