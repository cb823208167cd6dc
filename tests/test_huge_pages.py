from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxtl
from jaxtl import huge_pages

ROOT = Path(jaxtl.__file__).parents[1]
WITHOUT = {name: value for name, value in os.environ.items() if name != huge_pages.TUNABLES}
START = "from jaxtl.huge_pages import restart_with_huge_pages\n"
USED = """
block = bytearray(b"x") * 2**26
found = open("/proc/self/smaps_rollup").read()
print(found.partition("AnonHugePages:")[2].split()[0])
"""
needs_them = pytest.mark.skipif(not huge_pages.lacking(WITHOUT), reason="programs here get no huge pages on request")


def _run(program: str, *words: str, environment: dict[str, str] = WITHOUT, options: tuple[str, ...] = ()) -> str:
    command = [sys.executable, *options, "-c", program, *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


@needs_them
def test_a_restarted_program_holds_its_memory_in_huge_pages() -> None:
    before, after = int(_run(USED)), int(_run(START + "restart_with_huge_pages()\n" + USED))
    assert after > before + 2**15  # kB: half of the block


@needs_them
def test_it_is_the_same_process_with_the_same_arguments_and_restarts_once() -> None:
    program = "import os, sys; print(os.getpid(), *sys.argv[1:], sys.flags.optimize, flush=True);"
    lines = _run(program + START + "restart_with_huge_pages()", "a b", "--c", options=("-O",)).splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert lines[0].endswith(" a b --c 1")


@needs_them
def test_other_settings_of_glibc_stay() -> None:
    told = {**WITHOUT, huge_pages.TUNABLES: "glibc.malloc.perturb=0"}
    program = START + "import os; restart_with_huge_pages(); print(os.environ['GLIBC_TUNABLES'])"
    assert _run(program, environment=told) == "glibc.malloc.perturb=0:glibc.malloc.hugetlb=1\n"


@pytest.mark.parametrize("value", ["0", "1", "2"])
def test_who_has_decided_is_left_alone(value: str) -> None:
    assert not huge_pages.lacking({huge_pages.TUNABLES: f"glibc.malloc.hugetlb={value}"})


@pytest.mark.parametrize(
    ("library", "pages"),
    [
        ("glibc 2.34", "always [madvise] never"),
        ("musl 1.2", "always [madvise] never"),
        (None, "always [madvise] never"),
        ("glibc 2.41", "[always] madvise never"),
        ("glibc 2.41", "always madvise [never]"),
        ("glibc 2.41", None),
    ],
)
def test_nothing_is_started_anew_where_it_would_change_nothing(monkeypatch, tmp_path, library, pages) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: library)
    monkeypatch.setattr(huge_pages, "_ALLOWED", tmp_path / "enabled")
    if pages is not None:
        (tmp_path / "enabled").write_text(pages, encoding="utf-8")
    monkeypatch.delenv(huge_pages.TUNABLES, raising=False)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started anew"))
    huge_pages.restart_with_huge_pages()


@pytest.fixture
def wanting(monkeypatch, tmp_path):
    """A system that gives huge pages to who asks."""
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.41")
    monkeypatch.setattr(huge_pages, "_ALLOWED", tmp_path / "enabled")
    (tmp_path / "enabled").write_text("always [madvise] never\n", encoding="utf-8")


@pytest.mark.parametrize("told", [None, "glibc.malloc.perturb=0"])
def test_a_program_that_cannot_be_started_anew_goes_on(monkeypatch, wanting, told: str | None) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "execv", refused)
    monkeypatch.delenv(huge_pages.TUNABLES, raising=False)
    if told is not None:
        monkeypatch.setenv(huge_pages.TUNABLES, told)
    huge_pages.restart_with_huge_pages()
    assert os.environ.get(huge_pages.TUNABLES) == told


def test_a_run_without_them_says_once_how_to_get_them(monkeypatch, wanting, caplog) -> None:
    monkeypatch.delenv(huge_pages.TUNABLES, raising=False)
    huge_pages.say_where_lacking.cache_clear()
    with caplog.at_level("INFO", "jaxtl"):
        huge_pages.say_where_lacking()
        huge_pages.say_where_lacking()
    assert [f"{huge_pages.TUNABLES}={huge_pages.ASKED}" in record.message for record in caplog.records] == [True]


def test_the_command_is_also_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "jaxtl", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"jaxtl {jaxtl.__version__}\n"
