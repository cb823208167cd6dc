"""Programs are compiled, and kept on disk, so that the next process need not compile them again."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from jaxtl.cache import cache_folder
from jaxtl.errors import InputError
from jaxtl.files import make_folder
from jaxtl.notices import say

LIMIT = 4 * 2**30
"""Bytes of compiled programs beyond which all of them are removed."""

_AUTOTUNED = "xla_gpu_per_fusion_autotune_cache_dir"  # JAX's name of the folder for it
_refused: set[Path] = set()


def keep_compiled() -> Path | None:
    """Gives JAX's persistent compilation cache a folder, ``compiled`` in jaxtl's cache, unless it has one already.

    Programs that took a second or more to compile are kept, and on GPUs what autotuning found. A folder serves one kind
    of processor, because programs for a CPU run on no lesser one. ``JAX_ENABLE_COMPILATION_CACHE=false`` switches it
    off, ``JAX_COMPILATION_CACHE_DIR`` names another folder. A folder that cannot be written is not used, which is said
    once: on a GPU it would end the program.

    Returns:
        the folder; None where JAX was configured otherwise, or the folder cannot be written.

    >>> folder = keep_compiled()
    >>> jax.config.jax_compilation_cache_dir is not None
    True
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return None
    folder = compiled_folder() / hashlib.sha256(_processor().encode()).hexdigest()[:12]
    if folder in _refused:
        return None
    if compiled_size() > LIMIT:
        clear_compiled()
    if (problem := _cannot_be_written(folder)) is not None:
        _refused.add(folder)
        say(f"compiled programs are not kept: {problem}; name another folder with JAXTL_CACHE")
        return None
    tuned = folder / _AUTOTUNED
    if any(map(_cannot_be_written, [tuned, *(inner for inner in tuned.glob("*") if inner.is_dir())])):
        # XLA takes a failure to write there for an error
        config.update("jax_persistent_cache_enable_xla_caches", "none")
    config.update("jax_compilation_cache_dir", str(folder))
    from jax.experimental.compilation_cache import compilation_cache

    compilation_cache.reset_cache()  # what was compiled before may have settled that there is none
    return folder


def compiled(lowered: Any) -> Any:
    """Compiles what ``jax.jit(...).lower(...)`` returned, and hands the memory that compiling took back to the system:
    up to a gigabyte for a deep network's training step.

    >>> compiled(jax.jit(lambda x: x + 1).lower(1.0))(2.0).item()
    3.0
    """
    program = lowered.compile()
    give_memory_back()
    return program


def give_memory_back() -> None:
    """Hands memory that was freed back to the system. glibc would keep it, some for every thread there was; other C
    libraries see to it themselves.

    >>> give_memory_back()
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def compiled_folder() -> Path:
    """Where compiled programs lie."""
    return cache_folder() / "compiled"


def compiled_size() -> int:
    """Bytes of all compiled programs."""
    return sum(size for _, size in _files())


def clear_compiled() -> int:
    """Removes them; the bytes they took. Their folders stay: another process may be about to write there, and XLA takes
    a failure to do so for an error."""
    removed = 0
    for file, size in _files():
        with contextlib.suppress(OSError):  # removed meanwhile, or another user's
            file.unlink()
            removed += size
    return removed


def _files() -> Iterator[tuple[Path, int]]:
    """With their sizes."""
    for folder, _, names in os.walk(compiled_folder()):
        for file in (Path(folder, name) for name in names):
            with contextlib.suppress(OSError):  # cleared meanwhile by another process
                size = file.stat().st_size
                yield file, size


def _cannot_be_written(folder: Path) -> str | None:
    """Why no file can be made in a folder, which is made where it is not there; None where one can."""
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except (InputError, OSError) as error:
        return str(error)
    return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    kinds = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(kinds)))
