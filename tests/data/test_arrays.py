"""Arrays as images: shapes, ranges, names, and what cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jaxtl.data.arrays import PixelSource, open_source
from jaxtl.data.kinds import Options
from jaxtl.data.open import open_data
from jaxtl.errors import InputError


def opened(path, **options):
    return open_source(str(path), 3, Options(**options))


@pytest.fixture
def saved(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "all.npz", **arrays)
        return tmp_path / "all.npz"

    return save


Y = np.array([0, 1, 0, 1])


@pytest.mark.parametrize(("shape", "mode"), [((4, 5, 6), "L"), ((4, 5, 6, 1), "L"), ((4, 5, 6, 3), "RGB")])
def test_grey_and_colour_are_images(saved, shape, mode):
    x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    source = opened(saved(x=x, y=Y)).train
    image, label = source[1]
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size, label) == (mode, (6, 5), 1)
    np.testing.assert_array_equal(np.asarray(image), x[1].squeeze())


def test_other_numbers_of_channels_are_arrays(saved):
    x = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 8), np.uint8)
    source = opened(saved(images=x, labels=Y)).train
    assert isinstance(source[2][0], np.ndarray)
    np.testing.assert_array_equal(source[2][0], x[2])
    assert source.size(2) == (6, 5)


def test_a_range_maps_other_numbers_onto_bytes(saved):
    x = np.array([-1, 0, 0.5, 1, 2], np.float32).reshape(1, 1, 5).repeat(4, 0)
    source = opened(saved(x=x, y=Y), value_range=(0, 1)).train
    assert np.asarray(source[0][0]).tolist() == [[0, 0, 128, 255, 255]]
    wide = (x * 1000 + 1000).astype(np.uint16)
    assert np.asarray(opened(saved(x=wide, y=Y), value_range=[1000, 2000]).train[0][0]).tolist() == [
        [0, 0, 128, 255, 255]
    ]
    ranges = [opened(saved(x=wide, y=Y), value_range=(0, high)).train.identity(0) for high in (2000, 3000)]
    assert ranges[0] != ranges[1]


@pytest.mark.parametrize("form", ["x_{}", "{}_images", "images_{}"], ids=["keras", "medmnist", "images"])
def test_splits_by_the_names_of_arrays(saved, form):
    x = np.arange(4, dtype=np.uint8)[:, None, None].repeat(2, 1)
    labels = form.replace("images", "labels").replace("x_", "y_")
    arrays = {form.format("train"): x, form.format("test"): x[:2], labels.format("train"): Y[:, None]}
    found = opened(saved(**arrays, **{labels.format("test"): Y[:2, None]}))
    assert (len(found.train), len(found.val)) == (4, 2)
    assert found.train.labels.tolist() == Y.tolist()
    assert found.val.names == ["test-000000", "test-000001"]
    assert found.origin == "own arrays"


def test_npy_files_are_not_read_whole(tmp_path):
    x = np.arange(4, dtype=np.uint8)[:, None, None].repeat(2, 1)
    np.save(tmp_path / "images.npy", x)
    np.save(tmp_path / "labels.npy", np.array(["b", "a", "b", "a"]))
    for path in (tmp_path, f"{tmp_path}/images.npy,{tmp_path}/labels.npy"):
        found = opened(path)
        assert isinstance(found.train, PixelSource)
        assert isinstance(found.train._images, np.memmap)
        assert (found.classes, found.train.labels.tolist()) == (("a", "b"), [1, 0, 1, 0])


def test_several_labels_numbers_and_names_of_classes(saved):
    x = np.zeros((4, 2, 2), np.uint8)
    yes = np.eye(4, 3)[[0, 1, 2, 0]]
    names = np.array(["p", "q", "r"])
    found = opened(saved(x=x, y=yes, classes=names))
    assert (found.task, found.classes) == ("multi-label", ("p", "q", "r"))
    assert opened(saved(x=x, y=yes), task="class").train.labels.tolist() == [0, 1, 2, 0]
    assert opened(saved(x=x, y=np.linspace(0, 1, 4))).task == "regression"
    assert opened(saved(x=x, y=[2, 0, 1, 0], classes=names)).train.labels.tolist() == [2, 0, 1, 0]


X = np.zeros((4, 2, 2), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"a": X}, {}, "it holds 'a': it must hold 'images' and 'labels'"),
        ({"x": X}, {}, "it has no labels for 'x'; it holds 'x'"),
        ({"x": X, "y": Y[:3]}, {}, "4 images in 'x' and 3 labels in 'y'"),
        ({"x": X[0], "y": Y}, {}, "'x' has shape .2, 2.: it must be"),
        ({"x": np.zeros((4, 3, 32, 32), np.uint8), "y": Y}, {}, "channels first: put them last"),
        ({"x": X / 2, "y": Y}, {}, "'x' holds float64, whose range nobody knows: give value_range"),
        ({"x": X.astype(np.uint16), "y": Y}, {}, "'x' holds uint16, whose range"),
        ({"x": X, "y": Y}, {"value_range": (1, 1)}, "value_range must be .low, high."),
        ({"x": X, "y": Y, "classes": np.array(["a"])}, {}, "out of range, '1' .2 times.*there are 1 classes"),
        ({"x": X, "y": np.array([0.5, np.nan, 1, 2])}, {}, "'labels' is empty in image 1"),
        ({"x": X, "y": Y * 0}, {}, "only one class, '0'"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, {}, "that training lacks: '2'"),
        ({"x": X[:0], "y": Y[:0]}, {}, "there are no training images"),
        ({"x": np.array([{}] * 4), "y": Y}, {}, "holds Python objects"),
    ],
)
def test_problems(saved, arrays, options, message):
    path = saved(**arrays)
    with pytest.raises(InputError, match=message):
        opened(path, **options)


def test_paths_that_are_no_arrays(tmp_path, saved):
    saved(x=X, y=Y)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    np.save(tmp_path / "x.npy", X)
    for name, message in {
        "al.npz": "does not exist; did you mean 'all.npz'",
        "bad.npz": "cannot be read",
        "x.npy": "is one array: write 'arrays:.*x.npy,LABELS.npy'",
    }.items():
        with pytest.raises(InputError, match=message):
            opened(tmp_path / name)


def test_numbers_that_are_none_are_found_when_they_are_read(saved):
    x = np.zeros((4, 2, 2))
    x[2, 0, 0] = np.nan
    source = opened(saved(x=x, y=Y), value_range=(0, 1)).train
    with pytest.raises(InputError, match="image 'image-000002' holds NaN"):
        source[2]


def test_what_was_kept_of_a_file_is_not_taken_for_another(saved, small):
    keys = []
    for value in (0, 1):
        data = open_data(f"arrays:{saved(x=X + value, y=Y)}", small)
        keys.append((data.fingerprint, data.content_key("train")))
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] != keys[1][1]
