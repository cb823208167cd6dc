"""The example with a training loop of its own, run as a user runs it."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import jaxtl
from jaxtl.models.graph import Graph

SCRIPT = Path(__file__).parents[2] / "examples" / "custom_labels.py"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Noisy red and blue images, 24 of each."""
    rng = np.random.default_rng(0)
    for name, colour in (("red", (220, 40, 40)), ("blue", (40, 40, 220))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(24):
            pixels = np.clip(rng.normal(colour, 30, (36, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("name", "slow"),
    [
        ("inception_v3", {"Mixed_7"}),
        ("deit_tiny_distilled_patch16_224", {"blocks.11", "norm"}),
        ("densenet121", {"features.denseblock4", "features.norm5"}),
        ("mobilenetv2_100", {"blocks.6", "conv_head"}),
        ("swin_tiny_patch4_window7_224", {"layers.3"}),
        ("convnext_tiny", {"stages.3"}),
    ],
)
def test_of_every_network_the_last_stage_and_the_head_train(name: str, slow: set[str]) -> None:
    graph = Graph(name)
    label = runpy.run_path(str(SCRIPT))["last_stage_and_head"](SimpleNamespace(graph=graph, stages=graph.stages))
    stages: dict[str, set[str]] = {"fast": set(), "slow": set(), "frozen": set()}
    for path, leaf in graph.params.items():
        stages[label(path, leaf)].add(graph.stage_of(path))
    assert stages == {"fast": {graph.head}, "slow": slow, "frozen": set(graph.stages) - slow - {graph.head}}


def test_it_tunes_saves_and_names(photos: Path, tmp_path: Path) -> None:
    options = ["--data", f"folder:{photos}", "--model", "cifar_resnet20", "--weights", "none", "--size", "16"]
    options += ["--epochs", "4", "--output", "tuned", "--name", f"{photos}/red/0.png", f"{photos}/blue/0.png"]
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr

    frozen = [line for line in done.stdout.splitlines() if re.match(r"\s*(stem|layer1|layer2) .*frozen", line)]
    assert len(frozen) == 3
    assert re.search(r"layer3 .*slow .*6 adapt", done.stdout)
    assert re.search(r"fc .*fast", done.stdout)
    losses = [float(loss) for loss in re.findall(r"training loss ([\d.]+)", done.stdout)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]

    tuned = jaxtl.load(tmp_path / "tuned")
    assert tuned.classes == ("blue", "red")
    assert tuned.preprocess.size == (16, 16)
    assert len(re.findall(r"0\.png: (red|blue) \(\d+ %\)", done.stdout)) == 2
