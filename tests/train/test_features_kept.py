"""Features on disk: of which images they are, and when they go."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import jaxtl
from jaxtl import cache
from jaxtl.models.graph import POOLED
from jaxtl.recipe import Recipe
from jaxtl.train.feature_cache import FixedPart, features_of
from jaxtl.train.inputs import FeatureInputs
from jaxtl.train.loop import Loop


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model():
    return jaxtl.load("cifar_resnet20.letters", num_classes=10)


@pytest.fixture
def part(model) -> FixedPart:
    return FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, POOLED)


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """How many images the part was given, batch by batch."""
    images: list[int] = []
    original = FixedPart.__call__
    monkeypatch.setattr(
        FixedPart, "__call__", lambda part, batch: (images.append(len(batch)), original(part, batch))[1]
    )
    return images


class Pictures:
    """What the next run cannot tell that it has it."""

    classes = ("zero", "one")
    targets = [0, 1] * 4

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int):
        return Image.new("L", (8, 8), 20 * index), self.targets[index]


def _kept() -> int:
    return len([entry for entry in cache.entries() if entry.kind == cache.FEATURES])


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_file_that_was_corrected_has_not_the_features_of_before(part, model, tmp_path, split) -> None:
    for index in range(8):
        (tmp_path / f"images/{index % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * index).save(tmp_path / f"images/{index % 2}/{index}.png")

    def opened() -> jaxtl.Data:
        return jaxtl.open_data(f"folder:{tmp_path / 'images'}", model, val_fraction=0.5, augment="none")

    data = opened()
    before = tmp_path / "images" / getattr(data, split).names[0]
    Image.new("L", (8, 8), 250).save(before)
    old = features_of(part, data, split)
    new = features_of(part, opened(), split)
    cache.clear()
    np.testing.assert_array_equal(features_of(part, opened(), split), new)
    assert (old[0] != new[0]).any()
    np.testing.assert_array_equal(old[1:], new[1:])


def test_two_splits_of_as_many_images_that_cannot_be_told_again_share_nothing(part, model) -> None:
    data = jaxtl.open_data(Pictures(), model, val_fraction=0.5, augment="none")
    assert len(data.train) == len(data.val)
    train, val = (features_of(part, data, split) for split in ("train", "val"))
    assert (train != val).any(axis=1).all()


def test_features_of_what_cannot_be_told_again_go_with_the_data(part, model, computed) -> None:
    data = jaxtl.open_data(Pictures(), model, val_fraction=0.5, augment="none")
    first, again = (features_of(part, data, "train") for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (_kept(), len(computed)) == (1, 1)
    del data
    gc.collect()
    assert _kept() == 0
    assert np.isfinite(first).all()
    told = jaxtl.open_data("digits", model, samples_per_class=1)
    features_of(part, told, "train")
    del told
    gc.collect()
    assert _kept() == 1


@pytest.mark.parametrize(
    ("file", "left"), [("array.npy", -9), ("array.npy", 0), ("about.json", 0), ("about.json", b"{}")], ids=str
)
def test_what_is_damaged_is_written_again(part, model, computed, file, left) -> None:
    data = jaxtl.open_data("digits", model, samples_per_class=1)
    whole = np.array(features_of(part, data, "train"))
    (entry,) = cache.cache_folder().glob("features/*")
    content = (entry / file).read_bytes()
    (entry / file).write_bytes(left if isinstance(left, bytes) else content[:left])
    for _ in range(2):
        np.testing.assert_array_equal(features_of(part, data, "train"), whole)
    assert len(computed) == 2


@pytest.mark.parametrize(("augment", "views"), [("none", 1), ("light", 3)])
def test_views_that_cannot_differ_are_one_and_weights_are_hashed_once(
    model, computed, monkeypatch, augment, views
) -> None:
    hashed: list[FixedPart] = []
    original = FixedPart.key
    monkeypatch.setattr(FixedPart, "key", lambda part: (hashed.append(part), original(part))[1])
    data = jaxtl.open_data("digits", model, samples_per_class=1, augment=augment)
    recipe = Recipe.from_keywords(groups={"head": "fast", "*": "frozen"}, views=3, epochs=4, eval_batch_size=64)
    with Loop(model, data, recipe) as loop:
        (phase,) = loop.cached
    assert phase is not None
    state = SimpleNamespace(all_params=model.params, batch_stats=model.batch_stats)
    inputs = FeatureInputs(model, data, recipe, phase, lambda: state, 0)
    every = [inputs.features(epoch) for epoch in range(4)]
    assert len(set(map(id, every))) == len(computed) == _kept() == views
    assert len(hashed) == 1
