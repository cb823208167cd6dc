"""Data sets that are Python objects."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from odd_images import white_is_zero
from PIL import ExifTags, Image, ImageOps

from jaxtl.data.images import read_image
from jaxtl.data.objects import as_image
from jaxtl.data.open import open_data
from jaxtl.errors import InputError


class Squares:
    """Counts how often it was read."""

    def __init__(self, answers, image=lambda index: Image.new("RGB", (4, 4), (index, 0, 0)), **attributes):
        self._labels, self._image, self.reads = answers, image, 0
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, index):
        self.reads += 1
        return self._image(index), self._labels[index]


def test_labels_come_from_targets_where_they_are(small):
    squares = Squares([0, 1] * 500, targets=[0, 1] * 500, classes=["b", "a"])
    data = open_data(squares, small)
    assert squares.reads < 20
    assert data.classes == ("b", "a")
    assert open_data(Squares([0, 1] * 5, labels=np.array([0, 1] * 5)), small).classes == ("0", "1")


def test_targets_are_not_taken_for_what_the_items_give(small, caplog):
    caplog.set_level(logging.INFO, logger="jaxtl")
    shuffled = np.random.default_rng(0).permutation([0, 1, 2, 3] * 25).tolist()
    data = open_data((Squares(shuffled, targets=[0, 1, 2, 3] * 25),) * 2, small)
    assert data.train.labels.tolist() == shuffled
    assert caplog.messages[0].startswith("labels of Squares are read in one pass: its targets differ from what item ")


def test_numbers_of_another_precision_are_the_same_labels(small, caplog):
    import torch

    caplog.set_level(logging.INFO, logger="jaxtl")

    class Rounded(Squares):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image, torch.tensor(label)  # float32

    numbers = np.linspace(0.1, 9.7, 40).tolist()
    open_data((Rounded(numbers, targets=numbers),) * 2, small, task="regression")
    assert not any("in one pass" in message for message in caplog.messages)


def test_targets_that_are_transformed_are_read_from_the_items(small):
    class Halved(Squares):
        target_transform = staticmethod(lambda label: label // 2)

        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image, self.target_transform(label)

    labels = [0] * 8 + [1] + [0] * 31 + [2, 3] * 20
    assert open_data(Halved(labels, targets=labels), small).classes == ("0", "1")


def test_the_item_that_reads_as_several_labels_is_named(small):
    data = open_data(Squares(["a", "b;c"] * 4), small)
    assert (data.task, data.told_by) == ("multi-label", "image 1: 'b;c' is read as the labels 'b', 'c'")
    assert not open_data(Squares(["a", "b;c"] * 4), small, task="multi-label").told_by


def test_lists_of_tensors_and_arrays_of_names(small):
    import torch

    tensors = [torch.tensor(index % 2) for index in range(10)]
    data = open_data(Squares(tensors, targets=tensors, classes=np.array(["b", "a"])), small)
    assert data.classes == ("b", "a")
    rows = [torch.tensor([index % 2, 1]) for index in range(10)]
    assert open_data(Squares(rows, targets=rows, classes=["b", "a"]), small).task == "multi-label"


@pytest.mark.parametrize("labels", [lambda: [0, 1] * 5, 10, dict.fromkeys(range(10), 0), np.array(3)])
def test_attributes_that_hold_no_labels_are_passed_over(small, labels):
    data = open_data(Squares([0, 1] * 5, labels=labels, classes=labels), small)
    assert data.classes == ("0", "1")


def test_else_from_one_pass(small):
    squares = Squares(["b", "a"] * 5)
    data = open_data(squares, small)
    assert squares.reads == 11
    assert data.classes == ("a", "b")
    assert data.describe().startswith("Squares: 8 train + 2 val images (20% held out, seed 0)")


def test_a_pair_is_training_and_validation(small):
    data = open_data((Squares([0, 1, 1]), Squares([1, 0])), small)
    assert (len(data.train), len(data.val), data.split) == (3, 2, "own parts")
    assert data.val.names == ["val-000000", "val-000001"]


def test_a_list_of_examples_is_a_data_set(small):
    image = np.zeros((4, 4, 3), np.uint8)
    assert len(open_data([(image, "a"), (image, "b")] * 2, small).train) == 2


def test_tensors_as_labels_numbers_and_several(small):
    import torch

    assert open_data(Squares(torch.tensor([0, 1] * 5)), small).task == "class"
    assert open_data(Squares(torch.tensor([0.5, 1.0] * 5)), small).task == "regression"
    assert open_data(Squares(torch.eye(5, dtype=torch.int64).repeat(2, 1)), small).task == "multi-label"
    assert open_data(Squares([0, 1] * 5), small, task="regression").train.labels.shape == (8, 1)


def test_paths_are_read_as_those_of_a_folder(tree, small):
    root = tree({"cat": 4, "dog": 4})
    files = sorted(root.glob("*/*.png"))
    squares = Squares([0] * 4 + [1] * 4, image=files.__getitem__, classes=["cat", "dog"])
    data = open_data((squares, squares), small)
    folder = open_data(f"folder:{root}", small)
    assert data.classes == folder.classes
    of_name = dict(
        zip([f"{file.parent.name}/{file.name}" for file in files], next(data.eval_batches(8))["image"], strict=True)
    )
    for name, image in zip(folder.train.names, next(folder.eval_batches(6, "train"))["image"], strict=True):
        np.testing.assert_array_equal(of_name[name], image)


@pytest.mark.parametrize("kind", ["path", "grey", "bytes"])
def test_images_of_every_form(tmp_path, kind):
    Image.new("L", (5, 4), 7).save(tmp_path / "a.png")
    given = {
        "path": tmp_path / "a.png",
        "grey": Image.new("L", (5, 4), 7),
        "bytes": np.full((4, 5, 1), 7, np.uint8),
    }[kind]
    image = as_image(given, "0", 1)
    assert (image.size, image.getpixel((0, 0))) == ((5, 4), 7)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_photographs_are_upright_as_those_of_a_folder(tmp_path, noise, ending):
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[ExifTags.Base.Orientation] = orientation
        noise(12, 8).save(tmp_path / f"{orientation}.{ending}", exif=exif)
        expected = read_image(tmp_path / f"{orientation}.{ending}")
        image = Image.open(tmp_path / f"{orientation}.{ending}")
        for given in (image.convert("RGB"), image, ImageOps.exif_transpose(image), as_image(image, "0", 3), expected):
            np.testing.assert_array_equal(as_image(given, "0", 3), expected)


def test_a_scan_whose_zero_is_white_is_no_negative(tmp_path):
    (tmp_path / "scan.tif").write_bytes(white_is_zero(np.array([[0, 65535]], np.uint16)))
    assert np.asarray(as_image(Image.open(tmp_path / "scan.tif"), "0", 1)).tolist() == [[255, 0]]


def test_an_image_that_is_turned_since_is_another(small):
    lying = Image.new("RGB", (4, 4))
    lying.paste("red", (0, 0, 4, 2))
    squares = [(lying, "a"), (Image.new("RGB", (4, 4)), "b")] * 2
    before = open_data(squares, small).fingerprint
    lying.getexif()[ExifTags.Base.Orientation] = 6
    assert open_data(squares, small).fingerprint != before


def test_other_numbers_of_channels_stay_arrays():
    pixels = np.zeros((4, 5, 6), np.uint8)
    assert as_image(pixels, "0", 6) is pixels


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (3, "data is one of 'folder:PATH', .*an object whose len.. and .i. give .image, label.*, not 3"),
        ((Squares([0, 1]),) * 3, "or a tuple of two"),
        (Squares([]), "Squares: the training part is empty"),
        ((Squares([0, 1]), Squares([])), "the validation part is empty"),
        ((Squares([0, 1], classes=["a", "b"]), Squares([0, 1], classes=["a", "c"])), "different classes"),
        ([1, 2], r"list\[0\] is a int: it must be .image, label."),
        (
            Squares([0, 1], image=lambda i: np.zeros((3, 4, 4), np.float32)),
            "0 of Squares is a ndarray of float32, 3 dim.*no transform",
        ),
        (Squares([0, 7], targets=[0, 7], classes=["a", "b"]), "labels out of range, '7' .1 times., in image 1"),
        (Squares([0, 0]), "only one class, '0'"),
        ((Squares([0, 1]), Squares([0, 2])), "that training lacks: '2'"),
    ],
)
def test_problems(small, dataset, message):
    with pytest.raises(InputError, match=message):
        open_data(dataset, small)


def test_options_that_mean_nothing_for_an_object(small):
    with pytest.raises(InputError, match="path_column means nothing for 'a data set object'"):
        open_data(Squares([0, 1]), small, path_column="a")
