from __future__ import annotations

import numpy as np
import pytest
from compilations import compilations
from families import rotating
from local_files import shared
from PIL import Image
from small_models import small_model

import jaxtl
from jaxtl.errors import InputError
from jaxtl.models.graph import Graph
from jaxtl.train.predict import batches, files_of


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


def test_a_folder_is_all_images_in_it(model, files, tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    files[0].rename(tmp_path / "deep" / "0.PNG")
    (tmp_path / "notes.txt").write_text("no image")
    found = jaxtl.predict(model, [files[4], tmp_path])
    names = ["4.png", "1.png", "2.png", "3.png", "4.png", "deep/0.PNG"]
    assert [answer["path"] for answer in found] == [str(tmp_path / name) for name in names]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"there is no image in the folder .*empty"):
        jaxtl.predict(model, tmp_path / "empty")


@pytest.mark.parametrize("wrap", [lambda image: image, lambda image: [image], np.asarray, lambda image: b"a.jpg"])
def test_what_is_no_path(model, wrap) -> None:
    with pytest.raises(InputError, match=r"takes paths of image files, and number 0 is a \w+: .*model\.preprocess"):
        jaxtl.predict(model, wrap(Image.new("RGB", (40, 30))))
    with pytest.raises(InputError, match=r"must be a model, as jaxtl.load\('m'\) gives it"):
        jaxtl.predict("m", ["a.jpg"])


def test_few_sizes_are_compiled(model, files) -> None:
    own = model.replace(graph=Graph(model.graph.architecture, **model.graph.options))
    with compilations("<lambda>") as programs:
        for count in (3, 4, 3):
            jaxtl.predict(own, files[:count])
    assert len(programs) == 1


def test_programs_are_kept(model, files, monkeypatch) -> None:
    kept: list[bool] = []
    monkeypatch.setattr("jaxtl.train.predict.keep_compiled", lambda: kept.append(True))
    jaxtl.predict(model, files)
    assert kept == [True]


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


@pytest.mark.parametrize("top", [0, -1])
def test_no_class_at_all_is_not_named(top, model, files) -> None:
    with pytest.raises(InputError, match=f"top is how many of the best classes are named, from 1 on, not {top}"):
        jaxtl.predict(model, files, top=top)


def test_batches_are_read_one_after_the_other_and_go_on_behind_a_broken_file(model, files) -> None:
    files[1].write_bytes(b"")
    parts = batches(model, files_of(model, files), 2)
    first = next(parts)
    files[3].write_text("no image any more")
    second, third = parts
    assert [part.paths for part in (first, second, third)] == [[files[0]], [files[2]], [files[4]]]
    assert [len(part.problems) for part in (first, second, third)] == [1, 1, 0]
    files[1].unlink()
    whole = jaxtl.predict(model, [files[0], files[2], files[4]], batch_size=2)
    assert [answer for part in (first, second, third) for answer in part.answers(model, 3, None)] == whole


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


@pytest.mark.parametrize("tta", [None, "flip"])
def test_several_labels_have_probabilities_of_their_own(tta, model, files) -> None:
    found = jaxtl.predict(model.replace(task="multi-label"), files[:2], top=4, tta=tta)
    for path, answer in zip(files, found, strict=False):
        with Image.open(path) as image:
            pixels = model.preprocess(image)[None]
        views = [pixels, pixels[:, :, ::-1]] if tta else [pixels]
        logits = [model(jaxtl.normalise(view, model.preprocess.mean, model.preprocess.std))[0] for view in views]
        expected = np.mean([1 / (1 + np.exp(-np.asarray(view))) for view in logits], 0)
        assert dict(answer["top"]) == pytest.approx(dict(zip(model.classes, expected.tolist(), strict=True)), rel=1e-4)
        assert answer["probability"] == max(p for _, p in answer["top"])


def test_numbers_are_what_the_network_gives(model, files) -> None:
    (found,) = jaxtl.predict(model.replace(task="regression", classes=None), files[0])
    with Image.open(files[0]) as image:
        pixels = model.preprocess(image)[None]
    expected = model(jaxtl.normalise(pixels, model.preprocess.mean, model.preprocess.std))[0]
    assert found["path"] == str(files[0])
    assert found["values"] == pytest.approx({str(i): float(value) for i, value in enumerate(expected)}, rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "task"), rotating([("sigmoid", "multi-label"), ("mse", "regression"), ("focal", "class")], 1)
)
def test_a_tuned_model_knows_its_task_and_keeps_it(loss: str, task: str, tmp_path) -> None:
    network = jaxtl.load("cifar_resnet20", weights=None, num_classes=3, in_chans=1, until="layer1")
    network = network.replace(preprocess=network.preprocess.replace(size=8))
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
    labels = {"class": np.arange(12) % 3, "multi-label": np.eye(3, dtype=np.int64)[np.arange(12) % 3]}
    labels |= {"regression": np.linspace(0, 1, 36).reshape(12, 3)}
    np.savez(tmp_path / "a.npz", images=images, labels=labels[task])
    data = jaxtl.open_data(f"arrays:{tmp_path / 'a.npz'}", network, task=task)
    recipe = jaxtl.Recipe.from_keywords(loss={"name": loss}, epochs=1, batch_size=5, groups={"*": "fast"})
    tuned = jaxtl.fine_tune(network, data, recipe, progress=False).model
    assert tuned.task == task
    again = jaxtl.load(jaxtl.save(tuned, tmp_path / "tuned"))
    assert again.task == task
    assert jaxtl.load(tmp_path / "tuned", num_classes=2).task == "class"
