"""Compares ResNets with timm's and prints name, parameters in millions, the largest difference and the seconds it took.

python tools/parity.py [NAME ...]          (all of them without a name)

The difference is that of logits and features at two image sizes, in parts of the largest value. Exits with 1 when one
is too large.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def main(names: list[str]) -> int:
    root = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(root), str(root / "tests"), str(root / "tests/models")]
    from test_parity import TOLERANCE, compare

    from jaxtl.models.graph import Graph
    from jaxtl.models.resnet import ARCHITECTURES

    failed = 0
    for name in names or sorted(ARCHITECTURES):
        start = time.perf_counter()
        difference = compare(name)
        millions = sum(leaf.size for leaf in Graph(name).params.values()) / 1e6
        verdict = "" if difference < TOLERANCE else "  TOO LARGE"
        print(f"{name:24} {millions:7.2f} {difference:.1e} {time.perf_counter() - start:6.1f} s{verdict}", flush=True)
        failed += difference >= TOLERANCE
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
