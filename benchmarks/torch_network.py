"""A network of timm's as the same stages that jaxtl has, split where training begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.torch_side import Guest

Trains = str | int
"""Which stages train: ALL, LAST, HEAD, or the number of stages in front that are frozen."""
ALL, LAST, HEAD = "all of it", "last stage and head", "head"


@dataclass(frozen=True)
class Stage:
    """A named part: the modules and single parameters it owns, and what it does."""

    name: str
    owned: tuple[Any, ...]
    run: Callable[[Any], Any]

    def parameters(self) -> Iterator[Any]:
        for part in self.owned:
            yield from part.parameters() if hasattr(part, "parameters") else [part]

    def modules(self) -> Iterator[Any]:
        return (part for part in self.owned if hasattr(part, "parameters"))


def frozen_stages(trains: Trains, names: Sequence[str], last_stage: str) -> int:
    """How many stages in front are frozen.

    >>> names = ("stem", "layer1", "layer2", "fc")
    >>> [frozen_stages(trains, names, "layer2") for trains in (ALL, LAST, HEAD, 1)]
    [0, 2, 3, 1]
    """
    if isinstance(trains, int):
        return trains
    return {ALL: 0, LAST: list(names).index(last_stage), HEAD: len(names) - 1}[trains]


class Network:
    """A network of timm's in the channels-last layout, ready to train.

    ``prefix`` is the frozen front, in evaluation mode, run without gradients; ``suffix`` is the rest; each from a batch
    to its output. With everything training, ``prefix`` changes nothing; with the head alone, it gives pooled features.

    Args:
        guest: torch and timm.
        name: a ResNet, an EfficientNet or a vision transformer of timm's.
        trains: which stages train.
        classes: of the new head.
        size: pixels of the images.
        until: cut the body after this stage.
        weights: a safetensors file with all but the head; empty: random weights.
        compiled: by ``torch.compile``.
    """

    def __init__(
        self,
        guest: Guest,
        name: str,
        trains: Trains,
        *,
        classes: int,
        size: int,
        until: str | None = None,
        weights: str = "",
        compiled: bool = False,
    ):
        options = {"img_size": size} if "vit" in name else {}
        self.model = guest.timm.create_model(name, num_classes=classes, **options)
        self._guest = guest
        stages = list(_stages(guest, self.model, until, classes))
        if weights:
            _load(self.model, weights)
        self.model.to(guest.device, memory_format=guest.torch.channels_last)
        self.stages = tuple(stage.name for stage in stages)
        self.last_stage = next(stage.name for stage in reversed(stages[:-1]) if _kernels(stage) > 1)
        count = frozen_stages(trains, self.stages, self.last_stage)
        front, self._trained = stages[:count], stages[count:]
        self.model.train()
        for stage in front:
            for module in stage.modules():
                module.eval()
            for parameter in stage.parameters():
                parameter.requires_grad_(False)
        *body, head = stages
        runs = [*(stage.run for stage in body), _pool(self.model), head.run]
        cut = count + (count == len(body))  # where the head alone trains, the front pools
        self._front = guest.compiled(_chain(runs[:cut]), compiled and cut > 0)
        self.suffix = guest.compiled(_chain(runs[cut:]), compiled)

    def prefix(self, images: Any) -> Any:
        with self._guest.torch.no_grad():
            return self._front(images)

    def train(self, mode: bool) -> None:
        """The mode of what trains; the frozen front stays in evaluation mode."""
        for stage in self._trained:
            for module in stage.modules():
                module.train(mode)

    def stage_of(self, parameter: Any) -> str:
        return next(s.name for s in self._trained if any(parameter is one for one in s.parameters()))

    def trained(self) -> list[Any]:
        """The trained parameters."""
        return [parameter for stage in self._trained for parameter in stage.parameters()]


def _chain(runs: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        for one in runs:
            x = one(x)
        return x

    return run


def _kernels(stage: Stage) -> int:
    return sum(parameter.ndim > 1 for module in stage.modules() for parameter in module.parameters())


def _pool(model: Any) -> Callable[[Any], Any]:
    """What makes of the body's output what the head takes; a transformer's head may normalise it first."""
    return getattr(model, "pool", None) or (lambda x: model.forward_head(x, pre_logits=True))


def _stages(guest: Guest, model: Any, until: str | None, classes: int) -> Iterator[Stage]:
    sequence = guest.torch.nn.Sequential
    family = type(model).__name__
    if family == "ResNet":
        body = [f"layer{number}" for number in (1, 2, 3, 4)]
        if until is not None:
            width = next(info["num_chs"] for info in model.feature_info if info["module"] == until)
            model.fc = guest.torch.nn.Linear(width, classes)
            for name in body[body.index(until) + 1 :]:
                setattr(model, name, guest.torch.nn.Identity())
            body = body[: body.index(until) + 1]
        stem = sequence(model.conv1, model.bn1, model.act1, model.maxpool)
        yield Stage("stem", (stem,), stem)
        yield from (Stage(name, (getattr(model, name),), getattr(model, name)) for name in body)
        yield Stage("fc", (model.fc,), model.fc)
    elif family == "EfficientNet":
        stem, top = sequence(model.conv_stem, model.bn1), sequence(model.conv_head, model.bn2)
        yield Stage("stem", (stem,), stem)
        yield from (Stage(f"blocks.{number}", (block,), block) for number, block in enumerate(model.blocks))
        yield Stage("conv_head", (top,), top)
        yield Stage("classifier", (model.classifier,), model.classifier)
    elif family == "VisionTransformer":
        tokens = tuple(part for part in (model.cls_token, model.pos_embed) if part is not None)
        embed = (model.patch_embed, *tokens, model.norm_pre)
        yield Stage("stem", embed, lambda x: model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x)))))
        yield from (Stage(f"blocks.{number}", (block,), block) for number, block in enumerate(model.blocks))
        yield Stage("norm", (model.norm,), model.norm)
        yield Stage("head", (model.fc_norm, model.head), lambda x: model.head(model.head_drop(model.fc_norm(x))))
    else:
        raise ValueError(f"the stages of a {family} are not known here")


def _load(model: Any, weights: str) -> None:
    from safetensors.torch import load_file

    found = model.load_state_dict(load_file(weights), strict=False)
    lacking = [name for name in found.missing_keys if not name.startswith("fc.") and "num_batches" not in name]
    if lacking or found.unexpected_keys:
        raise SystemExit(f"error: {weights} does not fit: it lacks {lacking}, it has besides {found.unexpected_keys}")
