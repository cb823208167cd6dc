from __future__ import annotations

import numpy as np
import pytest
from local_files import shared
from PIL import Image
from small_models import small_model

import jaxtl
from jaxtl.errors import InputError


@pytest.fixture(scope="module")
def model() -> jaxtl.Model:
    return small_model(until="layer1").replace(classes=("ant", "bee", "cat", "dog"))


@pytest.fixture
def files(tmp_path) -> list:
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        Image.fromarray(generator.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(path)
    return paths


def test_answers_are_the_softmax_of_the_logits_in_the_files_order(model, files) -> None:
    found = jaxtl.predict(model, files, top=4)
    assert [answer["path"] for answer in found] == [str(path) for path in files]
    for path, answer in zip(files, found, strict=True):
        with Image.open(path) as image:
            pixels = model.preprocess(image)[None]
        logits = np.asarray(model(jaxtl.normalise(pixels, model.preprocess.mean, model.preprocess.std)))[0]
        expected = np.exp(logits - logits.max())
        expected /= expected.sum()
        assert [label for label, _ in answer["top"]] == [model.classes[i] for i in np.argsort(-expected)]
        assert [p for _, p in answer["top"]] == pytest.approx(sorted(expected, reverse=True), rel=1e-3)
        assert (answer["label"], answer["probability"]) == tuple(answer["top"][0])
        assert sum(p for _, p in answer["top"]) == pytest.approx(1, rel=1e-5)


def test_the_batch_size_does_not_matter(model, files) -> None:
    whole = jaxtl.predict(model, files)
    for batch_size in (1, 2, 5):
        found = jaxtl.predict(model, files, batch_size=batch_size)
        assert [answer["label"] for answer in found] == [answer["label"] for answer in whole]
        assert [a["probability"] for a in found] == pytest.approx([a["probability"] for a in whole], rel=1e-4)


def test_one_path_and_classes_without_names(model, files) -> None:
    (answer,) = jaxtl.predict(model.replace(classes=None), str(files[0]), top=9)
    assert sorted(label for label, _ in answer["top"]) == ["0", "1", "2", "3"]


def test_all_files_that_cannot_be_read_are_listed(model, files, tmp_path) -> None:
    with pytest.raises(InputError, match=r"no such image: .*a\.jpg, .*b\.jpg$"):
        jaxtl.predict(model, [tmp_path / "a.jpg", files[0], tmp_path / "b.jpg"])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(InputError) as error:
        jaxtl.predict(model, [tmp_path / "text.png", *files, tmp_path / "empty.png"], batch_size=2)
    assert "text.png" in str(error.value)
    assert "empty.png' (the file is empty)" in str(error.value)
    with pytest.raises(InputError, match="no image to predict"):
        jaxtl.predict(model, [])


def test_a_network_without_a_head_predicts_nothing(files) -> None:
    with pytest.raises(InputError, match="has no head to predict with"):
        jaxtl.predict(small_model(until="layer1", num_classes=0), files)


def test_real_photographs() -> None:
    folder = shared("data/flowers")
    photographs = sorted(folder.rglob("*.jpg"))[:6]
    model = small_model(until="layer1")
    found = jaxtl.predict(model, photographs)
    assert len(found) == 6
    assert len({answer["probability"] for answer in found}) == 6
