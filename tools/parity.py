"""Compares every architecture with timm's and keeps the table in `docs/models.md`.

python tools/parity.py                all of them
python tools/parity.py NAME ...       these; rows of others stay
python tools/parity.py --missing      those without a row, to continue after an interruption

The difference is that of logits and features on random images, higher than wide where the family allows it, all
parameters and statistics random, in parts of the largest value. Exits with 1 when one is too large, or when the numbers
of parameters differ.
"""

from __future__ import annotations

import gc
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
HEAD = "| architecture | parameters | largest difference | tags |\n|---|---:|---:|---:|\n"
KEPT = 10  # networks whose compiled parts stay in memory, for the next of the same kind
_ROW = re.compile(r"\| `(?P<name>[^`]+)` \|.*\|\n")


def rows() -> dict[str, str]:
    """The rows of the table as it is."""
    text = PAGE.read_text(encoding="utf-8")
    return {match["name"]: match[0] for match in _ROW.finditer(text[text.index(HEAD) :])}


def write(table: dict[str, str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index(HEAD)] + HEAD + "".join(table[name] for name in sorted(table)), encoding="utf-8")


def row(name: str) -> tuple[str, bool]:
    """The row of one architecture, and whether it is timm's."""
    import families
    import torch_reference
    from test_parity import TOLERANCE, compare

    import jaxtl
    from jaxtl.models.graph import Graph

    count = sum(leaf.size for leaf in Graph(name).params.values())
    expected = sum(p.numel() for p in torch_reference.timm_network(name).parameters())
    difference = compare(name, oblong=True)
    shorter = "" if name not in families.FAMILIES[families.family_of(name)].too_large else " (fewer blocks)"
    pretrained = len(jaxtl.list_models(f"{name}.*", pretrained=True))
    text = f"| `{name}` | {count:,} | {difference:.1e}{shorter} | {pretrained} |\n"
    return text, difference < TOLERANCE and count == expected


def main(arguments: list[str]) -> int:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/models")]
    import families
    import jax

    table = rows()
    names = [name for name in arguments if not name.startswith("--")] or families.names()
    if "--missing" in arguments:
        names = [name for name in names if name not in table]
    failed = []
    for number, name in enumerate(names):
        start = time.perf_counter()
        try:
            text, same = row(name)
        except AssertionError as error:
            print(f"{name}: {str(error).partition(chr(10))[0]}", flush=True)
            failed.append(name)
            continue
        table[name] = text
        write(table)
        print(f"{text.strip()} {time.perf_counter() - start:.0f} s{'' if same else '  NOT THE SAME'}", flush=True)
        if not same:
            failed.append(name)
        if number % KEPT == KEPT - 1:
            jax.clear_caches()
            gc.collect()
    print(f"{len(names) - len(failed)} of {len(names)} are timm's")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
