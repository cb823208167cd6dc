"""Compiled programs are kept only where they can be."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from jaxtl import compiled
from jaxtl.compiled import clear_compiled, compiled_folder, compiled_size, keep_compiled


@pytest.fixture
def said(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.setenv("JAXTL_CACHE", str(tmp_path / "cache"))
    found: list[str] = []
    monkeypatch.setattr(compiled, "say", found.append)
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_enable_xla_caches")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield found
    for name, value in before.items():
        jax.config.update(name, value)


def _refuse(monkeypatch, refused) -> None:
    original = compiled.tempfile.TemporaryFile

    def make(dir: Path):
        if refused(dir):
            raise PermissionError(13, "Permission denied", str(dir))
        return original(dir=dir)

    monkeypatch.setattr(compiled.tempfile, "TemporaryFile", make)


def test_a_folder_that_can_be_written_is_used(said) -> None:
    folder = keep_compiled()
    assert folder is not None
    assert folder.parent == compiled_folder()
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_persistent_cache_enable_xla_caches != "none"
    assert not said


def test_clearing_leaves_the_folders_to_processes_that_write_there(said) -> None:
    folder = keep_compiled()
    assert folder is not None
    tuned = folder / "xla_gpu_per_fusion_autotune_cache_dir"
    for file in (folder / "program", tuned / "found"):
        file.write_bytes(b"1234")
    assert (compiled_size(), clear_compiled(), compiled_size()) == (8, 8, 0)
    assert tuned.is_dir()


@pytest.mark.parametrize("why", ["read-only", "a file"])
def test_one_that_cannot_is_not_and_that_is_said_once(why, said, tmp_path, monkeypatch) -> None:
    if why == "a file":
        (tmp_path / "cache").write_text("")
    else:
        _refuse(monkeypatch, lambda folder: True)
    assert [keep_compiled(), keep_compiled()] == [None, None]
    assert jax.config.jax_compilation_cache_dir is None
    (sentence,) = said
    assert str(tmp_path / "cache") in sentence
    assert "compiled programs are not kept" in sentence


@pytest.mark.parametrize("name", ["xla_gpu_per_fusion_autotune_cache_dir", "tmp"])
def test_what_autotuning_found_of_another_user_is_not_added_to(name, said, monkeypatch) -> None:
    folder = keep_compiled()
    assert folder is not None
    (folder / "xla_gpu_per_fusion_autotune_cache_dir" / "tmp").mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", None)
    _refuse(monkeypatch, lambda folder: folder.name == name)
    assert keep_compiled() == folder
    assert jax.config.jax_persistent_cache_enable_xla_caches == "none"
    assert not said
