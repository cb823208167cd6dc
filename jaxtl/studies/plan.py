"""``jaxtl plan``: looks at the data, measures on it what a network already knows, and writes a recipe with reasons."""

from __future__ import annotations

import functools
import re
import shlex
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtl.compiled import keep_compiled
from jaxtl.data.dataset import Data
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError
from jaxtl.files import check_new, expanded, write_whole
from jaxtl.model import Model
from jaxtl.models.registry import option_names
from jaxtl.notices import quiet
from jaxtl.recipe import FROZEN, Recipe
from jaxtl.studies.decide import BATCH, SIZE_GAIN, Decision, Measured, decide, names
from jaxtl.studies.distance import Distance, domain_distance
from jaxtl.studies.look import Look, look
from jaxtl.studies.measure import Probes, forward_seconds, probe_size, probe_stages, step_seconds
from jaxtl.studies.rules import Domain
from jaxtl.train.run import prepare
from jaxtl.train.task import WrongLossError

_UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}
_GRID = 32  # pixels: what most networks divide their input by
_WIDTH = 110
_PART_FOR_PROBES = 0.1
_FOR_DISTANCE = 128  # images


@dataclass(frozen=True)
class Plan:
    """What ``plan`` found and recommends.

    Attributes:
        recipe: runs as it is.
        decisions: each with its reason.
        look: at the images.
        distance: from the pretraining's images; None for a network without BatchNorm.
        probes: on frozen features, by stage.
        sizes: the last stage's probe by input size in pixels, where sizes were compared.
        seconds: the run's training steps and validations should take on this machine.
        measured: seconds that planning took.
        path: of the recipe, where it was written.
    """

    recipe: Recipe
    decisions: tuple[Decision, ...]
    look: Look
    distance: Distance | None
    probes: Probes
    sizes: dict[int, float]
    seconds: float
    measured: float
    path: Path | None = None

    @property
    def command(self) -> str:
        """What runs the recipe."""
        return f"jaxtl train {shlex.quote(str(self.path or 'plan.yaml'))}"

    def to_yaml(self) -> str:
        """The recipe, with the reasons as comments in its head."""
        head = [f"Planned for {self.look.name}: about {duration(self.seconds)} of training on this machine.", ""]
        head += [str(decision) for decision in self.decisions]
        return _comments([*head, "", self.command]) + self.recipe.to_yaml()

    def __str__(self) -> str:
        parts = [
            "\n".join(map(_wrapped, str(self.look).splitlines())),
            _table("distance from the pretraining's images", self._distances()),
        ]
        parts += [_table("linear probes on frozen features, held-out training images", self._accuracies())]
        decisions = ["decisions", *(_wrapped(f"- {decision}") for decision in self.decisions)]
        took = f"planning took {duration(self.measured)}; the run's epochs should take about {duration(self.seconds)}"
        run = f"{took}\n{self.command}" if self.path else f"{took}\nThe recipe:\n\n{self.recipe.to_yaml()}"
        return "\n\n".join([*parts, "\n".join(decisions), run])

    def _distances(self) -> dict[str, str]:
        if self.distance is None:
            return {"unknown": "the network has no BatchNorm to tell it by"}
        stages = {stage: f"{distance:.2f}" for stage, distance in self.distance.by_stage.items()}
        return {**stages, "overall": f"{self.distance.overall:.2f} ({self.distance.verdict})"}

    def _accuracies(self) -> dict[str, str]:
        stages = {stage: f"{accuracy:.1%}" for stage, accuracy in self.probes.stages.items()}
        return {**stages, **{f"at {size} pixels": f"{accuracy:.1%}" for size, accuracy in self.sizes.items()}}


def plan(
    source: str,
    model_name: str,
    *,
    weights: str | Path | None = "default",
    until: str | None = None,
    size: int | None = None,
    crop_pct: float | None = None,
    budget: float | None = None,
    output: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    told: Callable[[Plan], None] | None = None,
    **labels: Any,
) -> Plan:
    """Recommends how to adapt a network to some images, by measuring instead of training.

    It begins with a rule of thumb (``jaxtl.studies.rules``) and overrules it where linear probes on frozen features,
    the distance of the images from those of the pretraining, or the time of a step say otherwise. Validation images
    are looked at for duplicates alone, so that they stay a fair judge of the run.

    Args:
        source: as for ``jaxtl.open_data``, "folder:path/to/images".
        model_name: as for ``jaxtl.load``, like ``weights`` and ``until``.
        size: of the network's input in pixels; None: the weights' own, or what small images are worth.
        crop_pct: part that evaluation's crop keeps; None: the weights' own, or 1 for images smaller than the input.
        budget: seconds that the run's training steps and validations may take on this machine, without compilation and
            decoding; None: as long as it is of use.
        output: YAML file to write the recipe to, which must not be there yet; None: none.
        seed: of the images that are drawn, and of the run.
        progress: show on a terminal's standard error what is being measured.
        told: is called with the plan before the file is written, so that what was measured is seen whatever happens.
        labels: fields of the recipe's data: ``path_column``, ``label_column``, ``label_separator``, ``task``.

    Raises:
        InputError: a budget that is not above 0, an output that is there or cannot be written, labels that are not one
            class an image, or whatever model and data find wrong.
    """
    if budget is not None and not budget > 0:
        raise InputError(f"the budget must be above 0 seconds, not {budget:g}")
    keep_compiled()
    begun = time.perf_counter()
    path = None if output is None else expanded(output)
    if path is not None:
        check_new(path)
    given = {"name": model_name, "weights": None if weights is None else str(weights), "until": until}
    images: dict[str, Any] = {"source": source, "augment": "light", **labels}
    images |= {"size": size} if size else {}
    images |= {"crop_pct": crop_pct} if crop_pct else {}
    recipe = Recipe.from_keywords(model=given, data=images, seed=seed)
    with _doing(progress) as doing, quiet():
        doing("looking at the images")
        try:
            prepared = prepare(recipe)
        except WrongLossError as error:
            raise InputError(
                f"{source}: plans are for one class an image, and these labels are something else; train with a recipe "
                "and loss=sigmoid (several classes an image) or loss=mse (numbers), or give the task 'class' if each "
                "label is a class"
            ) from error
        model, data = prepared.model, prepared.data
        seen = look(data, seed=seed, progress=progress)
        decisions: list[Decision] = []
        sizes: dict[int, float] = {}
        doing("measuring the distance from the pretraining's images")
        distance = _distance(model, data)
        any_size = "img_size" not in option_names(model.graph.architecture)
        if size is None and any_size and _smallest(model, seen) < min(model.preprocess.size):
            doing("comparing input sizes")
            preprocess, sizes, decision = _size(model, data, seen, crop_pct, budget, recipe)
            decisions.append(decision)
            images |= {"size": preprocess.size[0], "crop_pct": preprocess.crop_pct}
            recipe = recipe.replace(data=images)
            prepared = prepare(recipe)
            model, data = prepared.model, prepared.data
        doing("fitting linear probes")
        forward = forward_seconds(model, data, recipe)
        probes = probe_stages(model, data, most=_affordable(forward, budget, 512), seed=seed)
        doing("timing training steps")
        decided = decide(_measured(model, data, seen, distance, probes, forward, recipe), budget)
    decisions += decided.decisions
    fields = {"output": f"runs/{_name(source)}", **decided.fields}
    found = Plan(
        recipe=recipe.replace(**fields),
        decisions=tuple(decisions),
        look=seen,
        distance=distance,
        probes=probes,
        sizes=sizes,
        seconds=decided.seconds,
        measured=time.perf_counter() - begun,
        path=path,
    )
    if told is not None:
        told(found)
    if path is not None:
        write_whole(path, found.to_yaml())
    return found


def parse_budget(text: str) -> float:
    """Seconds of a duration in words.

    Raises:
        InputError: it is none, or not above 0.

    >>> parse_budget("10min"), parse_budget("90s"), parse_budget("1.5 h")
    (600.0, 90.0, 5400.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text.lower())
    if not found or found[2] not in _UNITS or float(found[1]) == 0:
        raise InputError(f"{text!r} is no budget; write a number above 0 and s, min or h, such as 90s, 10min or 2h")
    return float(found[1]) * _UNITS[found[2]]


def duration(seconds: float) -> str:
    """A duration for people.

    >>> duration(5.2), duration(200), duration(9000)
    ('5 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(
    model: Model, data: Data, seen: Look, crop_pct: float | None, budget: float | None, recipe: Recipe
) -> tuple[Preprocess, dict[int, float], Decision]:
    """From the images' own size upwards, for as long as a larger input pays."""
    own, smallest = min(model.preprocess.size), _smallest(model, seen)
    candidates = list(dict.fromkeys(min(own, smallest * factor) for factor in (1, 2, 4)))
    preprocess = functools.partial(model.preprocess.replace, crop_pct=crop_pct or 1.0)
    found: dict[int, float] = {}
    chosen = smallest
    stopped = f"{own} pixels are what the weights were trained at"
    for size in candidates:
        candidate = model.replace(preprocess=preprocess(size=size))
        if found and budget is not None:
            epoch = 3 * len(data.train) * forward_seconds(candidate, _opened(data, candidate.preprocess), recipe)
            if 5 * epoch > budget:
                stopped = f"five epochs at {size} pixels would take about {duration(5 * epoch)}"
                break
        found[size] = probe_size(model, data, candidate.preprocess, seed=recipe.seed)
        if size != smallest and found[size] - found[chosen] < SIZE_GAIN:
            stopped = f"{size} pixels bring less than {SIZE_GAIN:.1%} more for their longer steps"
            break
        chosen = size
    numbers = ", ".join(f"{accuracy:.1%} at {size}" for size, accuracy in found.items())
    reason = f"the images are {seen.widths[1]}x{seen.heights[1]} pixels, and a linear probe has {numbers}; {stopped}"
    return preprocess(size=chosen), found, Decision("input size", f"{chosen} pixels", reason)


def _smallest(model: Model, seen: Look) -> int:
    """The images' own short side as an input size, the weights' at most."""
    return min(*model.preprocess.size, max(_GRID, _GRID * round(seen.short_side / _GRID)))


def _opened(data: Data, preprocess: Preprocess) -> Data:
    return Data(
        name=data.name,
        classes=data.classes,
        train=data.train,
        val=data.val,
        preprocess=preprocess,
        augment=data.augment,
        split=data.split,
        threads=data.threads,
    )


def _distance(model: Model, data: Data) -> Distance | None:
    """At the weights' own size, where none is given: what other sizes do to the features is no matter of the domain."""
    return domain_distance(model, data, most=_FOR_DISTANCE) if model.graph.batch_norms else None


def _affordable(forward: float, budget: float | None, most: int) -> int:
    """Images for the probes, so that they take a tenth of the budget at most."""
    return most if budget is None else max(100, min(most, int(_PART_FOR_PROBES * budget / forward)))


def _measured(
    model: Model, data: Data, seen: Look, distance: Distance | None, probes: Probes, forward: float, recipe: Recipe
) -> Measured:
    stages = model.graph.counted_stages

    @functools.cache
    def step(depth: int) -> float:
        last = dict.fromkeys(names(stages[-depth:]), "slow")
        part = {"*": "slow"} if depth >= len(stages) else {**last, "*": FROZEN}
        return step_seconds(model, data, recipe.replace(groups={"head": "fast", **part}, batch_size=BATCH))

    domain: Domain = "medium"
    if distance is not None and distance.verdict != "medium":
        domain = "near" if distance.verdict == "near" else "far"
    return Measured(
        classes=len(data.classes),
        images=seen.images,
        val_images=len(data.val),
        imbalance=seen.imbalance,
        stages=stages,
        domain=domain,
        distance=None if distance is None else distance.overall,
        probes=probes,
        forward=forward,
        step=step,
        glyphs=data.name == "digits",
    )


@contextmanager
def _doing(shown: bool) -> Iterator[Any]:
    """A function that says on a terminal's standard error what is being done."""
    from rich.console import Console

    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda what: None
        return
    yield lambda what: console.print(f"plan: {what}", highlight=False)


def _name(source: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", source.rstrip("/").rpartition("/")[2].rpartition(":")[2]) or "plan"


def _table(title: str, rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in rows.items())])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ")


def _comments(lines: list[str]) -> str:
    wrapped = [part for line in lines for part in (textwrap.wrap(line, _WIDTH - 2, subsequent_indent="  ") or [""])]
    return "".join(f"# {line}".rstrip() + "\n" for line in wrapped)
