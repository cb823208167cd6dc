"""Decoded images on disk: whole or not there, and read as they were written."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jaxtl.data import decoded


def picture(index, side=5):
    return np.random.default_rng(index).integers(0, 256, (side + index % 3, side, 3), dtype=np.uint8)


def write(key, count, load, what="noise", order=None):
    writer = decoded.Writer(key, count, what)
    for index in range(count) if order is None else order:
        writer.add(index, load(index))
    return writer.finish()


def test_images_come_back(cache):
    order = np.random.default_rng(0).permutation(150).tolist()
    for images in (write("key", 150, picture, order=order), decoded.read("key")):
        assert len(images) == 150
        for index in range(150):
            expected = picture(index)
            np.testing.assert_array_equal(images[index], expected)
    about = json.loads((cache / "decoded/key/about.json").read_text())
    assert (about["what"], about["images"], about["bytes"]) == (
        "noise",
        150,
        sum(picture(i).nbytes for i in range(150)),
    )
    assert sorted(place.name for place in (cache / "decoded").iterdir()) == ["key"]


def test_threads_may_write_and_images_may_be_missing():
    writer = decoded.Writer("key", 150, "noise")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: writer.add(index, picture(index)), range(0, 150, 2)))
    assert [index in writer for index in range(4)] == [True, False, True, False]
    images = writer.finish()
    for index in range(0, 150, 2):
        assert index in images
        assert index + 1 not in images
        np.testing.assert_array_equal(images[index], picture(index))


def test_what_is_not_finished_leaves_nothing(cache):
    writer = decoded.Writer("key", 100, "noise")
    writer.add(0, picture(0))
    assert len(list((cache / "decoded").iterdir())) == 1
    del writer
    gc.collect()
    assert list((cache / "decoded").iterdir()) == []
    program = "import numpy as np; from jaxtl.data import decoded; writer = decoded.Writer('key', 9, 'noise')"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert list((cache / "decoded").iterdir()) == []
    assert decoded.read("key") is None


@pytest.mark.parametrize("mapped", [False, True], ids=["read", "mapped"])
def test_parts_are_read_alone_and_by_many_threads_at_once(mapped):
    images = write("key", 150, picture)
    if mapped:
        images.map()

    def same(first):
        indices = np.array([first, (first + 1) % 150])
        boxes = np.sort(np.random.default_rng(first).integers(0, 6, (2, 2, 2)), axis=1).reshape(2, 4)
        for index, (left, top, right, bottom), part in zip(indices, boxes, images.parts(indices)(boxes), strict=True):
            if not np.array_equal(part, picture(index)[top:bottom, left:right]):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(same, list(range(150)) * 10))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_a_small_file_is_mapped_and_a_large_one_is_not(monkeypatch):
    def mapped(images):
        images.map()
        return "decoded/key/pixels.bin" in Path("/proc/self/maps").read_text()

    images = write("key", 9, picture)
    monkeypatch.setattr(decoded, "MAPPED", images.about["bytes"] - 1)
    assert not mapped(images)
    monkeypatch.setattr(decoded, "MAPPED", images.about["bytes"])
    assert mapped(images)
    images[3][:] = 0  # of a copy
    np.testing.assert_array_equal(images[3], picture(3))
    del images
    gc.collect()
    assert not mapped(write("nothing", 2, picture, order=[]))


def test_a_file_that_became_shorter_is_an_error(cache):
    images = write("key", 9, picture)
    os.truncate(cache / "decoded/key/pixels.bin", 100)
    with pytest.raises(OSError, match="decoded images end before byte 100"):
        images[1]


def test_an_entry_that_is_not_waited_for_is_there_when_the_process_ends(cache, capsys, monkeypatch):
    program = """
import numpy as np
from jaxtl.data import decoded
writer = decoded.Writer("key", 2, "noise")
writer.add(1, np.full((2, 3, 1), 7, np.uint8))
print(writer.finish(wait=False)[1].sum())
"""
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout == "42\n"
    assert decoded.read("key")[1].sum() == 42

    def full(*given):
        raise OSError("No space left on device")

    writer = decoded.Writer("other", 1, "noise")
    writer.add(0, picture(0))
    monkeypatch.setattr(decoded.np, "save", full)
    images = writer.finish(wait=False)
    np.testing.assert_array_equal(images[0], picture(0))
    assert decoded.read("other") is None
    assert "the next run decodes its images again" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(cache, monkeypatch):
    def full(*given):
        raise OSError("No space left on device")

    writer = decoded.Writer("key", 100, "noise")
    writer.add(0, picture(0))
    monkeypatch.setattr(decoded.os, "pwrite", full)
    with pytest.raises(decoded.NotKept, match=r"No space left on device.*JAXTL_CACHE.*storage='stream'"):
        writer.add(1, picture(1))
    assert 1 not in writer
    del writer
    gc.collect()
    assert list((cache / "decoded").iterdir()) == []
    other = decoded.Writer("key", 100, "noise")
    monkeypatch.setattr(decoded.np, "save", full)
    with pytest.raises(decoded.NotKept, match="No space"):
        other.finish()
    assert list((cache / "decoded").iterdir()) == []


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(cache):
    program = """
import time, numpy as np
from jaxtl.data import decoded
writer = decoded.Writer("key", 100, "noise")
for index in range(90):
    writer.add(index, np.zeros((50, 50, 3), np.uint8))
print("there", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)
    assert len(list((cache / "decoded").iterdir())) == 1
    assert decoded.read("key") is None
    assert write("key", 3, picture)[2].shape == picture(2).shape
    assert [place.name for place in (cache / "decoded").iterdir()] == ["key"]


def test_a_folder_that_goes_while_images_are_written_ends_nothing(cache, capsys):
    writer = decoded.Writer("key", 2, "noise")
    writer.add(0, picture(0))
    shutil.rmtree(cache)
    writer.add(1, picture(1))
    images = writer.finish(wait=False)
    assert decoded.read("key") is None
    for index in range(2):
        np.testing.assert_array_equal(images[index], picture(index))
    images.map()
    np.testing.assert_array_equal(images[1], picture(1))
    assert "the next run decodes its images again" in capsys.readouterr().err


@pytest.mark.parametrize("left", [-9, 0], ids=["cut", "empty"])
@pytest.mark.parametrize("broken", ["pixels.bin", "places.npy", "about.json"])
def test_what_is_not_whole_is_written_again(cache, broken, left):
    write("key", 9, picture)
    file = cache / "decoded/key" / broken
    file.write_bytes(file.read_bytes()[:left])
    assert decoded.read("key") is None
    write("key", 9, picture)
    np.testing.assert_array_equal(decoded.read("key")[8], picture(8))


def test_of_two_writers_one_wins(cache):
    def load(index):
        if index == 1:  # meanwhile somebody else is done
            write("key", 3, picture, what="first")
        return picture(index)

    images = write("key", 3, load, what="second")
    assert decoded.read("key").about["what"] == "first"
    np.testing.assert_array_equal(images[2], picture(2))
    assert [place.name for place in (cache / "decoded").iterdir()] == ["key"]
