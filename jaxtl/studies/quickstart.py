"""``jaxtl quickstart``: is it better to start from a network that knows letters, when there are five digits a class?"""

from __future__ import annotations

import json
import shlex
import shutil
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from jaxtl.data.bands import as_grey
from jaxtl.data.dataset import Data
from jaxtl.data.open import open_data
from jaxtl.files import expanded, make_folder
from jaxtl.finetune.labels import FROZEN
from jaxtl.model import Model
from jaxtl.notices import quiet
from jaxtl.pretrained.load import load
from jaxtl.pretrained.save import save
from jaxtl.recipe import AdamW, Recipe
from jaxtl.report.curves import plot_comparison
from jaxtl.train.fine_tune import Result, fine_tune
from jaxtl.train.predict import predict

PRETRAINED = "cifar_resnet20.letters"
DIGITS_PER_CLASS = 5
HELD_OUT = 0.3


@dataclass(frozen=True)
class Strategy:
    """One way to come by a classifier: where it starts, which groups train, and at which rates."""

    title: str
    pretrained: bool
    groups: dict[str, str]
    rates: dict[str, float]

    def recipe(self, seed: int) -> Recipe:
        """Every strategy has the same budget: images seen, batch size, schedule, augmentation."""
        return Recipe.from_keywords(
            groups=self.groups,
            optimizer={group: AdamW(lr=rate) for group, rate in self.rates.items()},
            epochs=30,
            eval_every=10,
            batch_size=25,
            eval_batch_size=128,
            seed=seed,
        )


STRATEGIES = (
    Strategy("from scratch", False, {"*": "all"}, {"all": 3e-3}),
    Strategy("feature extraction", True, {"head": "fast", "*": FROZEN}, {"fast": 2e-2}),
    Strategy("fine-tuning", True, {"head": "fast", "*": "slow"}, {"slow": 1e-3, "fast": 1e-2}),
)


def run(output: Path, seeds: int = 3) -> dict[str, list[float]]:
    """Trains every strategy with every seed, prints the table, and writes curves, results and the tuned model.

    Args:
        output: folder for ``curves.png``, ``results.json``, ``digit.png`` and ``model/``.
        seeds: runs of each strategy; a seed draws the labelled digits, the split, the head and the order.

    Returns:
        Held-out accuracies (0 to 1) by strategy, one a seed.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    output = expanded(output)
    make_folder(output)
    begun = time.perf_counter()
    console.print(
        f"{PRETRAINED}, a network pretrained on printed letters, learns handwritten digits "
        f"from {DIGITS_PER_CLASS} examples a class."
    )
    found: dict[str, list[Result]] = {strategy.title: [] for strategy in STRATEGIES}
    with quiet():
        for seed in range(seeds):
            for strategy in STRATEGIES:
                with console.status(f"seed {seed}: {strategy.title} ..."):
                    result = _train(strategy, seed)
                found[strategy.title].append(result)
                console.print(f"  seed {seed}  {strategy.title:20s}{_percent(_accuracy(result)):>9s}")
    accuracies = {title: [_accuracy(result) for result in results] for title, results in found.items()}
    console.print(_table(accuracies, seeds))
    plot_comparison({title: [r.history for r in results] for title, results in found.items()}, output / "curves.png")
    (output / "results.json").write_text(json.dumps(accuracies, indent=2) + "\n")
    _finish(console, output, found["fine-tuning"][0].model, time.perf_counter() - begun)
    return accuracies


def _train(strategy: Strategy, seed: int) -> Result:
    model = load(PRETRAINED, num_classes=10, seed=seed)
    if not strategy.pretrained:
        scratch = load(PRETRAINED, weights=None, num_classes=10, in_chans=1, seed=seed)
        model = scratch.replace(preprocess=model.preprocess)
    return fine_tune(model, _data(model, seed), strategy.recipe(seed), progress=False)


def _data(model: Model, seed: int) -> Data:
    return open_data("digits", model, val_fraction=HELD_OUT, seed=seed, samples_per_class=DIGITS_PER_CLASS)


def _accuracy(result: Result) -> float:
    return result.history[-1]["val_accuracy"]


def _table(accuracies: dict[str, list[float]], seeds: int) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=f"Accuracy on held-out digits, {seeds} seed{'s' * (seeds != 1)}", box=box.SIMPLE_HEAD)
    table.add_column("strategy")
    for column in ("mean", "lowest", "highest"):
        table.add_column(column, justify="right")
    for title, values in accuracies.items():
        table.add_row(title, *(_percent(value) for value in (mean(values), min(values), max(values))))
    return table


def _finish(console: Any, output: Path, model: Model, seconds: float) -> None:
    save(model, output / "model")
    image, label = _data(model, seed=0).val[0]
    as_grey(image).save(output / "digit.png")
    answer = predict(model, [output / "digit.png"])[0]
    console.print(f"{seconds:.0f} s. Curves: {output / 'curves.png'}. Tuned model: {output / 'model'}")
    console.print(
        f"It takes {output / 'digit.png'}, a held-out {label}, for a {answer['label']} "
        f"({_percent(answer['probability'])})."
    )
    jaxtl = _command()
    console.print(
        "\nNow your own images, in one folder with a subfolder for each class:\n"
        f"  {jaxtl} train configs/full_flowers.yaml data.source=folder:path/to/images output=runs/mine\n"
        f"  {jaxtl} predict runs/mine/model path/to/image.jpg"
    )


def _command() -> str:
    """What a shell here calls jaxtl by: its path, where the environment that it is in is not activated."""
    if shutil.which("jaxtl"):
        return "jaxtl"
    path = Path(sysconfig.get_path("scripts"), "jaxtl")
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"
