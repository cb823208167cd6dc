"""``jaxtl check``: everything that is wrong with a folder of images, in one look."""

from __future__ import annotations

import json
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image, ImageEnhance

import jaxtl
from jaxtl.cli import main
from jaxtl.errors import InputError
from jaxtl.studies.check import IMBALANCED, check


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((60, 40), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Four training and two validation images each of cats and dogs, all different."""
    seed = 0
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                seed += 1
                picture(seed).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def checked(folder, **options):
    return check(f"folder:{folder}", progress=False, **options)


def test_a_sound_folder_is_fine(folder, capsys):
    found = checked(folder)
    assert found.fine
    assert not found.warnings
    assert found.classes == {"cat": {"train": 4, "val": 2}, "dog": {"train": 4, "val": 2}}
    assert (found.widths, found.heights) == ((60, 60, 60), (40, 40, 40))
    assert main(["check", f"folder:{folder}"]) == 0
    out = capsys.readouterr().out
    assert "8 train + 4 val images in 2 classes" in out
    assert "nothing has to be mended" in out


@pytest.fixture
def table(tmp_path):
    """Ten pictures with a table of a column more."""

    def write(column: str, cell) -> str:
        for number in range(10):
            picture(number).save(tmp_path / f"{number}.png")
        lines = [f"path,{column}", *(f"{number}.png,{cell(number)}" for number in range(10))]
        (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
        return f"csv:{tmp_path / 'labels.csv'}"

    return write


def test_labels_of_which_an_image_has_any(table, capsys):
    spec = table("label", lambda number: ("red;big", "red", "red;small", "red", "")[number % 5])
    found = check(spec, progress=False)
    assert (found.fine, found.task, found.images) == (True, "multi-label", {"train": 8, "val": 2})
    assert {name: sum(counts.values()) for name, counts in found.classes.items()} == {"red": 8, "big": 2, "small": 2}
    assert main(["check", spec]) == 0
    out = capsys.readouterr().out
    assert "8 train + 2 val images with any of 3 labels" in out
    assert "balanced" not in out


def test_numbers(table, tmp_path, capsys):
    assert main(["check", table("label", lambda number: f"{number}.5")]) == 0
    assert "8 train + 2 val images with 1 number: label\n" in capsys.readouterr().out
    images = np.random.default_rng(0).integers(0, 256, (10, 20, 20, 3), dtype=np.uint8)
    np.savez(tmp_path / "two.npz", images=images, labels=np.random.default_rng(1).random((10, 2)))
    assert main(["check", f"arrays:{tmp_path / 'two.npz'}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["task"], found["images"]) == ("regression", {"train": 8, "val": 2})
    assert (len(found["outputs"]), found["classes"]) == (2, {})


def test_every_broken_image_is_told_with_its_reason(folder, capsys):
    (folder / "train/cat/empty.jpg").touch()
    (folder / "train/cat/page.jpg").write_text("<!DOCTYPE html><html></html>")
    (folder / "train/dog/cut.png").write_bytes((folder / "train/dog/0.png").read_bytes()[:300])
    (folder / "val/dog/lost.png").symlink_to(folder / "nowhere.png")
    (folder / "val/dog/round.png").symlink_to(folder / "val/dog/round.png")
    (folder / "val/cat/bomb.bmp").write_bytes(bomb())
    found = checked(folder)
    assert not found.fine
    assert len(found.unreadable) == len(found.problems) == 6
    for name, reason in [
        ("empty.jpg", "the file is empty"),
        ("page.jpg", "it holds a web page"),
        ("cut.png", "replace it or delete it"),
        ("lost.png", "a link to a file that does not exist"),
        ("round.png", "a link that leads back to itself"),
        ("bomb.bmp", "900 megapixels, more than the 89 that are read"),
    ]:
        assert any(name in line and reason in line for line in found.unreadable), name
    assert main(["check", f"folder:{folder}"]) == 2
    assert "to be mended (6)" in capsys.readouterr().out


def bomb() -> bytes:
    """The header of a bitmap of 900 megapixels."""
    sides = (30_000).to_bytes(4, "little") * 2
    return b"BM" + bytes(8) + b"\x36\0\0\0" + b"\x28\0\0\0" + sides + b"\x01\0\x18\0" + bytes(24) + bytes(100)


def test_json_is_the_same(folder, capsys):
    (folder / "train/cat/empty.jpg").touch()
    assert main(["check", f"folder:{folder}", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["fine"] is False
    assert found["classes"]["cat"] == {"train": 5, "val": 2}
    assert found["unreadable"] == found["problems"]
    assert "empty.jpg" in found["problems"][0]


def test_what_keeps_a_folder_from_being_opened_is_listed_with_the_rest(folder):
    (folder / "train/empty").mkdir()
    (folder / "val/bird").mkdir()
    picture(70).save(folder / "val/bird/0.png")
    (folder / "train/dog/broken.png").write_bytes(b"")
    for number in range(4):
        (folder / f"train/cat/{number}.png").write_bytes(b"")
    problems = "\n".join(checked(folder).problems)
    for part in (
        "class 'empty' has no images",
        "classes in val/ that train/ lacks: 'bird'",
        "broken.png",
        "no train image can be read of class 'cat'",
    ):
        assert part in problems


def test_a_single_class(folder):
    shutil.rmtree(folder / "train/dog")
    shutil.rmtree(folder / "val")
    assert any("only one class" in problem for problem in checked(folder).problems)


def test_duplicates_across_splits_and_classes(folder):
    shutil.copy(folder / "train/cat/0.png", folder / "val/cat/copy.png")
    shutil.copy(folder / "train/cat/1.png", folder / "train/dog/other.png")
    ImageEnhance.Brightness(picture(3)).enhance(1.1).save(folder / "val/cat/brighter.jpg")
    shutil.copy(folder / "train/cat/3.png", folder / "train/cat/twice.png")  # contradicts nothing
    found = checked(folder)
    assert found.fine
    assert found.duplicates == (("train/cat/0.png", "val/cat/copy.png"),)
    assert found.contradictions == (("train/cat/1.png", "train/dog/other.png"),)
    assert found.look_alikes == (("train/cat/2.png", "val/cat/brighter.jpg"),)
    assert len(found.warnings) == 3
    assert "train/cat/0.png = val/cat/copy.png" in str(found)


def test_a_folder_without_a_split_is_divided_as_training_does_it(folder):
    shutil.rmtree(folder / "val")
    for name in ("cat", "dog"):
        (folder / "train" / name).rename(folder / name)
        for number in range(10, 16):
            picture(100 + number + 100 * (name == "dog")).save(folder / name / f"{number}.png")
    (folder / "train").rmdir()
    data = jaxtl.open_data(f"folder:{folder}", jaxtl.Preprocess(size=32))
    held, kept = data.val.names[0], next(name for name in data.train.names if name.startswith("cat"))
    shutil.copy(folder / kept, folder / held)
    brighter = ImageEnhance.Brightness(Image.open(folder / data.train.names[-1])).enhance(1.1)
    brighter.save(folder / data.val.names[-1])
    found = checked(folder)
    assert found.images == {"train": len(data.train), "val": len(data.val)}
    assert found.duplicates == (tuple(sorted((held, kept))),)
    assert found.look_alikes == (tuple(sorted((data.train.names[-1], data.val.names[-1]))),)
    for number in range(1, 16):
        (folder / f"dog/{number}.png").unlink(missing_ok=True)
    (problem,) = checked(folder).problems
    assert "fewer than two images in class 'dog'" in problem


def test_pictures_that_are_too_similar(folder, monkeypatch):
    still = np.asarray(picture(0)).astype(int)
    for number in range(20):
        pixels = still + np.random.default_rng(number).integers(-3, 4, still.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"val/dog/still{number}.png")
        shutil.copy(folder / f"val/dog/still{number}.png", folder / f"train/cat/still{number}.png")
    whole = checked(folder)
    assert len(whole.look_alikes) == 20 * 19
    assert not any("too similar" in warning for warning in whole.warnings)
    monkeypatch.setattr("jaxtl.studies.alike.MOST_FOUND", 50)
    found = checked(folder)
    assert len(found.look_alikes) == 50
    assert set(found.look_alikes) < set(whole.look_alikes)
    assert found.warnings[-1].endswith(
        "so similar to one another that the search for look-alikes ended early, with 50 pairs"
    )


def test_imbalance_and_files_that_are_no_images(folder):
    for number in range(10, 10 + int(4 * IMBALANCED)):
        picture(number + 100).save(folder / f"train/cat/{number}.jpg")
    (folder / "train/cat/notes.txt").touch()
    warnings = "\n".join(checked(folder).warnings)
    assert "class 'cat' has 44 training images and 'dog' 4" in warnings
    assert "1 .txt" in warnings


def test_names_of_all_kinds_and_links_in_a_circle(folder):
    for number, name in enumerate(["with space.png", "Käfer.png", "猫.png", "😀.png", "UPPER.PNG", "a.b.JPG"]):
        picture(200 + number).save(folder / "train/cat" / name)
    (folder / "train/dog/again").symlink_to(folder / "train/dog")
    (folder / "train/dog/up").symlink_to(folder)
    (folder / "train/loop").symlink_to(folder / "train")
    (folder / "train/cat/x.jpg").mkdir()
    picture(300).save(folder / "train/cat/x.jpg/inside.png")
    signal.alarm(60)
    try:
        found = checked(folder)
    finally:
        signal.alarm(0)
    assert found.fine
    assert list(found.classes) == ["cat", "dog"]
    assert found.classes["cat"]["train"] == 11
    assert any("link to a folder that is read already: train/dog/again" in warning for warning in found.warnings)


def test_names_that_are_no_utf8(folder, capsys):
    strange = os.fsencode(folder / "train/cat") + b"/caf\xe9.jpg"
    picture(400).save(folder / "plain.jpg")
    try:
        shutil.move(os.fsencode(folder / "plain.jpg"), strange)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert main(["check", f"folder:{folder}"]) == 0
    with open(strange, "wb"):
        pass
    assert main(["check", f"folder:{folder}"]) == 2
    assert "caf\\udce9.jpg' (the file is empty)" in capsys.readouterr().out


def test_scans_of_several_depths(folder):
    for number, largest in enumerate((4095, 4095, 65535)):
        pixels = np.random.default_rng(number).integers(0, largest + 1, (40, 40)).astype(np.uint16)
        pixels[0, 0] = largest
        Image.fromarray(pixels).save(folder / f"train/cat/scan{number}.png")
    (told,) = checked(folder).warnings
    assert "become bytes in 2 ways" in told
    assert "bits 4 to 11 of 2 (such as 'train/cat/scan0.png'), the upper eight of 16 bits of 1" in told
    (folder / "train/cat/scan2.png").unlink()
    assert not checked(folder).warnings


def test_pictures_of_six_bands(tmp_path):
    for name in ("dry", "wet"):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (30, 20, 6), dtype=np.uint8)
            np.save(tmp_path / name / f"{number}.npy", pixels[:, :, ::-1] if name == "wet" else pixels)
    assert checked(tmp_path, channels=6).fine
    assert not checked(tmp_path).fine


def test_folders_that_are_not_there(tmp_path, capsys):
    with pytest.raises(InputError, match="does not exist"):
        checked(tmp_path / "nowhere")
    assert main(["check", "nonsense"]) == 2
    assert "unknown data" in capsys.readouterr().err
