"""Decoded images on disk: whole or not there, bounded, and read as they were written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest

from jaxtl.data import decoded


def picture(index, side=5):
    return np.random.default_rng(index).integers(0, 256, (side + index % 3, side, 3), dtype=np.uint8)


def test_images_come_back(tmp_path):
    for images in (
        decoded.write("key", 150, picture, what="noise", folder=tmp_path, threads=3),
        decoded.read("key", tmp_path),
    ):
        assert len(images) == 150
        for index in range(150):
            np.testing.assert_array_equal(images[index], picture(index))
    assert not images[0].flags.writeable
    about = json.loads((tmp_path / "key/about.json").read_text())
    assert (about["what"], about["images"], about["bytes"]) == (
        "noise",
        150,
        sum(picture(i).nbytes for i in range(150)),
    )
    assert time.strptime(about["created"], "%Y-%m-%dT%H:%M:%S%z")
    assert sorted(place.name for place in tmp_path.iterdir()) == ["key"]


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "own"))
    assert decoded.cache_folder() == tmp_path / "own/decoded"
    monkeypatch.delenv("JAXTL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert decoded.cache_folder() == tmp_path / "jaxtl/decoded"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert decoded.cache_folder() == tmp_path / ".cache/jaxtl/decoded"


def test_an_error_leaves_nothing(tmp_path):
    def load(index):
        if index == 70:
            raise OSError("no space left")
        return picture(index)

    with pytest.raises(OSError, match="no space"):
        decoded.write("key", 100, load, what="noise", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert decoded.read("key", tmp_path) is None


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(tmp_path):
    program = f"""
import pathlib, time, numpy as np
from jaxtl.data import decoded
def load(index):
    if index == 90:
        print("there", flush=True)
        time.sleep(60)
    return np.zeros((50, 50, 3), np.uint8)
decoded.write("key", 100, load, what="noise", folder=pathlib.Path({str(tmp_path)!r}))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)
    (part,) = tmp_path.iterdir()
    assert decoded.read("key", tmp_path) is None
    assert decoded.write("key", 3, picture, what="noise", folder=tmp_path)[2].shape == picture(2).shape
    assert part.exists()  # somebody may still be writing to it
    for place in (part, *part.iterdir()):
        os.utime(place, (1, 1))
    decoded.write("other", 3, picture, what="noise", folder=tmp_path)
    assert sorted(place.name for place in tmp_path.iterdir()) == ["key", "other"]


@pytest.mark.parametrize("broken", ["pixels.bin", "places.npy", "about.json"])
def test_what_is_not_whole_is_written_again(tmp_path, broken):
    decoded.write("key", 9, picture, what="noise", folder=tmp_path)
    file = tmp_path / "key" / broken
    file.write_bytes(file.read_bytes()[:-9])
    assert decoded.read("key", tmp_path) is None
    decoded.write("key", 9, picture, what="noise", folder=tmp_path)
    np.testing.assert_array_equal(decoded.read("key", tmp_path)[8], picture(8))


def test_of_two_writers_one_wins(tmp_path):
    def load(index):
        if index == 1:  # meanwhile somebody else is done
            decoded.write("key", 3, picture, what="first", folder=tmp_path)
        return picture(index)

    images = decoded.write("key", 3, load, what="second", folder=tmp_path)
    assert images.about["what"] == "first"
    np.testing.assert_array_equal(images[2], picture(2))
    assert [place.name for place in tmp_path.iterdir()] == ["key"]


def test_the_longest_unused_make_room(tmp_path):
    for age, key in enumerate(("new", "old", "older")):
        decoded.write(key, 9, picture, what="noise", folder=tmp_path)
        os.utime(tmp_path / key / "about.json", (10**9 - age, 10**9 - age))
    each = sum(file.stat().st_size for file in (tmp_path / "old").iterdir())
    reading = decoded.DecodedImages(tmp_path / "old")
    assert decoded.make_room(each, tmp_path, limit=4 * each) == []
    assert decoded.read("older", tmp_path) is not None  # used last, from now on
    assert decoded.make_room(each, tmp_path, limit=3 * each) == ["old"]
    np.testing.assert_array_equal(reading[8], picture(8))
    assert decoded.make_room(3 * each, tmp_path, limit=3 * each) == ["new", "older"]


def test_never_more_than_half_of_the_free_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: namedtuple("Usage", "free")(1000))
    assert decoded.room(tmp_path / "not/there/yet") == 500
    assert decoded.room(tmp_path, limit=300) == 300
    decoded.write("key", 1, picture, what="noise", folder=tmp_path)
    size = sum(file.stat().st_size for file in (tmp_path / "key").iterdir())
    assert decoded.room(tmp_path) == (1000 + size) // 2
    assert decoded.make_room(500, tmp_path) == []
    assert decoded.make_room(501, tmp_path) == ["key"]
