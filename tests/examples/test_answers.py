"""The examples of other answers and other channels, run as a user runs them."""

import datetime
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LEARNT = (
    ("several_labels", r"mean average precision ([\d.]+)", 0.8),
    ("regression", r"\(r2\) ([\d.]+)", 0.7),
    ("six_channels", r"accuracy ([\d.]+)", 0.85),
)


def _turns() -> list[object]:
    """One of them each day, and all among the slow tests: each takes about a minute."""
    today = datetime.date.today().toordinal() % len(LEARNT)
    return [
        pytest.param(*case, id=case[0], marks=() if number == today else pytest.mark.slow)
        for number, case in enumerate(LEARNT)
    ]


@pytest.mark.parametrize(("name", "pattern", "least"), _turns())
def test_it_learns(name: str, pattern: str, least: float, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(pattern, done.stdout)
    assert found, done.stdout
    assert float(found[1]) > least
    assert not list(tmp_path.iterdir())
