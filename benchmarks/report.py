"""``RESULTS.md`` from what was measured."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.quiet import quiet_until

HEAD = (
    "# jaxtl beside PyTorch\n\n"
    "Written by `python -m benchmarks.run`; how it measures stands in `benchmarks/__init__.py`. A figure is the median "
    "of its turns, with the smallest and the largest in parentheses."
)


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
    """One work: what it is, and of each call that measured rows of it when and on what it did, and its tables."""
    lines = [f"### {work.TITLE}", work.ABOUT]
    for call in calls(entry):
        lines += [" ".join([_where(call), _load(call), *filter(None, [call.get("note")])]), work.tables(call["found"])]
    return "\n\n".join(lines)


def calls(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An entry, and those of earlier calls of which it keeps rows."""
    return [{name: value for name, value in entry.items() if name != "older"}, *entry.get("older", ())]


def _where(entry: Mapping[str, Any]) -> str:
    machine, rows = entry["machine"], entry["found"]["rows"]
    sides = [side for row in rows for side in row["about"].values()]
    versions = {name: version for side in sides for name, version in side["versions"].items()}
    if entry.get("commit"):
        versions["jaxtl"] += f" ({entry['commit']})"
    setups = dict.fromkeys(f"{_framework(side)}: {side['setup']}" for side in sides if side["setup"])
    devices = dict.fromkeys(side["device"] for side in sides)
    stopped = ", stopped before the last" if any(row.get("unfinished") for row in rows) else ""
    sentences = [
        f"{entry['date']}, {machine['cpu']}, cores used: {machine['cores']}, {machine['memory_gb']} GB"
        f"{' in huge pages' * machine.get('huge_pages', False)}, device "
        f"{' and '.join(devices)}; Python {machine['python']}, "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}",
        "; ".join(setups),
        f"Turns: {turns(rows)}{stopped}{''.join(f'; {given}' for given in dict.fromkeys(_inputs(rows)))}",
    ]
    return " ".join(f"{sentence}." for sentence in sentences if sentence)


def turns(rows: Sequence[Mapping[str, Any]]) -> str:
    """How often they were measured.

    >>> turns([{"rates": {"jaxtl": [1, 2, 3]}}, {"answers": {"jaxtl": [{}, {}]}}])
    '2 to 3'
    """
    counts = sorted({len(values) for row in rows for values in row.get("rates", row.get("answers")).values()})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))


def _inputs(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What was given to them: those on batches made here take none."""
    for row in rows:
        case = row["case"].get("task", row["case"])
        if case.get("data"):
            yield f"data {case['data']}"
        if "weights" in case:
            yield (
                f"weights {case['weights']}"
                if case["weights"]
                else "random weights, with which accuracies mean nothing"
            )


def _load(entry: Mapping[str, Any]) -> str:
    load = f"Load average {entry['load_before']:.1f} before and {entry['load_after']:.1f} after"
    if entry["load_before"] <= quiet_until(entry["machine"]["cores"]):
        return f"{load}."
    if entry["machine"]["cores"] == 1:
        return f"{load}: the machine was not quiet, compare within a row alone."
    return f"{load}: the machine was not quiet, and other work slows the two unequally. **Measure again.**"


def _framework(side: Mapping[str, Any]) -> str:
    return "PyTorch" if "torch" in side["versions"] else "jaxtl"
