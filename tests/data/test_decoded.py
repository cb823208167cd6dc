"""Decoded images on disk: whole or not there, and read as they were written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from jaxtl.data import decoded


def picture(index, side=5):
    return np.random.default_rng(index).integers(0, 256, (side + index % 3, side, 3), dtype=np.uint8)


def test_images_come_back(cache):
    for images in (decoded.write("key", 150, picture, what="noise", threads=3), decoded.read("key")):
        assert len(images) == 150
        for index in range(150):
            np.testing.assert_array_equal(images[index], picture(index))
    assert not images[0].flags.writeable
    about = json.loads((cache / "decoded/key/about.json").read_text())
    assert (about["what"], about["images"], about["bytes"]) == (
        "noise",
        150,
        sum(picture(i).nbytes for i in range(150)),
    )
    assert sorted(place.name for place in (cache / "decoded").iterdir()) == ["key"]


def test_an_error_leaves_nothing(cache):
    def load(index):
        if index == 70:
            raise OSError("no space left")
        return picture(index)

    with pytest.raises(OSError, match="no space"):
        decoded.write("key", 100, load, what="noise")
    assert list((cache / "decoded").iterdir()) == []
    assert decoded.read("key") is None


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(cache):
    program = """
import time, numpy as np
from jaxtl.data import decoded
def load(index):
    if index == 90:
        print("there", flush=True)
        time.sleep(60)
    return np.zeros((50, 50, 3), np.uint8)
decoded.write("key", 100, load, what="noise")
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)
    (part,) = (cache / "decoded").iterdir()
    assert decoded.read("key") is None
    assert decoded.write("key", 3, picture, what="noise")[2].shape == picture(2).shape
    assert part.exists()  # somebody may still be writing to it
    os.utime(part, (1, 1))
    decoded.write("other", 3, picture, what="noise")
    assert sorted(place.name for place in (cache / "decoded").iterdir()) == ["key", "other"]


@pytest.mark.parametrize("broken", ["pixels.bin", "places.npy", "about.json"])
def test_what_is_not_whole_is_written_again(cache, broken):
    decoded.write("key", 9, picture, what="noise")
    file = cache / "decoded/key" / broken
    file.write_bytes(file.read_bytes()[:-9])
    assert decoded.read("key") is None
    decoded.write("key", 9, picture, what="noise")
    np.testing.assert_array_equal(decoded.read("key")[8], picture(8))


def test_of_two_writers_one_wins(cache):
    def load(index):
        if index == 1:  # meanwhile somebody else is done
            decoded.write("key", 3, picture, what="first")
        return picture(index)

    images = decoded.write("key", 3, load, what="second")
    assert images.about["what"] == "first"
    np.testing.assert_array_equal(images[2], picture(2))
    assert [place.name for place in (cache / "decoded").iterdir()] == ["key"]
