"""Training on cached features is training on the images, and computes the fixed part once."""

from __future__ import annotations

import errno
import json
import os
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from compilations import compilations
from families import rotating
from small_models import leaf_bits

import jaxtl
from jaxtl import backend, cache
from jaxtl.data.storage import device_bytes
from jaxtl.finetune.batch_norm import modes_of
from jaxtl.finetune.frozen_prefix import frozen_prefix
from jaxtl.models.graph import POOLED, Graph
from jaxtl.recipe import Recipe
from jaxtl.train import cached_phases, feature_cache
from jaxtl.train.feature_cache import FixedPart, features_of
from jaxtl.train.loop import Loop

HEAD = {"head": "fast", "*": "frozen"}
LAST = {"head": "fast", "layer3": "slow", "*": "frozen"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model():
    return jaxtl.load("cifar_resnet20.letters", num_classes=10)


@pytest.fixture(scope="module")
def data(model):
    return jaxtl.open_data("digits", model, samples_per_class=4)


@pytest.fixture(scope="module")
def still(model):
    return jaxtl.open_data("digits", model, samples_per_class=4, augment="none")


def _losses(result) -> list[float]:
    return [record[name] for record in result.history for name in ("train_loss", "val_loss", "val_accuracy")]


def _both(model, data, **fields):
    fields = {"epochs": 4, "batch_size": 16, "eval_batch_size": 120, "progress": False, **fields}
    return [jaxtl.fine_tune(model, data, feature_cache=cached, **fields) for cached in (True, False)]


@pytest.mark.parametrize("groups", rotating([HEAD, LAST], 1), ids=["head", "last stage"])
def test_the_same_views_give_the_same_run(model, data, groups) -> None:
    cached, streamed = _both(model, data, groups=groups, views=2)
    np.testing.assert_allclose(_losses(cached), _losses(streamed), rtol=2e-4, atol=2e-5)
    for ours, theirs in zip(*map(jax.tree.leaves, (cached.model.params, streamed.model.params)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-4)
    assert {entry.about["of"].split(", ")[1] for entry in cache.entries()} == {
        "evaluation's pixels",
        "variant 0 of seed 0",
        "variant 1 of seed 0",
    }


def test_gradual_unfreezing_with_averages_and_dropout_goes_through_the_same_states(still) -> None:
    model = jaxtl.load("cifar_resnet20.letters", num_classes=10, drop_rate=0.3)
    phases = [{"epochs": 2, "train": ["fast"]}, {"epochs": 3, "train": ["fast", "slow"]}]
    cached, streamed = _both(model, still, groups=LAST, phases=phases, epochs=5, ema=0.9, clip_norm=1.0, accumulate=2)
    np.testing.assert_allclose(_losses(cached), _losses(streamed), rtol=5e-4, atol=5e-5)
    stages = [entry.about["what"] for entry in cache.entries()]
    assert sorted(set(stages)) == ["cifar_resnet20: layer2", "cifar_resnet20: pooled"]


def test_the_fixed_part_runs_once_for_all_runs_that_share_it(model, still, monkeypatch) -> None:
    images: list[int] = []
    original = FixedPart.__call__

    def counted(part, batch):
        images.append(len(batch))
        return original(part, batch)

    monkeypatch.setattr(FixedPart, "__call__", counted)
    fields = {"groups": HEAD, "epochs": 6, "eval_batch_size": 40, "progress": False}
    first = jaxtl.fine_tune(model, still, **fields)
    assert sum(images) == 40 + 360
    other_rate = jaxtl.fine_tune(model, still, **fields, **{"optimizer.fast.lr": 1e-2})
    other_head = jaxtl.load("cifar_resnet20.letters", num_classes=10, head=[16])
    jaxtl.fine_tune(other_head, still, **fields)
    assert sum(images) == 40 + 360
    assert _losses(first) != _losses(other_rate)
    moved = jax.tree.map(lambda leaf: leaf * 1.01, model.params["layer1"])
    jaxtl.fine_tune(model.replace(params={**model.params, "layer1": moved}), still, **fields)
    assert sum(images) == 2 * (40 + 360)


def test_an_epoch_of_the_head_is_one_program(model, still) -> None:
    with compilations("_epoch") as epochs, compilations("train_step") as steps:
        jaxtl.fine_tune(model, still, groups=HEAD, epochs=3, batch_size=10, progress=False, label_smoothing=0.123)
    assert (len(epochs), len(steps)) == (1, 0)


def test_a_resumed_run_on_features_has_the_bits_of_one_without_a_stop(model, data, tmp_path, monkeypatch) -> None:
    fields = {"groups": HEAD, "views": 2, "epochs": 4, "batch_size": 16, "progress": False}
    whole = jaxtl.fine_tune(model, data, **fields)
    original = Loop.advance

    def stopping(loop, bar) -> None:
        if len(loop.history) == 3:
            raise KeyboardInterrupt
        original(loop, bar)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", stopping)
        with pytest.raises(KeyboardInterrupt):
            jaxtl.fine_tune(model, data, output=str(tmp_path / "run"), **fields)
    cache.clear()
    resumed = jaxtl.fine_tune(model, data, output=str(tmp_path / "run"), resume=True, **fields)
    assert leaf_bits(resumed.model.params) == leaf_bits(whole.model.params)
    assert _losses(resumed) == _losses(whole)


@pytest.mark.parametrize(
    "fields",
    [
        {"groups": {"head": "fast", "*": "slow"}},
        {"groups": HEAD, "mixup": 0.2},
        {"groups": HEAD, "feature_cache": False},
        {"groups": HEAD, "batch_norm": "adapt"},
        {"groups": HEAD, "epochs": 1},
    ],
    ids=lambda fields: str(fields),
)
def test_where_nothing_is_fixed_or_used_twice_nothing_is_kept(model, still, fields) -> None:
    jaxtl.fine_tune(model, still, **{"epochs": 2, "progress": False, "batch_size": 40, **fields})
    assert not cache.entries()


def test_stages_whose_batch_norms_adapt_or_whose_dropout_is_active_are_not_fixed() -> None:
    graph = Graph("resnet18", drop_path_rate=0.1)
    frozen = {path: "fast" if path.startswith("fc") else "frozen" for path in graph.params}
    assert frozen_prefix(graph, frozen, modes_of(graph, frozen)) == POOLED
    assert frozen_prefix(graph, frozen, modes_of(graph, frozen, {"layer3": "adapt"})) == "layer2"
    half = {**frozen, "layer2.0.conv1.kernel": "slow"}
    assert frozen_prefix(graph, half, modes_of(graph, half)) == "layer1"


def test_an_interrupted_computation_leaves_nothing_behind(model, still, monkeypatch) -> None:
    part = FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, "layer1")
    calls = iter(range(10))
    original = FixedPart.__call__

    def interrupted(part, batch):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return original(part, batch)

    with monkeypatch.context() as patch:
        patch.setattr(FixedPart, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            features_of(part, still, "train", batch_size=10)
    assert not cache.entries()
    assert not list((cache.cache_folder() / "features").iterdir())
    whole = features_of(part, still, "train", batch_size=10)
    features_of(part, still, "train", batch_size=10)
    assert len(cache.entries()) == 1
    features_of(part, still, "train", batch_size=20)  # rounds in its own way
    assert len(cache.entries()) == 2
    assert whole.shape == (40, 32, 32, 16)
    assert np.isfinite(whole).all()


def test_the_cache_keeps_to_its_limit_and_drops_what_was_used_least_recently(model, still, monkeypatch) -> None:
    def kept() -> set[str]:
        return {entry.about["what"].split(": ")[1] for entry in cache.entries()}

    def compute(stage: str) -> np.ndarray:
        return features_of(
            FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, stage), still, "train"
        )

    size = compute("layer3").nbytes
    compute(POOLED)
    monkeypatch.setenv("JAXTL_CACHE_LIMIT", str(2 * size))
    compute("layer3")
    compute("layer2")
    assert kept() == {"layer2"}
    monkeypatch.setenv("JAXTL_CACHE_LIMIT", str(size))
    np.testing.assert_array_equal(compute("layer2"), compute("layer2"))
    assert compute("layer1").shape[0] == 40
    assert "layer1" not in kept()


@pytest.mark.parametrize("memory", [1000, 10**12], ids=["small device", "large device"])
def test_what_fits_neither_in_memory_nor_on_disk_is_computed_in_every_epoch(model, still, monkeypatch, memory) -> None:
    said: list[str] = []
    monkeypatch.setattr(cached_phases, "say", said.append)
    monkeypatch.setattr(cached_phases, "device_memory", lambda: memory)
    monkeypatch.setattr(cached_phases, "free_memory", lambda: 1000)
    monkeypatch.setenv("JAXTL_CACHE_LIMIT", "1000")
    result = jaxtl.fine_tune(model, still, groups=HEAD, epochs=2, batch_size=40, progress=False)
    assert len(result.history) == 2
    assert not cache.entries()
    assert "the output of pooled would take 0.0 GB, and there is room for 0.0 GB in " in said[0]


@pytest.mark.parametrize(
    ("limit", "entries", "kept"),
    [
        ("1000", 0, "kept in memory, for this run alone;"),
        ("20000", 1, "kept in {}, and in memory what has no room there;"),
        ("200000", 2, "kept in {};"),
    ],
)
def test_what_has_no_room_on_disk_is_kept_in_memory_and_that_is_said(
    limit, entries, kept, model, still, monkeypatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(cached_phases, "say", said.append)
    monkeypatch.setenv("JAXTL_CACHE_LIMIT", limit)
    jaxtl.fine_tune(model, still, groups=HEAD, epochs=2, batch_size=40, progress=False)
    assert len(cache.entries()) == entries
    assert kept.format(cache.cache_folder()) in said[0]


def test_what_is_on_disk_needs_no_room(model, still, monkeypatch) -> None:
    said: list[str] = []
    fields = {"groups": HEAD, "epochs": 2, "batch_size": 40, "progress": False}
    first = jaxtl.fine_tune(model, still, **fields)
    monkeypatch.setattr(cached_phases, "say", said.append)
    monkeypatch.setattr(cached_phases, "free_memory", lambda: 0)
    monkeypatch.setattr(cache, "room", lambda: 0)
    monkeypatch.setattr(FixedPart, "__call__", None)
    assert _losses(jaxtl.fine_tune(model, still, **fields)) == _losses(first)
    assert f"kept in {cache.cache_folder()};" in said[0]


TWICE = [{"epochs": 2, "train": ["fast"]}] * 2
HEAD_LAST = [{"epochs": 2, "train": ["fast", "slow"]}, {"epochs": 2, "train": ["fast"]}]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"groups": HEAD, "epochs": 2}, [True]),
        ({"groups": HEAD, "epochs": 2, "recalibrate": True}, [False]),
        ({"groups": HEAD, "epochs": 4, "phases": TWICE}, [True, True]),
        ({"groups": LAST, "epochs": 4, "phases": HEAD_LAST}, [False, False]),
    ],
    ids=["one phase", "other statistics", "the head twice", "changed before"],
)
def test_features_of_the_part_as_it_was_do_not_count_where_it_changes(fields, found, model, still, monkeypatch) -> None:
    part = FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, POOLED)
    for split in ("train", "val"):
        features_of(part, still, split, batch_size=64)
    monkeypatch.setattr(cached_phases, "free_memory", lambda: 0)
    monkeypatch.setattr(cache, "room", lambda: 0)
    recipe = Recipe.from_keywords(batch_size=40, eval_batch_size=64, **fields)
    with Loop(model, still, recipe) as loop:
        assert [phase is not None for phase in loop.cached] == found


def test_each_of_several_processes_knows_the_memory_of_its_device(monkeypatch) -> None:
    """Images stay in the host's memory there, features do not."""
    gpu = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 7})
    monkeypatch.setattr(backend, "device", lambda: gpu)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert cached_phases.device_memory() == 7
    assert device_bytes() is None


def test_streamed_from_the_disk_it_is_the_same_run(model, still, monkeypatch) -> None:
    fields = {"groups": HEAD, "epochs": 2, "batch_size": 10, "progress": False}
    resident = jaxtl.fine_tune(model, still, **fields)
    monkeypatch.setattr(cached_phases, "device_memory", lambda: 1000)
    streamed = jaxtl.fine_tune(model, still, **fields)
    np.testing.assert_allclose(_losses(resident), _losses(streamed), rtol=1e-4)


def test_bfloat16_features_take_half_and_are_found_again(model, still) -> None:
    part = FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, "layer3", "bf16")
    first = features_of(part, still, "val")
    again = features_of(part, still, "val")
    assert first.dtype == again.dtype == jax.numpy.bfloat16
    np.testing.assert_array_equal(first, again)
    wide = features_of(
        FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, "layer3"), still, "val"
    )
    assert 2 * first.nbytes == wide.nbytes
    np.testing.assert_allclose(first.astype(np.float32), wide, rtol=0.1, atol=0.1 * wide.max())
    assert json.dumps([entry.about for entry in cache.entries()])


def _first_stage(model) -> FixedPart:
    return FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, "layer1")


def test_the_file_has_its_space_before_it_is_filled(model, still, monkeypatch) -> None:
    """On a full disk the system would end the process where a map of the file is written to."""
    original = FixedPart.__call__
    taken: list[int] = []

    def looking(part, images):
        (file,) = cache.cache_folder().glob("features/*/array.npy")
        taken.append(file.stat().st_blocks * 512)
        return original(part, images)

    monkeypatch.setattr(FixedPart, "__call__", looking)
    found = features_of(_first_stage(model), still, "train", batch_size=40)
    assert taken[0] >= found.nbytes


def test_a_disk_without_space_after_all_leaves_the_features_in_memory(model, still, monkeypatch) -> None:
    said: list[str] = []

    def full(file) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    whole = features_of(_first_stage(model), still, "val")
    cache.clear()
    monkeypatch.setattr(feature_cache, "say", said.append)
    monkeypatch.setattr(feature_cache, "reserve", full)
    found = features_of(_first_stage(model), still, "val")
    np.testing.assert_array_equal(found, whole)
    assert "359 val images, evaluation's pixels) stay in memory and not in" in said[0]
    assert not list((cache.cache_folder() / "features").iterdir())


def test_a_folder_of_another_user_leaves_the_features_in_memory(model, still, monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(feature_cache, "say", said.append)
    cache.cache_folder().mkdir()
    (cache.cache_folder() / "features").touch()
    assert np.isfinite(features_of(_first_stage(model), still, "train")).all()
    assert "is a file; name a folder" in said[0]


def test_an_entry_that_cannot_be_finished_is_no_end(model, still, monkeypatch) -> None:
    said: list[str] = []

    def full(number) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(feature_cache, "say", said.append)
    monkeypatch.setattr(os, "fsync", full)
    assert np.isfinite(features_of(_first_stage(model), still, "train")).all()
    assert "are not kept for the next run" in said[0]
    assert not list((cache.cache_folder() / "features").iterdir())


def test_how_many_images_a_batch_holds_is_not_asked_of_the_device(model, still) -> None:
    class Unasked(dict):
        def __getitem__(self, name):
            assert name != "mask"
            return super().__getitem__(name)

    array = np.zeros((40, 32, 32, 16), np.float32)
    feature_cache._fill(array, _first_stage(model), map(Unasked, still.eval_batches(16, "train")))
    np.testing.assert_allclose(array, features_of(_first_stage(model), still, "train"), rtol=1e-4, atol=1e-5)


def test_the_precision_of_products_is_part_of_the_key_where_it_is_not_the_usual_one(model) -> None:
    part = FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, POOLED)
    usual = part.key()
    with jax.default_matmul_precision("highest"):
        assert part.key() != usual
    with jax.default_matmul_precision("default"):
        assert part.key() == usual
