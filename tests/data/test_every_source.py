"""The same images through every source: the same pixels, labels, classes and splits."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from same_images import CLASSES, COUNT, FORMS, LABELS, pixels

from jaxtl.data.dataset import Data
from jaxtl.data.open import open_data
from jaxtl.data.preprocess import Preprocess

EXACT = Preprocess((20, 24), crop_pct=1.0, crop_mode="squash")


@pytest.fixture(scope="module", params=FORMS)
def spec(request, tmp_path_factory) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other packages while they write
        return FORMS[request.param](tmp_path_factory.mktemp(request.param) / "all")


class Fifty:
    """A data set object."""

    classes = CLASSES

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int):
        if not 0 <= index < COUNT:
            raise IndexError(index)
        return pixels()[index], LABELS[index]


def everything(data: Data) -> set[tuple[bytes, int]]:
    found = [batch for part in ("train", "val") for batch in data.eval_batches(16, split=part)]
    images, labels, mask = (np.concatenate([batch[key] for batch in found]) for key in ("image", "label", "mask"))
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    return {(image.tobytes(), int(label)) for image, label in zip(images[mask], labels[mask], strict=True)}


EXPECTED = {(image.tobytes(), label) for image, label in zip(pixels(), LABELS, strict=True)}


def test_the_same_images_labels_and_classes(spec):
    data = open_data(spec, EXACT, augment="none")
    assert data.classes == CLASSES
    assert data.task == "class"
    assert len(data.train) + len(data.val) == COUNT
    assert everything(data) == EXPECTED
    assert np.bincount(data.val.labels).tolist() == [3, 3, 3]


def test_fingerprints_and_keys_are_those_of_the_next_opening(spec):
    one, other = (open_data(spec, EXACT) for _ in range(2))
    assert one.fingerprint == other.fingerprint
    assert one.content_key("train") == other.content_key("train") != one.content_key("val")
    assert open_data(spec, EXACT, seed=1).fingerprint != one.fingerprint


def test_training_batches_are_a_function_of_the_seed(spec):
    batches = [next(open_data(spec, EXACT, threads=threads).train_batches(8, seed=3)) for threads in (0, 4)]
    np.testing.assert_array_equal(batches[0]["image"], batches[1]["image"])


def test_what_the_storage_asks_for(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path))
    data = open_data(spec, EXACT, augment="none", storage="disk")
    batch = next(data.train_batches(8))
    assert {image.tobytes() for image in batch["image"]} <= {image for image, _ in EXPECTED}
    assert data.storage.kind == "disk"
    assert data.train.size(0) == (24, 20)


def test_names_are_unique_and_a_split_can_be_written_down(spec, tmp_path):
    data = open_data(spec, EXACT, seed=5)
    assert len({*data.train.names, *data.val.names}) == COUNT
    data.write_split(tmp_path / "split.json")
    again = open_data(spec, EXACT, split_file=tmp_path / "split.json")
    assert again.train.names == data.train.names
    assert again.fingerprint == data.fingerprint
    assert again.split == "split of split.json"


def test_folds_share_no_image(spec):
    parts = [open_data(spec, EXACT, folds=5, fold=number).val.names for number in range(5)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == COUNT


def test_an_object():
    data = open_data(Fifty(), EXACT, augment="none")
    assert data.classes == CLASSES
    assert data.name == "Fifty"
    assert everything(data) == EXPECTED
    assert data.fingerprint == open_data(Fifty(), EXACT, augment="none").fingerprint
    assert pickle.dumps(data.split_record())
