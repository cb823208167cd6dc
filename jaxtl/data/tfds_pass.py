"""One pass through records that can only be read whole: labels, and what tells images apart; kept for the next time."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from jaxtl import cache
from jaxtl.data.waiting import waiting
from jaxtl.errors import InputError

KIND = cache.LABELS
_AT_ONCE = 256  # records
_WORTH_KEEPING = 5_000  # records; fewer take no time


@dataclass(frozen=True)
class Found:
    """What a pass found.

    Attributes:
        values: of each field by record, as Python numbers, text and lists.
        digests: of the bytes of each image, as 16 hex digits.
    """

    values: dict[str, list[Any]]
    digests: list[str]


def passed(source: Any, mark: str, image: str, fields: tuple[str, ...], what: str) -> Found:
    """What is in the fields of all records: read from jaxtl's cache, or in one pass, with a bar where it is slow.

    Args:
        source: has a length and gives a list of records for ``__getitems__(range)``.
        mark: changes with the records.
        image: the field of the image's bytes.
        fields: of labels and groups.
        what: the data, for people.

    >>> class Records(list):
    ...     def __getitems__(self, places):
    ...         return [self[place] for place in places]
    >>> passed(Records([{"image": b"1", "label": b"cat"}]), "doctest", "image", ("label",), "a cat").values
    {'label': ['cat']}
    """
    key = hashlib.sha256(json.dumps([mark, image, fields]).encode()).hexdigest()[:16]
    if (found := _kept(key)) is not None and len(found.digests) == len(source):
        return found
    values: dict[str, list[Any]] = {field: [] for field in fields}
    digests = []
    for start in waiting(range(0, len(source), _AT_ONCE), f"labels of {what}"):
        for record in source.__getitems__(range(start, min(start + _AT_ONCE, len(source)))):
            digests.append(hashlib.blake2b(record[image], digest_size=8).hexdigest())
            for field in fields:
                values[field].append(_plain(record[field]))
    found = Found(values, digests)
    if len(digests) >= _WORTH_KEEPING:
        _keep(key, found, what)
    return found


def _keep(key: str, found: Found, what: str) -> None:
    with contextlib.suppress(InputError, OSError):  # a cache that cannot be written costs time alone
        cache.remove(KIND, key)
        with cache.written(KIND, key, {"what": what, "records": len(found.digests)}) as folder:
            (folder / "records.json").write_text(json.dumps(vars(found)), encoding="utf-8")


def _kept(key: str) -> Found | None:
    folder = cache.find(KIND, key)
    try:
        return None if folder is None else Found(**json.loads((folder / "records.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
