"""Batches: a function of seed and step, whatever the threads and wherever the iterator starts."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from jaxtl.data.open import open_data
from jaxtl.data.pipeline import ordered_batches, shuffled_batches
from jaxtl.errors import InputError


def first(batches, count):
    with contextlib.closing(batches):
        return list(itertools.islice(batches, count))


def same(left, right):
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


def order(seed=0, count=10, batch_size=3, steps=9, start=0, threads=2):
    def load(indices, rngs):
        return {"index": indices, "draw": np.array([rng.random() for rng in rngs])}

    return first(shuffled_batches(load, count, batch_size, seed=seed, start=start, threads=threads), steps)


@pytest.fixture
def pets(tree):
    return f"folder:{tree({'train/a': 7, 'train/b': 8, 'val/a': 3, 'val/b': 4})}"


def test_an_epoch_shows_no_image_twice_and_the_next_one_another_order():
    batches = [batch["index"] for batch in order(steps=60)]
    epochs = [np.concatenate(batches[i : i + 3]) for i in range(0, 60, 3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 20
    assert set(np.concatenate(epochs)) == set(range(10))


def test_draws_differ_from_position_to_position():
    draws = np.concatenate([batch["draw"] for batch in order(steps=60)])
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize("start", [1, 4, 3000])
def test_starting_later_is_the_tail_of_starting_at_zero(start):
    steps = start + 5
    same(order(start=start, steps=5), order(steps=steps)[start:])


def test_starting_later_loads_nothing_before():
    seen = []
    batches = shuffled_batches(
        lambda indices, rngs: seen.extend(indices) or {"index": indices}, 10, 5, seed=0, start=10**9, threads=0
    )
    first(batches, 1)
    assert len(seen) == 5


@pytest.mark.parametrize("threads", [0, 1, 8])
def test_threads_change_nothing(threads):
    same(order(threads=threads), order(threads=2))


def test_seeds_are_unrelated():
    """A neighbouring seed must not be the same order one epoch later."""
    orders = [[tuple(batch["index"]) for batch in order(seed=seed, steps=30, batch_size=10)] for seed in range(4)]
    assert len(set(itertools.chain(*orders))) == 4 * 30


def test_every_image_is_seen_equally_often():
    seen = np.bincount(np.concatenate([batch["index"] for batch in order(steps=3000)]), minlength=10)
    assert seen.min() > 0.95 * 900
    assert seen.max() < 1.05 * 900


def test_training_batches_of_a_folder(pets, small):
    data = open_data(pets, small, threads=2)
    batches = first(data.train_batches(4, seed=3), 8)
    assert batches[0]["image"].shape == (4, 16, 16, 3)
    assert batches[0]["image"].dtype == np.uint8
    assert batches[0]["label"].dtype == np.int32
    same(first(data.train_batches(4, seed=3, start=5), 3), batches[5:])
    same(first(open_data(pets, small, threads=8).train_batches(4, seed=3), 8), batches)
    other = first(data.train_batches(4, seed=4), 8)
    assert any((one["image"] != two["image"]).any() for one, two in zip(other, batches, strict=True))


def test_another_process_gives_the_same_bytes(pets, small):
    program = f"""
import hashlib, itertools
from jaxtl.data.open import open_data
from jaxtl.data.preprocess import Preprocess
batches = open_data({pets!r}, Preprocess(size=16), threads=1).train_batches(4, seed=3, start=2)
digest = hashlib.sha256()
for batch in itertools.islice(batches, 4):
    digest.update(batch["image"].tobytes() + batch["label"].tobytes())
print(digest.hexdigest())
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    digest = hashlib.sha256()
    for batch in first(open_data(pets, small).train_batches(4, seed=3, start=2), 4):
        digest.update(batch["image"].tobytes() + batch["label"].tobytes())
    assert run.stdout.strip() == digest.hexdigest()
    assert not run.stderr


def test_labels_belong_to_their_images(pets, small):
    data = open_data(pets, small, augment="none")
    known = {small(data.train[i][0]).tobytes(): int(data.train.labels[i]) for i in range(len(data.train))}
    for batch in first(data.train_batches(5), 6):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            assert known[image.tobytes()] == label


def test_a_small_training_set_is_taken_whole(pets, small):
    data = open_data(pets, small, augment="none")
    assert data.steps_per_epoch(64) == 1
    assert data.steps_per_epoch(4) == 3
    batch = first(data.train_batches(64), 1)[0]
    assert len(batch["label"]) == 15
    assert batch["label"].sum() == 8


def test_evaluation_is_complete_ordered_padded_and_masked(pets, small):
    data = open_data(pets, small, threads=2)
    batches = first(data.eval_batches(4), 99)
    assert [len(batch["label"]) for batch in batches] == [4, 4]
    assert [batch["mask"].tolist() for batch in batches] == [[True] * 4, [True] * 3 + [False]]
    mask = np.concatenate([batch["mask"] for batch in batches])
    images = np.concatenate([batch["image"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    np.testing.assert_array_equal(labels[mask], data.val.labels)
    np.testing.assert_array_equal(images[mask], [small(data.val[i][0]) for i in range(7)])
    assert not images[~mask].any()
    assert labels.dtype == np.int32
    same(first(data.eval_batches(4), 99), batches)


def test_evaluation_of_the_training_images_is_not_augmented(pets, small):
    data = open_data(pets, small)
    batch = first(data.eval_batches(15, split="train"), 9)[0]
    np.testing.assert_array_equal(batch["image"], [small(data.train[i][0]) for i in range(15)])
    assert batch["mask"].all()


def test_exact_batches_need_no_padding():
    batches = first(ordered_batches(lambda indices: {"x": indices}, 6, 3, threads=1), 9)
    assert [batch["x"].tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5]]
    assert all(batch["mask"].all() for batch in batches)


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("grain-prefetch")]


def gone(deadline=10.0):
    end = time.monotonic() + deadline
    while workers() and time.monotonic() < end:
        time.sleep(0.01)
    return not workers()


def test_no_thread_outlives_its_iterator(pets, small):
    data = open_data(pets, small, threads=4)
    batches = data.train_batches(4)
    next(batches)
    assert workers()
    batches.close()
    assert gone()
    dropped = data.train_batches(4)
    next(dropped)
    del dropped
    assert gone()
    assert len(list(data.eval_batches(4))) == 2
    assert gone()


def test_a_broken_image_stops_the_batches_with_its_name(pets, small, tmp_path):
    (tmp_path / "pets/train/a/image03.png").write_bytes(b"")
    data = open_data(pets, small, threads=2)
    with pytest.raises(InputError, match=r"train/a/image03\.png.*file is empty.*replace it or delete it"):
        first(data.train_batches(4), 8)
    assert gone()


def test_errors(pets, small):
    data = open_data(pets, small)
    with pytest.raises(InputError, match="seed must be between 0"):
        first(data.train_batches(4, seed=-1), 1)
    with pytest.raises(InputError, match="start must be a step of at least 0"):
        first(data.train_batches(4, start=-2), 1)
    with pytest.raises(InputError, match="batch size must be at least 1"):
        data.train_batches(0)
    with pytest.raises(InputError, match="'train' or 'val', not 'test'"):
        data.eval_batches(4, split="test")
