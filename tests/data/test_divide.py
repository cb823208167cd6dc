"""Folds, groups and splits that were written down."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxtl.data import sources
from jaxtl.data.arrays import PixelSource
from jaxtl.data.divide import divide
from jaxtl.data.groups import fold_groups, split_groups
from jaxtl.data.open import open_data
from jaxtl.data.opened import Opened, given_split
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError

DIGITS = Preprocess(8, (0.5,), (0.5,))


def source_of(labels) -> PixelSource:
    labels = np.asarray(labels, np.int32)
    return PixelSource(np.zeros((len(labels), 1, 1), np.uint8), labels, [f"n{i}" for i in range(len(labels))])


def names_of(labels) -> list[str]:
    return [f"c{i}" for i in range(max(labels) + 1)]


@settings(deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=5), st.integers(2, 6), st.integers(0, 9))
def test_folds_are_a_stratified_partition(sizes, folds, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    assume(folds <= len(labels))
    parts = [sources.fold(source_of(labels), names_of(labels), folds, number, seed) for number in range(folds)]
    assert sorted(name for _, val in parts for name in val.names) == sorted(source_of(labels).names)
    for train, val in parts:
        assert not set(train.names) & set(val.names)
        assert len(train) + len(val) == len(labels)
        assert set(train.labels) == set(labels)
    for label in range(len(sizes)):
        counts = [(val.labels == label).sum() for _, val in parts]
        assert max(counts) - min(counts) <= 1
    assert max(len(val) for _, val in parts) - min(len(val) for _, val in parts) <= 1


def grouped(least: int):
    """Labels and groups of so many images at least."""
    return st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=least, max_size=80)


def _dense(pairs) -> tuple[list[int], list[str]]:
    known = sorted({label for label, _ in pairs})
    return [known.index(label) for label, _ in pairs], [f"g{group}" for _, group in pairs]


@settings(max_examples=200, deadline=None)
@given(grouped(12), st.floats(0.05, 0.6), st.integers(0, 9))
def test_a_split_by_group_leaves_no_group_on_both_sides(pairs, fraction, seed):
    labels, groups = _dense(pairs)
    of_image = dict(zip(source_of(labels).names, groups, strict=True))
    try:
        train, val = split_groups(source_of(labels), names_of(labels), groups, fraction, seed)
    except InputError as error:
        assume("cannot split into train and val by group" not in str(error))
        raise
    assert len(train)
    assert len(val)
    assert sorted(train.names + val.names) == sorted(source_of(labels).names)
    assert not {of_image[name] for name in train.names} & {of_image[name] for name in val.names}
    assert set(train.labels) == set(labels)


@settings(max_examples=200, deadline=None)
@given(grouped(24), st.integers(2, 5), st.integers(0, 9))
def test_folds_by_group_leave_no_group_on_both_sides(pairs, folds, seed):
    labels, groups = _dense(pairs)
    source = source_of(labels)
    of_image = dict(zip(source.names, groups, strict=True))
    held_out, refused = [], ""
    for number in range(folds):
        try:
            train, val = fold_groups(source, names_of(labels), groups, folds, number, seed)
        except InputError as error:
            refused = str(error)
            break
        assert len(val)
        assert not {of_image[name] for name in train.names} & {of_image[name] for name in val.names}
        held_out += val.names
    assert ("more than the" in refused) == (folds > len(set(groups)))
    if refused:
        assert "more than the" in refused or "out of training" in refused
    else:
        assert sorted(held_out) == sorted(source.names)


def tagged(rows, task="multi-label", groups=None) -> Opened:
    """Images with so many labels each, the rows of a table of 0 and 1."""
    labels = np.asarray(rows, np.float32)
    pixels, names = np.zeros((len(labels), 1, 1), np.uint8), [f"n{i}" for i in range(len(labels))]
    source = PixelSource(pixels, labels, names)
    return Opened(tuple(f"c{k}" for k in range(labels.shape[1])), source, task=task, groups=groups)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=8, max_size=40),
    st.booleans(),
    st.floats(0.05, 0.6),
    st.integers(0, 9),
)
def test_a_drawn_split_leaves_training_an_image_of_each_label(rows, by_group, fraction, seed):
    groups = tuple(f"g{i % 7}" for i in range(len(rows))) if by_group else None
    opened = tagged(rows, groups=groups)
    drawn, _, _, _ = divide(dataclasses.replace(opened, task="regression"), val_fraction=fraction, seed=seed)
    has = np.any(rows, 0)
    try:
        train, val, _, _ = divide(opened, val_fraction=fraction, seed=seed)
    except InputError as error:
        assert "whatever is held out, training lacks a label" in str(error)  # noqa: PT017
        units = np.array([int(name[1:]) for name in groups or opened.train.names])
        assert all((np.any(np.asarray(rows)[units != unit], 0) != has).any() for unit in set(units))
        return
    assert (train.labels.any(0) == has).all()
    assert len(val)
    assert sorted(train.names + val.names) == sorted(opened.train.names)
    if by_group:
        of_image = dict(zip(opened.train.names, groups, strict=True))
        assert not {of_image[name] for name in train.names} & {of_image[name] for name in val.names}
    if (drawn.labels.any(0) == has).all():
        assert train.names == drawn.names


def test_only_what_alone_has_a_label_is_moved_to_training():
    rows = np.ones((40, 3))
    drawn = divide(tagged(rows), seed=1)[1]
    rows[:, 2] = np.isin([f"n{i}" for i in range(40)], drawn.names[3:5])
    train, val, _, _ = divide(tagged(rows), seed=1)
    assert len(set(drawn.names) - set(val.names)) == 1
    assert (train.labels[:, 2].sum(), val.labels[:, 2].sum()) == (1, 1)
    assert divide(tagged(rows, "regression"), seed=1)[1].names == drawn.names
    order = np.random.default_rng(1).permutation(40)
    other = dataclasses.replace(tagged(rows), train=sources.Subset(tagged(rows).train, order))
    assert set(divide(other, seed=1)[1].names) == set(val.names)


@pytest.mark.parametrize("groups", [None, tuple(f"g{i}" for i in range(10))])
def test_a_fold_that_takes_a_label_out_of_training_is_refused(groups):
    rows = np.ones((10, 2))
    rows[1:, 1] = 0
    opened, refused = tagged(rows, groups=groups), []
    for number in range(5):
        try:
            divide(opened, folds=5, fold=number)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) == 1
    assert "takes all images of label 'c1' out of training: use another seed or fewer folds" in refused[0]


def test_groups_are_spread_as_evenly_as_they_allow():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 900, p=[0.6, 0.3, 0.1])
    groups = [f"g{group}" for group in rng.integers(0, 60, 900)]
    shares = np.bincount(labels) / 900
    for number in range(5):
        _, val = fold_groups(source_of(labels), names_of(labels), groups, 5, number, 0)
        assert abs(len(val) - 180) < 20
        assert np.abs(np.bincount(val.labels, minlength=3) / len(val) - shares).max() < 0.04
    vals = [split_groups(source_of(labels), names_of(labels), groups, 0.2, seed)[1] for seed in range(2)]
    assert all(abs(len(val) - 180) < 20 for val in vals)
    assert vals[0].names != vals[1].names


def test_groups_do_not_depend_on_the_order_of_images():
    labels, groups = [0, 1] * 30, [f"g{i // 4}" for i in range(60)]
    source = source_of(labels)
    order = np.random.default_rng(1).permutation(60)
    other = sources.Subset(source, order)
    one = split_groups(source, ["a", "b"], groups, 0.3, 0)[1]
    two = split_groups(other, ["a", "b"], [groups[i] for i in order], 0.3, 0)[1]
    assert set(one.names) == set(two.names)


def test_a_split_that_is_written_down(tmp_path):
    data = open_data("digits", DIGITS, seed=3, samples_per_class=4)
    data.write_split(tmp_path / "new" / "split.json")
    again = open_data("digits", DIGITS, split_file=tmp_path / "new" / "split.json")
    assert (again.train.names, again.val.names) == (data.train.names, data.val.names)
    assert again.notes == (f"{1797 - 40 - len(data.val)} images in neither part",)
    record = json.loads((tmp_path / "new" / "split.json").read_text())
    assert record["source"] == "digits"
    assert record["split"] == "20% held out, seed 3"


def test_a_split_of_names_that_are_no_utf8(tree, tmp_path, small):
    root = tree({"cat": 4, "dog": 4})
    try:
        os.rename(os.fsencode(root / "cat/image00.png"), os.fsencode(root / "cat") + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    data = open_data(f"folder:{root}", small)
    data.write_split(tmp_path / "split.json")
    assert "cat/caf\udce9.png" in {*data.train.names, *data.val.names}
    again = open_data(f"folder:{root}", small, split_file=tmp_path / "split.json")
    assert (again.train.names, again.val.names) == (data.train.names, data.val.names)
    (root / "dog/image00.png").rename(root / "dog/café.png")
    os.rename(os.fsencode(root / "cat") + b"/caf\xe9.png", root / "cat/image00.png")
    open_data(f"folder:{root}", small).write_split(tmp_path / "split.json")
    assert "dog/café.png" in (tmp_path / "split.json").read_text(encoding="utf-8")


def test_a_file_divides_the_images_of_both_parts(tmp_path):
    parts = [sources.Subset(source_of([0, 1] * 5), range(start, start + 5)) for start in (0, 5)]
    (tmp_path / "a.json").write_text(json.dumps({"train": ["n9", "n0"], "val": ["n1", "n8"]}))
    train, val, origin, notes = divide(Opened(("a", "b"), *parts), split_file=tmp_path / "a.json")
    assert (train.names, val.names, origin) == (["n9", "n0"], ["n1", "n8"], "split of a.json")
    assert val.labels.tolist() == [1, 0]
    assert notes == ("6 images in neither part",)
    assert train.identity(0) == parts[1].identity(4)


def test_a_file_must_not_part_groups_that_were_asked_for(tmp_path):
    parts = [sources.Subset(source_of([0, 1] * 5), range(start, start + 5)) for start in (0, 5)]
    opened = Opened(("a", "b"), *parts, groups=tuple("uuvvwwxxyz"))
    (tmp_path / "a.json").write_text(json.dumps({"train": ["n0", "n1", "n4"], "val": ["n2", "n3", "n5", "n8"]}))
    with pytest.raises(
        InputError, match=r"a.json: groups on both sides of its split: w; correct the split, or name no"
    ):
        divide(opened, split_file=tmp_path / "a.json", groups_bind=True)
    assert len(divide(opened, split_file=tmp_path / "a.json")[0]) == 3
    (tmp_path / "a.json").write_text(json.dumps({"train": ["n0", "n1"], "val": ["n2", "n3", "n5", "n8"]}))
    assert len(divide(opened, split_file=tmp_path / "a.json", groups_bind=True)[1]) == 4


def test_folds_by_group_of_the_training_images_of_a_given_split():
    parts = [sources.Subset(source_of([0, 1] * 10), range(start, start + 10)) for start in (0, 10)]
    opened = Opened(("a", "b"), *parts, groups=tuple("ttuuvvwwxx" + "yyyyyzzzzz"))
    train, val, origin, _ = divide(opened, folds=5, fold=0)
    assert (len(train), len(val), origin) == (8, 2, "fold 0 of 5 by 5 groups, seed 0")


def test_folds_divide_the_training_images_of_a_given_split():
    parts = [sources.Subset(source_of([0, 1] * 10), range(start, start + 10)) for start in (0, 10)]
    train, val, origin, notes = divide(Opened(("a", "b"), *parts, origin="own folders"), folds=5, fold=2)
    assert (len(train), len(val), origin) == (8, 2, "fold 2 of 5, seed 0")
    assert set(train.names) < set(parts[0].names)
    assert notes == ("10 validation images of the own folders not used",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds must be between 2 and 1797"),
        ({"folds": 5, "fold": 5}, "fold must be between 0 and 4, since folds is 5, not 5"),
        ({"fold": 1}, "fold=1 needs folds"),
        ({"folds": 5, "split_file": "a.json"}, "give folds or split_file, not both"),
        ({"split_file": "/no/such.json"}, "split_file '/no/such.json' cannot be read"),
        ({"group_column": "who"}, "group_column means nothing for 'digits': digits takes none of them"),
    ],
)
def test_problems(options, message):
    with pytest.raises(InputError, match=message):
        open_data("digits", DIGITS, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "is no JSON"),
        ("[]", "2 problems.*\n.*'train' must be a list of names"),
        ('{"train": ["digit-0001"], "val": []}', "'val' must be a list of names of images"),
        ('{"train": ["digit-0001"], "val": ["digit-0001"]}', "1 images are in train and in val: digit-0001"),
        ('{"train": ["digit-0001", "digit-0001"], "val": ["digit-0002"]}', "'train' names images twice"),
        ('{"train": ["digit-0001"], "val": ["a", "b"]}', "2 of its images are not in the data: a, b"),
        ('{"train": ["digit-0001", "digit-0002"], "val": ["digit-0003"]}', "that training lacks: '3'"),
    ],
)
def test_files_that_are_no_split(tmp_path, content, message):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(InputError, match=message):
        open_data("digits", DIGITS, split_file=tmp_path / "split.json")


def test_groups_that_cannot_be_split():
    with pytest.raises(InputError, match="none can be held out without a class losing all its images"):
        split_groups(source_of([0, 0, 1, 1]), "ab", ["x", "x", "y", "y"], 0.5, 0)
    with pytest.raises(InputError, match="folds=3 is more than the 2 groups: x, y"):
        fold_groups(source_of([0, 1, 0, 1]), "ab", ["x", "x", "y", "y"], 3, 0, 0)
    with pytest.raises(InputError, match=r"takes all images of class '.' out of training"):
        fold_groups(source_of([0, 0, 1, 1]), "ab", ["x", "x", "y", "y"], 2, 0, 0)


def test_the_order_in_which_splits_are_looked_for():
    assert given_split(["training", "dev"]) == ("training", "dev", [])
    assert given_split(["a"]) == (None, None, ["a"])
