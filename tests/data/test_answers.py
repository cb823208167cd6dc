"""From written labels to arrays: which of the three tasks is meant, and what is said when it cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtl.data.answers import read_answers
from jaxtl.errors import InputError


def read(**options):
    columns = options.pop("columns", None) or {"label": options.pop("values")}
    return read_answers(columns, place="labels.csv", row=lambda index: f"line {index + 2}", **options)


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["b", "a", "b"], "class", ("a", "b")),
        (["10", "9", "-1"], "class", ("-1", "9", "10")),
        ([3, 1, 3], "class", ("1", "3")),
        (np.array([3, 1, 3], np.uint8), "class", ("1", "3")),
        ([b"x", b"y"], "class", ("x", "y")),
        ([True, False], "class", ("0", "1")),
        (["1.5", "2"], "regression", ("label",)),
        (["1e-3", "2"], "regression", ("label",)),
        (np.array([1.0, 2.0]), "regression", ("label",)),
        (["a;b", "c", ""], "multi-label", ("a", "b", "c")),
        ([["a"], ["b", "a"], []], "multi-label", ("a", "b")),
        ([[1, 0], [1, 1]], "multi-label", ("label_0", "label_1")),
        ([[0.5, 1.0], [2.0, 3.0]], "regression", ("label_0", "label_1")),
        (["2 mm", "3 mm"], "class", ("2 mm", "3 mm")),
        (["nan", "naan"], "class", ("naan", "nan")),
    ],
)
def test_the_task_is_told_by_one_rule(values, task, classes):
    found = read(values=values)
    assert (found.task, found.classes) == (task, classes)
    assert found.labels.dtype == (np.int32 if task == "class" else np.float32)
    assert found.labels.shape == ((len(values),) if task == "class" else (len(values), len(classes)))


def test_several_columns_are_yes_and_no_or_numbers():
    both = {"sun": ["1", "0"], "sea": [True, False]}
    assert read(columns=both).task == "multi-label"
    assert read(columns=both).labels.tolist() == [[1, 1], [0, 0]]
    assert read(columns=both, task="regression").task == "regression"
    assert read(columns={"x": ["1", "0"], "y": [2, 3]}).task == "regression"
    one_hot = {"cat": [1, 0, 0], "dog": [0, 1, 1]}
    assert read(columns=one_hot, task="class").labels.tolist() == [0, 1, 1]


def test_a_task_that_is_given_decides():
    assert read(values=["1.0", "2.0"], task="class").classes == ("1.0", "2.0")
    assert read(values=["3", "5"], task="regression").labels.tolist() == [[3], [5]]
    assert read(values=["a;b", "c"], task="class").classes == ("a;b", "c")
    assert read(values=["a", "b"], task="multi-label").labels.tolist() == [[1, 0], [0, 1]]
    assert read(values=["a b", "b"], separator=" ").labels.tolist() == [[1, 1], [0, 1]]
    yes = read(values=["1", "0"], task="multi-label")
    assert (yes.classes, yes.labels.tolist()) == (("label",), [[1], [0]])


def test_declared_classes_keep_their_order_and_take_positions_and_names():
    found = read(values=[1, 0, 1], declared=("z", "a"))
    assert (found.classes, found.labels.tolist()) == (("z", "a"), [1, 0, 1])
    assert read(values=["a", "z"], declared=("z", "a")).labels.tolist() == [1, 0]
    assert read(values=[[0], [1, 0]], declared=("z", "a")).labels.tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"values": ["a", "", None]},
            "labels.csv: 'label' is empty in line 3, line 4: fill the cells or remove the rows",
        ),
        ({"values": [1.5, float("nan")]}, "labels.csv: 'label' is empty in line 3"),
        ({"values": ["1.5", "nan"]}, "'label' holds no finite number .'nan'. in line 3: correct or remove it"),
        ({"values": ["1", "x", "y"], "task": "regression"}, "no finite number .'x', 'y'. in line 3, line 4"),
        ({"values": [1.0, float("inf")]}, "no finite number"),
        (
            {"values": [0, 5, -1], "declared": ("a", "b")},
            "out of range, '5' .1 times., '-1' .1 times., in line 3, line 4",
        ),
        ({"values": ["cat", "dgo"], "declared": ("cat", "dog")}, "'dgo'.*did you mean 'dog'"),
        ({"columns": {"a": [0, 2], "b": [1, 1]}, "task": "multi-label"}, "more than 0 and 1, in line 3"),
        (
            {"columns": {"a": [0, 1], "b": [1, 1]}, "task": "class"},
            "not exactly one of the columns a, b is 1 in line 3",
        ),
        ({"values": [[1.0], [1.0, 2.0]]}, "lists of 1, 2 numbers"),
        ({"values": ["", ""], "task": "multi-label"}, "names no label at all"),
        ({"values": ["a"], "task": "classes"}, "task 'classes' is none of .*did you mean 'class'"),
        ({"values": ["a"], "separator": ""}, "label_separator is empty"),
    ],
)
def test_problems(options, message):
    with pytest.raises(InputError, match=message):
        read(**options)


def test_many_rows_are_counted():
    with pytest.raises(InputError, match=r"line 11 and 15 more: fill"):
        read(values=["a", *[""] * 25][::-1])


def test_rows_of_yes_and_no_are_told_from_positions_among_declared_classes() -> None:
    def labels(cells, task="multi-label"):
        return read_answers({"label": cells}, place="x", task=task, declared=("a", "b", "c")).labels.tolist()

    rows = [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    assert labels(rows) == rows
    assert labels([[0, 1, 1], [0, 0, 1]], None) == rows
    assert labels([[0, 1], [1]]) == [[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    assert labels([[0, 1], [1, 0]]) == [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]


def test_an_underscore_makes_a_word_and_no_number():
    assert read_answers({"label": ["1_2", "3_4", "1_2"]}, place="a.csv").classes == ("1_2", "3_4")
    with pytest.raises(InputError, match=r"'price' holds no finite number .'1_000'. in image 1"):
        read_answers({"price": ["10.5", "1_000"]}, place="a.csv", task="regression")
