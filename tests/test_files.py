"""Files that have their place on the disk before anything is in them."""

from __future__ import annotations

import errno
import os

import pytest

from jaxtl.errors import InputError
from jaxtl.files import check_new, check_writable, reserve


def _refusing(number: int):
    def refuses(*_):
        raise OSError(number, os.strerror(number))

    return refuses


def _sparse(path, size: int):
    with path.open("wb") as file:
        file.write(b"head")
        file.truncate(size)
    return path


@pytest.mark.parametrize("way", ["the system's", "not supported", "not there"])
def test_reserving_takes_the_space_and_changes_no_byte(way, tmp_path, monkeypatch) -> None:
    if way == "not supported":
        monkeypatch.setattr(os, "posix_fallocate", _refusing(errno.EOPNOTSUPP), raising=False)
    elif way == "not there":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    size = 3 * 2**20 + 5
    file = _sparse(tmp_path / "file", size)
    reserve(file)
    assert file.read_bytes() == b"head" + bytes(size - 4)
    assert file.stat().st_blocks * 512 >= size


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", _refusing(errno.ENOSPC), raising=False)
    with pytest.raises(OSError, match="No space left"):
        reserve(_sparse(tmp_path / "file", 100))


def test_what_cannot_be_written_is_told_before(tmp_path, monkeypatch) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("epochs: 1")
    check_writable(file)
    check_new(tmp_path / "new" / "plan.yaml")
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match=r"plan\.yaml is there already"):
        check_new(file)
    with pytest.raises(InputError, match=r"plan\.yaml is a file, and .*b\.yaml cannot be in it"):
        check_writable(file / "a" / "b.yaml")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(tmp_path / "new" / "plan.yaml")
