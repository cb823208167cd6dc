"""The cache's folder, its bounds, and what is removed first."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from jaxtl import cache, unfinished


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _write(key: str, size: int = 1000, kind: str = "features") -> int:
    with cache.written(kind, key, {"what": key}) as place:
        (place / "data.bin").write_bytes(bytes(size))
    return next(entry.size for entry in cache.entries() if entry.folder.name == key)


def test_the_folder_follows_the_environment(monkeypatch, tmp_path) -> None:
    assert cache.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("JAXTL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "jaxtl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache/jaxtl"


def test_a_user_without_a_home_has_a_folder_among_the_temporary_files(monkeypatch, tmp_path) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("JAXTL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", none)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache.cache_folder() == tmp_path / f"jaxtl-{os.getuid()}"
    _write("one")
    assert cache.cache_folder() == tmp_path / f"jaxtl-{os.getuid()}"
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    (tmp_path / "jaxtl-4321").mkdir()
    if (tmp_path / "jaxtl-4321").stat().st_uid != 4321:
        with pytest.raises(cache.InputError, match="jaxtl-4321 belongs to another user; name another"):
            cache.cache_folder()


def test_the_longest_unused_of_all_kinds_make_room(folder, monkeypatch) -> None:
    each = max(_write("old", kind="decoded"), _write("older"), _write("new"))
    for age, place in enumerate(("features/new", "decoded/old", "features/older")):
        os.utime(folder / place / "about.json", (10**9 - age, 10**9 - age))
    monkeypatch.setenv("JAXTL_CACHE_LIMIT", str(4 * each))
    assert cache.make_room(each)
    assert cache.find("features", "older")  # used last, from now on
    monkeypatch.setenv("JAXTL_CACHE_LIMIT", str(3 * each))
    assert cache.make_room(each)
    assert {entry.folder.name for entry in cache.entries()} == {"new", "older"}
    assert not cache.make_room(3 * each + 1)
    assert len(cache.entries()) == 2


def test_never_more_than_half_of_the_free_disk(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: namedtuple("Usage", "free")(10_000))
    assert cache.room() == 5000
    size = _write("key")
    assert cache.room() == (10_000 + size) // 2
    assert cache.make_room(5000)
    assert cache.find("features", "key")
    assert cache.make_room(5001)
    assert not cache.entries()


def test_a_folder_that_cannot_be_written_is_named(folder) -> None:
    folder.write_text("a file")
    with pytest.raises(cache.InputError, match="cache"), cache.written("features", "key", {}):
        pass


def test_a_cache_that_can_only_be_read_is_read(folder, monkeypatch) -> None:
    def read_only(*given) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    _write("one")
    monkeypatch.setattr(os, "utime", read_only)
    assert cache.find("features", "one") == folder / "features/one"
    assert cache.find("features", "two") is None
    (folder / "features/one/about.json").unlink()
    assert cache.find("features", "one") is None


def test_what_an_interrupted_removal_left_hinders_nobody(folder, monkeypatch) -> None:
    _write("one")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as if killed there
        cache.remove("features", "one")
    assert cache.find("features", "one") is None
    assert not cache.entries()
    _write("one")
    assert cache.find("features", "one")
    (folder / "features/one/about.json").unlink()  # as removals of before left it
    assert cache.find("features", "one") is None
    _write("one")
    assert cache.find("features", "one")


_KILLED = """
import os, signal
from jaxtl import cache
with cache.written("features", "key", {}) as folder:
    (folder / "array.npy").write_bytes(bytes(5000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(folder) -> list[Path]:
    """What a process leaves that is killed while it writes an entry."""
    done = subprocess.run([sys.executable, "-c", _KILLED], cwd=Path(cache.__file__).parents[1], check=False)
    assert done.returncode == -9
    return list((folder / "features").iterdir())


def test_what_a_killed_process_left_is_cleared_at_once(folder) -> None:
    (left,) = _killed(folder)
    assert cache.clear("decoded") == 0
    assert left.exists()
    assert cache.clear("features") == 5000
    assert not left.exists()


def test_what_a_killed_process_left_makes_room(folder) -> None:
    (left,) = _killed(folder)
    assert cache.make_room(1)
    assert not left.exists()


def test_what_is_being_written_stays_however_old(folder) -> None:
    with cache.written("features", "key", {}) as place:
        (place / "data.bin").write_bytes(bytes(1000))
        os.utime(place, (10**9, 10**9))
        assert cache.clear() == 0
        assert cache.make_room(1)
        _write("other")
    assert cache.find("features", "key")


def test_of_another_machine_only_what_is_old_is_removed(folder, monkeypatch) -> None:
    _write("some")
    with monkeypatch.context() as patch:
        patch.setattr(platform, "node", lambda: "another")
        new, old = (tempfile.mkdtemp(prefix=f"{unfinished._prefix()}-", dir=folder / "features") for _ in range(2))
    os.utime(old, (10**9, 10**9))
    cache.clear()
    assert [Path(place).exists() for place in (new, old)] == [True, False]


def test_a_new_entry_moves_nothing_aside(folder, monkeypatch) -> None:
    made: list[str] = []
    original = tempfile.mkdtemp

    def counted(**options):
        made.append(options["prefix"])
        return original(**options)

    monkeypatch.setattr(tempfile, "mkdtemp", counted)
    cache.remove("features", "one")
    _write("one")
    assert len(made) == 1
