"""Arrays of a source that are chosen and renamed without being read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtl.pretrained import names


class Selection(Mapping):
    """Some of a source's arrays, perhaps under other names, still read one at a time."""

    def __init__(self, source: Mapping[str, Any], keys: list[str], original: Mapping[str, str] | None = None):
        self._source = source
        self._original = {key: (original or {}).get(key, key) for key in keys}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        found = names.source_shapes(self._source)
        return {key: found[name] for key, name in self._original.items()}

    def __getitem__(self, key: str) -> Any:
        return self._source[self._original[key]]

    def __iter__(self) -> Any:
        return iter(self._original)

    def __len__(self) -> int:
        return len(self._original)
