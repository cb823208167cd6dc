"""Is this network, on this machine, the same as timm's? Stage by stage, in evaluation and in training mode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.models.graph import EVALUATION, Modes
from jaxtl.models.network import Network
from jaxtl.pretrained.guests import import_timm
from jaxtl.pretrained.load import load
from jaxtl.pretrained.names import COUNTER, state_dict
from jaxtl.pretrained.timm_options import check_fits_timm, timm_arguments
from jaxtl.studies.randomised import randomise

TOLERANCE = 1e-4
"""The largest difference that counts as none, in parts of the largest value: float32 and another order of sums. So
products are float32 here on all devices (``jax.default_matmul_precision("highest")``)."""

TRAINING_TOLERANCE = 1e-3
"""The same in training mode: dividing by the deviation of a batch's few values makes rounding errors larger."""

_BATCH = 8


@dataclass(frozen=True)
class Verification:
    """``verify``'s answer.

    Attributes:
        name: the architecture.
        parameters: how many it has, in both networks.
        evaluation: largest difference of each stage's output, in parts of the largest value; the head's is the logits'.
        training: the same with batch statistics, and, as ``"statistics"``, that of the moved statistics; empty for
            networks without BatchNorm, which compute the same in both modes.
    """

    name: str
    parameters: int
    evaluation: dict[str, float]
    training: dict[str, float]

    @property
    def first_difference(self) -> str | None:
        """The first stage that differs, with its mode; None when nothing does."""
        modes = (("evaluation", self.evaluation, TOLERANCE), ("training", self.training, TRAINING_TOLERANCE))
        for mode, found, allowed in modes:
            for stage, difference in found.items():
                if not difference <= allowed:  # NaN is a difference too
                    return f"{stage} in {mode} mode"
        return None

    def __str__(self) -> str:
        wide = max(len(stage) for stage in (*self.evaluation, *self.training))
        lines = [f"{self.name}: {self.parameters:,} parameters", f"{'':{wide}}  evaluation  training"]
        for stage in dict.fromkeys((*self.evaluation, *self.training)):
            cells = [f"{found[stage]:.1e}" if stage in found else "-" for found in (self.evaluation, self.training)]
            lines.append(f"{stage:{wide}}  {cells[0]:>10}  {cells[1]:>8}")
        first = self.first_difference
        verdict = "the same as timm's" if first is None else f"NOT the same as timm's: the first to differ is {first}"
        return "\n".join(
            [*lines, f"{verdict} (largest difference in parts of the largest value; {TOLERANCE:g} allowed)"]
        )


def verify(name: str, weights: str | Path | None = None, *, size: int | None = None, seed: int = 0) -> Verification:
    """Gives timm's network the same weights and compares all stages of both on the same random images.

    Args:
        name: timm's name, with or without a tag.
        weights: a file or folder; ``"default"`` for the tag's own; ``None`` for random ones that hide nothing.
        size: side of the images in pixels; default: what the weights were made for.
        seed: of images and random weights.

    Raises:
        InputError: timm is not installed, has no network by that name or cannot build it like this; whatever
            ``jaxtl.load`` refuses.
    """
    timm = import_timm()
    options: dict[str, Any] = {} if size is None or not _takes_img_size(name) else {"img_size": size}
    model = load(name, weights=weights, **options)
    architecture = model.graph.architecture
    if not timm.is_model(architecture):
        raise InputError(f"timm has no network called {architecture!r} to compare with")
    side = (size, size) if size is not None else model.preprocess.size
    images = np.random.default_rng(seed).standard_normal((_BATCH, *side, model.preprocess.channels)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        if weights is None:
            model = randomise(model, jax.numpy.asarray(images), seed)
        reference = _reference(timm, model)
        return Verification(
            name=architecture,
            parameters=sum(leaf.size for leaf in jax.tree.leaves(model.params)),
            evaluation=_differences(model, reference, images, training=False),
            training=_differences(model, reference, images, training=True) if model.graph.batch_norms else {},
        )


def _takes_img_size(name: str) -> bool:
    from jaxtl.models.registry import option_names

    return "img_size" in option_names(name.partition(".")[0])


def _reference(timm: Any, model: Model) -> Any:
    import torch

    check_fits_timm(model)
    built_with = {"in_chans": model.preprocess.channels, **timm_arguments(model)}
    reference = timm.create_model(model.graph.architecture, num_classes=model.num_classes, **built_with)
    state = {name: torch.tensor(array) for name, array in state_dict(model.params, model.batch_stats).items()}
    missing, unexpected = reference.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith(COUNTER)]
    if missing or unexpected:
        raise InputError(
            f"{model.name} and timm's network have other weights: only timm has {missing}, only jaxtl has {unexpected}"
        )
    for module in reference.modules():
        for rate in ("drop_prob", "p"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
    return reference


def _differences(model: Model, reference: Any, images: np.ndarray, *, training: bool) -> dict[str, float]:
    import torch

    graph = model.graph
    inputs: dict[str, np.ndarray] = {}
    modules = dict(reference.named_modules())
    stages = {stage: (*paths, stage) for stage, paths in graph.network.stage_modules.items()}
    handles = []
    for before, stage in zip(graph.stages, graph.stages[1:], strict=False):
        module = next((modules[path] for path in stages[stage] if path in modules), None)
        if module is not None:
            hook = _keeper(inputs, before)
            handles.append(module.register_forward_pre_hook(hook))
    with torch.no_grad():
        logits = reference.train(training)(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    for handle in handles:
        handle.remove()
    modes = Modes(adapt=frozenset(graph.batch_norms)) if training else EVALUATION
    run = jax.jit(lambda p, s, x: graph.stages_with(p, s, x, modes, jax.random.key(0)))
    ours, stats = run(model.params, model.batch_stats, images)
    if len(graph.network.stage_modules[graph.head]) > 1:  # each of several heads sees a part of what ours all see
        inputs.pop(graph.stages[-2], None)
    network = nnx.merge(nnx.graphdef(graph.network), model.params, model.batch_stats)
    found: dict[str, float] = {
        stage: _difference(_same_form(np.asarray(ours[stage]), theirs, network), theirs)
        for stage in graph.stages
        if (theirs := inputs.get(stage)) is not None
    }
    found[graph.head] = _difference(np.asarray(ours[graph.head]), logits)
    if training:
        moved = state_dict({}, jax.device_get(stats))
        their_stats = {name: value.numpy() for name, value in reference.state_dict().items() if name in moved}
        found["statistics"] = max(
            _difference(array, their_stats[name]) for name, array in moved.items() if not name.endswith(COUNTER)
        )
    return found


def _keeper(inputs: dict[str, np.ndarray], stage: str) -> Any:
    def keep(module: Any, arguments: tuple[Any, ...]) -> None:
        inputs.setdefault(stage, arguments[0].detach().numpy().copy())  # activations may be overwritten in place

    return keep


def _same_form(ours: np.ndarray, theirs: np.ndarray, network: Network) -> np.ndarray:
    """Our output in torch's order of axes, or pooled, where that is what the next stage takes in timm."""
    if ours.ndim == theirs.ndim == 4 and ours.transpose(0, 3, 1, 2).shape == theirs.shape:
        turned = ours.transpose(0, 3, 1, 2)
        return min((turned, ours), key=lambda form: _difference(form, theirs)) if ours.shape == theirs.shape else turned
    if ours.shape == theirs.shape:
        return ours
    return np.asarray(network.pool(jax.numpy.asarray(ours))).reshape(theirs.shape)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12))
