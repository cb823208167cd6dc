"""``RESULTS.md`` from what was measured."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

HEAD = (
    "# jaxtl beside PyTorch\n\n"
    "Written by `python -m benchmarks.run`; how it measures stands in `benchmarks/__init__.py`. A figure is the median "
    "of its turns, with the smallest and the largest in parentheses."
)
BUSY = 0.3  # load average above which other work counts


def report(runs: Mapping[str, Mapping[str, Any]], works: Sequence[str]) -> str:
    """The whole page.

    Args:
        runs: by setting ("NVIDIA H200, 16 cores, full") and work what ``run`` wrote.
        works: the order.
    """
    parts = [HEAD]
    for setting, entries in sorted(runs.items()):
        parts.append(f"## {setting}")
        parts += [section(importlib.import_module(f"benchmarks.{name}"), entries[name]) for name in works
                  if name in entries]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def section(work: Any, entry: Mapping[str, Any]) -> str:
    """One work: what it is, when and on what it was measured, its tables."""
    lines = [f"### {work.TITLE}", work.ABOUT, f"{_where(entry)} {_load(entry)}", work.tables(entry["found"])]
    return "\n\n".join(lines)


def _where(entry: Mapping[str, Any]) -> str:
    machine, sides = entry["machine"], list(_sides(entry["found"]))
    versions = {name: version for side in sides for name, version in side["versions"].items()}
    setups = dict.fromkeys(f"{_framework(side)}: {side['setup']}" for side in sides if side["setup"])
    devices = dict.fromkeys(side["device"] for side in sides)
    inputs = [f"{what} {entry[what]}" for what in ("data", "weights") if entry[what]]
    return (
        f"{entry['date']}, {machine['cpu']}, cores used: {machine['cores']}, {machine['memory_gb']} GB"
        f"{' in huge pages' * machine.get('huge_pages', False)}, device "
        f"{' and '.join(devices)}; Python {machine['python']}, "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}. {'; '.join(setups)}. "
        f"Turns: {turns(entry['found'])}{''.join('; ' + given for given in inputs)}."
    )


def turns(found: Any) -> str:
    """How often its rows were measured.

    >>> turns({"rows": [{"rates": {"jaxtl": [1, 2, 3]}}, {"answers": {"jaxtl": [{}, {}]}}]})
    '2 to 3'
    """
    counts = sorted(set(_turns(found)))
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))


def _turns(found: Any) -> Iterator[int]:
    if isinstance(found, Mapping):
        for key, inner in found.items():
            if key in ("rates", "answers"):
                yield from (len(values) for values in inner.values())
            else:
                yield from _turns(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from _turns(inner)


def _load(entry: Mapping[str, Any]) -> str:
    load = f"Load average {entry['load_before']:.1f} before and {entry['load_after']:.1f} after"
    if entry["load_before"] <= BUSY:
        return f"{load}."
    if entry["machine"]["cores"] == 1:
        return f"{load}: other work was running, compare within a row alone."
    return f"{load}: other work was running, which slows the two unequally. **Measure again.**"


def _framework(side: Mapping[str, Any]) -> str:
    return "PyTorch" if "torch" in side["versions"] else "jaxtl"


def _sides(found: Any) -> Iterator[Mapping[str, Any]]:
    """What the sides said of themselves, wherever it lies."""
    if isinstance(found, Mapping):
        if "versions" in found:
            yield found
            return
        found = list(found.values())
    if isinstance(found, list):
        for inner in found:
            yield from _sides(inner)
