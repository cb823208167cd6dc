"""Test sets: everything is looked at, nothing is trained on, and the classes are the network's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import jaxtl
from jaxtl.data.open import open_data
from jaxtl.errors import InputError
from jaxtl.train.fits import check_fits


@pytest.fixture(scope="module")
def model():
    model = jaxtl.load("cifar_resnet20", weights=None, until="stem", num_classes=3, img_size=8)
    return model.replace(classes=("ant", "bee", "cow"))


def test_all_images_are_for_validation(model, tree) -> None:
    data = open_data(f"folder:{tree({'ant': 2, 'bee': 1, 'cow': 3})}", model, val_fraction=1)
    assert (len(data.train), len(data.val), data.split) == (0, 6, "all images")
    assert "0 train + 6 val images (all images)" in data.describe()
    assert jaxtl.evaluate(model, data)["count"] == 6


@pytest.mark.parametrize("classes", [{"bee": 2, "cow": 3}, {"cow": 1}, {"cow/patient1": 2}])
def test_some_of_the_models_classes_are_enough(model, tree, classes) -> None:
    data = open_data(f"folder:{tree(classes)}", model, val_fraction=1)
    assert data.classes == model.classes
    assert [model.classes[label] for label in data.val.labels] == [
        name.partition("/")[0] for name in classes for _ in range(classes[name])
    ]
    assert [data.val[index][1] for index in range(len(data.val))] == data.val.labels.tolist()
    assert jaxtl.evaluate(model, data)["count"] == sum(classes.values())


def test_classes_that_the_model_does_not_know_are_named(model, tree) -> None:
    data = open_data(f"folder:{tree({'ant': 1, 'beee': 1})}", model, val_fraction=1)
    with pytest.raises(InputError, match=r"3 classes and the data has 2 \(it does not know 'beee'; did you mean 'bee'"):
        jaxtl.evaluate(model, data)


def test_fewer_classes_where_a_split_is_held_out(model, tree) -> None:
    data = open_data(f"folder:{tree({'bee': 4, 'cow': 4})}", model)
    with pytest.raises(InputError, match="has 2 of its 3 classes: to evaluate on it, open it with val_fraction=1"):
        jaxtl.evaluate(model, data)


def test_nothing_is_trained_on_them(model, tree) -> None:
    data = open_data(f"folder:{tree({'ant': 2, 'bee': 1, 'cow': 3})}", model, val_fraction=1)
    with pytest.raises(InputError, match="has no training images"):
        jaxtl.fine_tune(model, data, epochs=1, progress=False)
    with pytest.raises(InputError, match="has no train images"):
        jaxtl.evaluate(model, data, split="train")


def test_a_table_of_some_labels(model, tree) -> None:
    root = tree({"x": 3})
    (root / "t.csv").write_text("path,tags\nx/image00.png,cow;ant\nx/image01.png,ant\nx/image02.png,\n")
    data = open_data(f"csv:{root}/t.csv", model, val_fraction=1)
    np.testing.assert_array_equal(data.val.labels, [[1, 0, 1], [1, 0, 0], [0, 0, 0]])


def test_numbers(model, tree) -> None:
    root = tree({"x": 2})
    (root / "t.csv").write_text("path,age,b,a\nx/image00.png,20,1,2\nx/image01.png,30,3,4\n")
    one, two = (dataclasses.replace(model, classes=classes) for classes in (("years",), ("a", "b")))
    how = {"task": "regression", "val_fraction": 1}
    assert open_data(f"csv:{root}/t.csv", one, label_column="age", **how).classes == ("years",)
    data = open_data(f"csv:{root}/t.csv", two, label_column=["b", "a"], **how)
    np.testing.assert_array_equal(data.val.labels, [[2, 1], [4, 3]])
    assert open_data(f"csv:{root}/t.csv", two, label_column="a", **how).classes == ("a",)


def test_a_table_whose_rows_are_all_test(model, tree) -> None:
    root = tree({"x": 2})
    (root / "t.csv").write_text("path,label,split\nx/image00.png,cow,test\nx/image01.png,cow,test\n")
    data = open_data(f"csv:{root}/t.csv", model, val_fraction=1)
    assert (len(data.train), data.val.labels.tolist(), data.split) == (0, [2, 2], "column 'split'")


@pytest.mark.parametrize("wrong", ["folder:photos", {"a": 1}])
def test_what_is_no_data_and_no_model(model, wrong) -> None:
    with pytest.raises(InputError, match=r"must be data, as jaxtl\.open_data"):
        check_fits(model, wrong)
    with pytest.raises(InputError, match=r"must be a model, as jaxtl\.load"):
        check_fits(wrong, wrong)
