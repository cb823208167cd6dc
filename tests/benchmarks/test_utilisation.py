"""How busy a GPU is, as nvidia-smi says it."""

import time

from benchmarks.utilisation import Utilisation

PROGRAM = """#!/bin/sh
echo "$@" > "$0.asked"
echo "[N/A]"
echo 55
exec sleep 60
"""


def test_it_asks_about_the_gpu_in_use_and_leaves_out_what_is_no_number(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5ab,GPU-7cd")
    with Utilisation() as used:
        begun = time.monotonic()
        while not used.samples:
            assert time.monotonic() - begun < 30
            time.sleep(0.01)
    assert [percent for _, percent in used.samples] == [55.0]
    assert "--id=GPU-5ab" in (tmp_path / "nvidia-smi.asked").read_text()
