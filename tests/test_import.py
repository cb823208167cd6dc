from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import jaxtl

_IMPORT = """
import sys
sockets = []
sys.addaudithook(lambda event, arguments: sockets.append(event) if event.startswith("socket.") else None)
import jaxtl
heavy = {"torch", "torchvision", "timm", "tensorflow", "matplotlib"} & sys.modules.keys()
print(sockets, sorted(heavy))
"""


def test_import_opens_no_socket_and_loads_nothing_heavy():
    command = [sys.executable, "-W", "error", "-c", _IMPORT]
    root = Path(jaxtl.__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[] []\n", "")


def test_installing_brings_neither_torch_nor_tensorflow():
    project = tomllib.loads((Path(jaxtl.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    needed = " ".join(project["dependencies"])
    assert "torch" not in needed
    assert "tensorflow" not in needed
    assert {"tfds", "hf", "parquet"} <= set(project["optional-dependencies"])
