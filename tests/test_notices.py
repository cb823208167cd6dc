from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import jaxtl

SAY = "from jaxtl.notices import say, quiet; say('resized'); say('done')\n"
ROOT = Path(jaxtl.__file__).parents[1]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", "jaxtl: resized\njaxtl: done\n"),
        ("import orbax.checkpoint\n", "jaxtl: resized\njaxtl: done\n"),
        ("import logging; logging.basicConfig(format='LOG %(message)s', level='INFO')\n", "LOG resized\nLOG done\n"),
        ("import logging; logging.getLogger('jaxtl').setLevel('WARNING')\n", ""),
        ("import logging; logging.getLogger('jaxtl').addHandler(logging.NullHandler())\n", ""),
    ],
    ids=["plain", "absl has logged", "own logging", "own level", "own handler"],
)
def test_a_notice_is_seen_once_unless_the_program_says_otherwise(before: str, expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", before + SAY], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == expected
    assert done.stdout == ""


def test_quiet_is_quiet_inside_alone() -> None:
    script = "from jaxtl.notices import say, quiet\nwith quiet(): say('a')\nsay('b')\nwith quiet(): say('c')\nsay('d')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "jaxtl: b\njaxtl: d\n"


def test_standard_error_may_be_exchanged(capsys) -> None:
    script = (
        "import contextlib, io; from jaxtl.notices import say; say('first'); buffer = io.StringIO()\n"
        "with contextlib.redirect_stderr(buffer): say('second')\n"
        "print(buffer.getvalue(), end='')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stderr, done.stdout) == ("jaxtl: first\n", "jaxtl: second\n")
