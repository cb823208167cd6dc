"""Stratified splits and subsets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtl.data import sources
from jaxtl.data.digits import CLASSES, ArraySource, load_digits
from jaxtl.errors import InputError


def source_of(*sizes: int) -> ArraySource:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return ArraySource(np.zeros((len(labels), 1, 1), np.uint8), labels, [f"n{i}" for i in range(len(labels))])


def names_of(classes: int) -> list[str]:
    return [f"c{i}" for i in range(classes)]


def test_digits_are_all_there():
    digits = load_digits()
    assert len(digits) == 1797
    assert len(set(digits.names)) == 1797
    pixels = np.asarray(digits[7][0])
    assert pixels.dtype == np.uint8
    assert pixels.max() == 255
    assert set(np.unique(digits.labels)) == set(range(10))


@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.floats(0.05, 0.95), st.integers(0, 9))
def test_split_is_a_stratified_partition(sizes, fraction, seed):
    source = source_of(*sizes)
    train, val = sources.split(source, names_of(len(sizes)), fraction, seed)
    assert sorted(train.names + val.names) == sorted(source.names)
    for label, size in enumerate(sizes):
        held_out = int((val.labels == label).sum())
        assert 1 <= held_out <= size - 1
        assert abs(held_out - fraction * size) <= 1


def test_split_is_a_function_of_names_and_seed():
    digits = load_digits()
    first = sources.split(digits, CLASSES, 0.2, 0)[1]
    assert first.names == sources.split(digits, CLASSES, 0.2, 0)[1].names
    assert first.names != sources.split(digits, CLASSES, 0.2, 1)[1].names
    assert first.names[:3] == ["digit-0001", "digit-0008", "digit-0009"]  # on every machine


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.data())
def test_take_keeps_shares_and_every_class(sizes, data):
    samples = data.draw(st.integers(len(sizes), sum(sizes)))
    chosen = sources.take(source_of(*sizes), names_of(len(sizes)), samples, 0)
    found = np.bincount(chosen.labels, minlength=len(sizes))
    assert found.sum() == samples
    assert (found >= 1).all()
    assert (found <= sizes).all()
    shares = np.array(sizes) * samples / sum(sizes)
    if (shares >= 1).all():
        assert (np.abs(found - shares) <= 1).all()


def test_take_per_class_is_nested():
    digits = load_digits()
    few = sources.take_per_class(digits, CLASSES, 3, seed=1)
    more = sources.take_per_class(digits, CLASSES, 8, seed=1)
    assert np.bincount(few.labels).tolist() == [3] * 10
    assert set(few.names) < set(more.names)


def test_a_subset_reads_the_right_images():
    digits = load_digits()
    subset = sources.Subset(digits, [5, 900])
    assert subset[1][1] == digits[900][1] == subset.labels[1]
    assert subset[1][0].tobytes() == digits[900][0].tobytes()
    assert subset.identity(0) == digits.identity(5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sources.split(source_of(3, 1, 1), "abc", 0.2, 0), "fewer than two images in class 'b', 'c'"),
        (lambda: sources.split(source_of(3, 3), "ab", 1.5, 0), "between 0 and 1, or 1 for a test set, not 1.5"),
        (lambda: sources.take(source_of(3, 3), "ab", 7, 0), "between 2 .* and 6"),
        (lambda: sources.take(source_of(3, 3), "ab", 1, 0), "between 2 .* and 6"),
        (lambda: sources.take_per_class(source_of(3, 2), "ab", 3, 0), r"class 'b' \(2\)"),
        (lambda: sources.take_per_class(source_of(3, 2), "ab", 0, 0), "at least 1, not 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InputError, match=message):
        call()
