"""Class folders: what is found, and what is said when something is wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from local_files import shared
from PIL import Image

from jaxtl.data.folder import open_folder
from jaxtl.data.images import EXTENSIONS
from jaxtl.data.opened import VAL_NAMES
from jaxtl.errors import InputError

DATA_PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_one_subfolder_per_class(tree):
    folder = open_folder(tree({"dog": 2, "cat": 3}))
    assert folder.classes == ("cat", "dog")
    assert folder.val is None
    assert folder.train.names == [f"cat/image{i:02d}.png" for i in range(3)] + ["dog/image00.png", "dog/image01.png"]
    assert folder.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert folder.train.labels.dtype == np.int32
    image, label = folder.train[3]
    assert (image.mode, label) == ("RGB", 1)


@pytest.mark.parametrize("val_name", VAL_NAMES)
def test_train_and_val_folders(tree, val_name):
    root = tree({"train/a": 2, "train/b": 2, f"{val_name}/a": 1, f"{val_name}/b": 1})
    folder = open_folder(root)
    assert folder.classes == ("a", "b")
    assert folder.val is not None
    assert folder.val.names == [f"{val_name}/a/image00.png", f"{val_name}/b/image00.png"]
    assert not folder.notes


def test_train_without_val_leaves_the_split_to_the_caller(tree):
    folder = open_folder(tree({"train/a": 2, "train/b": 2}))
    assert folder.val is None
    assert folder.train.names[0] == "train/a/image00.png"


@pytest.mark.parametrize(("train", "val"), [("Training", "Testing"), ("Train", "Val"), ("TRAIN", "dev")])
def test_splits_by_the_names_that_other_kinds_of_data_know(tree, train, val):
    root = tree({f"{train}/glioma": 2, f"{train}/healthy": 2, f"{val}/glioma": 1, f"{val}/healthy": 1})
    folder = open_folder(root)
    assert folder.classes == ("glioma", "healthy")
    assert folder.train.names[0] == f"{train}/glioma/image00.png"
    assert folder.val is not None
    assert folder.val.names == [f"{val}/glioma/image00.png", f"{val}/healthy/image00.png"]


def test_classes_may_be_called_as_splits_are(tree):
    folder = open_folder(tree({"bus": 1, "train": 2, "truck": 1}))
    assert folder.classes == ("bus", "train", "truck")
    assert folder.train.labels.tolist() == [0, 1, 1, 2]
    assert open_folder(tree({"invalid": 1, "valid": 1}, root="coins")).classes == ("invalid", "valid")


@pytest.mark.parametrize(
    ("folders", "which"),
    [
        ({"Testing/a": 1, "Testing/b": 1, "photos/a": 1, "photos/b": 1}, "Testing/"),
        ({"test/a": 1, "test/b": 1, "val/a": 1, "val/b": 1}, "test/, val/"),
        ({"dev": 2, "test": 2}, "dev/, test/"),
    ],
)
def test_a_validation_folder_without_training_images_is_no_class(tree, folders, which):
    root = tree(folders)
    assert refusal(root) == (
        f"{root} holds {which} as splits do, but no train/ with a subfolder for each class: call the folder of the "
        "training images train, and give classes other names"
    )


def test_a_class_may_be_called_test_and_have_folders_of_its_own(tree):
    folder = open_folder(tree({"control": 2, "test/day1": 1, "test/day2": 1}))
    assert folder.classes == ("control", "test")


def test_labels_of_val_follow_the_classes_of_train(tree):
    folder = open_folder(tree({"train/a": 1, "train/b": 1, "train/c": 1, "val/c": 2, "test/a": 1}))
    assert folder.val is not None
    assert folder.val.labels.tolist() == [2, 2]
    assert folder.notes == ("folder not used: test", "no val images of: a, b")


def test_extensions_of_any_case_depth_and_hidden_files(tree):
    root = tree({"a": 1, "b/deep/er": 1, ".git/x": 1})
    shutil.copy(root / "a/image00.png", root / "a/UPPER.PNG")
    shutil.copy(root / "a/image00.png", root / "a/.hidden.png")
    (root / "b/notes.txt").write_text("not an image")
    (root / "readme.md").write_text("beside the classes")
    folder = open_folder(root)
    assert folder.train.names == ["a/UPPER.PNG", "a/image00.png", "b/deep/er/image00.png"]
    assert folder.notes == ("files that are no images in pets/: 1 .txt",)


@pytest.mark.parametrize("ending", sorted(EXTENSIONS))
def test_every_ending_is_read_and_in_the_documentation(tmp_path, ending):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16), (200, 10, 10)).convert("1" if ending == ".pbm" else "RGB").save(
            tmp_path / name / f"one{ending}"
        )
    image, _ = open_folder(tmp_path).train[0]
    assert image.size == (16, 16)
    assert f"`{ending}`" in DATA_PAGE.read_text(encoding="utf-8")


def test_endings_of_photographs_in_less_usual_formats():
    assert {".jp2", ".jpe", ".tga"} < EXTENSIONS


def test_one_channel_reads_grey_images(tree):
    image, _ = open_folder(tree({"a": 1, "b": 1}), channels=1).train[0]
    assert image.mode == "L"


def refusal(path) -> str:
    with pytest.raises(InputError) as error:
        open_folder(path)
    return str(error.value)


def test_a_missing_folder_names_its_nearest_sibling(tree):
    root = tree({"a": 1, "b": 1}, root="flowers")
    assert "does not exist; did you mean 'flowers'?" in refusal(root.parent / "flower")
    assert f"nor does {root.parent / 'nowhere'}" in refusal(root.parent / "nowhere" / "flowers")
    assert "is a file" in refusal(root / "a/image00.png")


def test_images_without_class_subfolders(tree):
    root = tree({"train": 3})
    assert "no class subfolders and 3 images directly in it" in refusal(root / "train")
    (root / "hollow").mkdir()
    assert "no class subfolders and no images in it" in refusal(root / "hollow")


def test_no_images_at_all(tree):
    assert refusal(tree({"a": 0, "b": 0})).startswith("no images in")


def test_a_single_class_points_at_a_folder_in_between(tree):
    assert "only one class, 'a'" in refusal(tree({"a": 2}))
    assert "open that folder" in refusal(tree({"photos/a": 2, "photos/b": 2}, root="wrapped"))


def test_classes_in_val_that_train_lacks(tree):
    message = refusal(tree({"train/daisy": 1, "train/rose": 1, "val/daisy": 1, "val/roses": 1}))
    assert message == "classes in val/ that train/ lacks: 'roses'; did you mean 'rose'?"


def test_many_classes_are_counted(tree, monkeypatch):
    """Not all named, nor each compared with all others."""
    compared = []
    monkeypatch.setattr("jaxtl.data.folder.nearest", lambda name, known: compared.append(name) or "")
    message = refusal(tree({"train/a": 1, "train/b": 1} | {f"val/c{number:02}": 1 for number in range(30)}))
    assert message.endswith("lacks: " + ", ".join(f"'c{number:02}'" for number in range(10)) + " and 20 more")
    assert len(compared) == 10
    folder = open_folder(tree({f"train/c{number:02}": 1 for number in range(30)} | {"val/c00": 1}, root="other"))
    assert folder.notes[0].endswith(", c10 and 19 more")


def test_all_problems_are_listed_at_once(tree):
    root = tree({"train/a": 1, "train/b": 0, "train/c": 1, "val/a": 1, "val/d": 1, "val/c": 0})
    (root / "train/b/x.heic").touch()
    shutil.copy(root / "train/a/image00.png", root / "val/loose.png")
    message = refusal(root)
    assert message.startswith(f"4 problems with {root}:")
    for part in (
        f"class 'b' has no images (only 1 .heic): add images to {root / 'train/b'} or remove the folder",
        "class 'c' has no images: ",
        "1 images lie beside the class folders",
        "train/ lacks: 'd'",
    ):
        assert part in message


def test_a_class_whose_name_is_no_utf8(tree):
    root = tree({"tea": 1, "milk": 1})
    try:
        os.rename(os.fsencode(root / "milk"), os.fsencode(root) + b"/caf\xe9")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert refusal(root) == f"the name of class folder '{root}/caf\\udce9' is not UTF-8: rename it"


def test_real_folders():
    folder = open_folder(shared("data/flowers"))
    assert folder.classes == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert folder.val is not None
    assert (len(folder.train), len(folder.val)) == (2934, 736)
