"""``results.json``, what was measured, and ``RESULTS.md``, the page made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import calls, report
from jaxtl.files import write_whole

Entry = Mapping[str, Any]


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """By setting and work what calls of ``python -m benchmarks.run`` found; empty where there is no file yet."""
    file = folder / "results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def write(folder: Path, runs: Mapping[str, Mapping[str, Any]], works: Sequence[str]) -> None:
    """Both files, or none where the page cannot be made."""
    text = json.dumps(runs, indent=1, sort_keys=True) + "\n"
    page = report(json.loads(text), works)
    write_whole(folder / "results.json", text)
    write_whole(folder / "RESULTS.md", page)


def together(earlier: Entry | None, entry: Entry) -> dict[str, Any]:
    """An entry that keeps, as ``older``, what earlier calls found and this one does not replace.

    A row takes the place of those with the same case once it has all its turns.

    >>> first = {"date": "one", "found": {"rows": [{"case": "a"}, {"case": "b"}]}}
    >>> together(first, {"date": "two", "found": {"rows": [{"case": "b"}]}})["older"]
    [{'date': 'one', 'found': {'rows': [{'case': 'a'}]}}]
    >>> "older" in together(first, {"date": "two", "found": {"rows": [{"case": "b"}, {"case": "a"}]}})
    False
    """
    replaced = {_key(row) for row in entry["found"]["rows"] if not row.get("unfinished")}
    older = []
    for call in calls(earlier) if earlier else ():
        rows = [row for row in call["found"]["rows"] if _key(row) not in replaced]
        if rows:
            older.append({**call, "found": {**call["found"], "rows": rows}})
    return {**entry, **({"older": older} if older else {})}


def _key(row: Mapping[str, Any]) -> str:
    return json.dumps(row["case"], sort_keys=True)
