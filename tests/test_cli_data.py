"""Commands that look at data."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jaxtl.cli import main
from jaxtl.cli_data import _caption
from jaxtl.data import sources
from jaxtl.data.image_files import FileSource


@pytest.fixture
def photos(tmp_path):
    for name in ("a$b_c", "d"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(5):
            pixels = np.random.default_rng(index).integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "photos"


def test_a_batch_is_drawn_and_another_epoch_is_another_picture(photos, tmp_path, capsys) -> None:
    drawn = []
    for epoch in (0, 0, 1):
        output = tmp_path / "out" / f"{len(drawn)}.png"
        options = [
            "--output",
            str(output),
            "--size",
            "16",
            "--count",
            "4",
            "--augment",
            "strong",
            "--epoch",
            str(epoch),
        ]
        assert main(["show-batch", f"folder:{photos}", *options]) == 0
        drawn.append(np.asarray(Image.open(output)))
    assert capsys.readouterr().out.startswith("4 images: ")
    np.testing.assert_array_equal(drawn[0], drawn[1])
    below_the_title = [image[80:] for image in drawn]
    assert (below_the_title[0] != below_the_title[2]).any()


def test_no_more_images_are_decoded_than_are_drawn(photos, tmp_path, monkeypatch) -> None:
    decoded, pixels = [], sources.pixels

    def counted(source, index, at_least):
        if isinstance(source, FileSource):  # others ask it
            decoded.append(index)
        return pixels(source, index, at_least)

    monkeypatch.setattr(sources, "pixels", counted)
    monkeypatch.setattr(sources, "check", lambda source, index: decoded.append(index))
    output = str(tmp_path / "b.png")
    assert main(["show-batch", f"folder:{photos}", "--size", "8", "--count", "3", "--output", output]) == 0
    assert len(decoded) == len(set(decoded)) == 3


def test_pictures_of_many_bands(tmp_path) -> None:
    for name in "ab":
        (tmp_path / "bands" / name).mkdir(parents=True)
        for index in range(3):
            np.save(tmp_path / "bands" / name / f"{index}.npy", np.full((9, 9, 6), index, np.uint8))
    output = tmp_path / "b.png"
    words = ["--channels", "6", "--size", "8", "--output", str(output)]
    assert main(["show-batch", f"folder:{tmp_path}/bands", *words]) == 0
    assert output.is_file()


def test_bad_data_is_one_sentence(tmp_path, capsys) -> None:
    assert main(["show-batch", f"folder:{tmp_path}/nowhere"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_table_with_columns_of_its_own_names(photos, capsys, tmp_path) -> None:
    rows = "".join(f"photos/{name}/{index}.png,{index}\n" for name in ("a$b_c", "d") for index in range(5))
    (tmp_path / "t.csv").write_text(f"id,age\n{rows}")
    table, words = f"csv:{tmp_path}/t.csv", ["--path-column", "id", "--label-column", "age", "--task", "regression"]
    assert main(["show-batch", table, *words, "--size", "8", "--output", str(tmp_path / "b.png")]) == 0
    assert main(["check", table, *words]) == 0
    assert "with 1 number: age" in capsys.readouterr().out
    assert main(["check", table]) == 2
    assert "no column for path_column" in capsys.readouterr().err


def test_captions() -> None:
    classes = ("cat", "dog")
    assert _caption(np.int32(1), classes, "class") == "dog"
    several = [_caption(np.float32(label), classes, "multi-label") for label in ([1, 1], [0, 1], [0, 0])]
    assert several == ["cat, dog", "dog", "none"]
    numbers = [_caption(np.float32(label), classes, "regression") for label in ([0.25, 3], [0, 1])]
    assert numbers == ["cat 0.25, dog 3", "cat 0, dog 1"]
