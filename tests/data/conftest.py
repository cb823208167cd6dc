"""Images and folders that the data tests are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxtl.data.preprocess import Preprocess


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for what is kept on disk."""
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small() -> Preprocess:
    """Preprocessing small enough for many images."""
    return Preprocess(size=16)


@pytest.fixture
def noise() -> Callable[..., Image.Image]:
    """Makes an image of random pixels: (width, height, mode, seed)."""

    def make(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
        bands = len(Image.new(mode, (1, 1)).getbands())
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)
        return Image.fromarray(pixels[:, :, 0] if bands == 1 else pixels)

    return make


@pytest.fixture
def tree(tmp_path: Path, noise) -> Callable[[dict[str, int]], Path]:
    """Writes folders of images, ``{"train/cat": 3}``, and gives their root."""

    def write(folders: dict[str, int], root: str = "pets", suffix: str = ".png") -> Path:
        seed = 0
        for folder, images in folders.items():
            (tmp_path / root / folder).mkdir(parents=True)
            for index in range(images):
                seed += 1
                noise(30 + seed % 7, 25 + seed % 5, seed=seed).save(
                    tmp_path / root / folder / f"image{index:02d}{suffix}"
                )
        return tmp_path / root

    return write
