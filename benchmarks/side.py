"""One side in a process of its own: ``python -m benchmarks.side MODULE SIDE CASE``.

It makes ``MODULE.SIDES[SIDE](case)``, writes a line of JSON that says what it is, and from then on answers each line of
JSON that it reads with another one. The questions ``"memory"`` and ``"afterwards"`` are about the side itself.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.host_memory import HostMemory


@dataclass(frozen=True)
class Side:
    """What a module makes for one side.

    Attributes:
        answer: from a question to an answer, both fit for JSON; it returns when all of the work is done.
        device: what it runs on.
        setup: how the framework is set up, for people.
        versions: of the packages it uses.
        same: what has to be equal on all sides, or they do not do the same work.
        more: whatever else the module wants to know of it.
        afterwards: makes what belongs to ``more`` and would add to the side's memory while that is measured.
    """

    answer: Callable[[Any], Any]
    device: str
    setup: str
    versions: dict[str, str]
    same: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    afterwards: Callable[[], dict[str, Any]] = dict


def memory(host: HostMemory) -> dict[str, float | None]:
    """The most bytes that this process and its workers held so far on the host, and the framework on its device where
    that counts."""
    return {"host": host.most(), "device": _device_bytes()}


def _device_bytes() -> float | None:
    if "torch" in sys.modules:
        cuda = sys.modules["torch"].cuda
        return cuda.max_memory_allocated() if cuda.is_available() else None
    if "jax" in sys.modules:
        stats = sys.modules["jax"].local_devices()[0].memory_stats()
        return stats.get("peak_bytes_in_use") if stats else None
    return None


def main(module: str, side: str, case: str) -> None:
    host = HostMemory()
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def say(value: Any) -> None:
        print(json.dumps(value), file=channel, flush=True)

    built = importlib.import_module(module).SIDES[side](json.loads(case))
    say({name: value for name, value in vars(built).items() if name not in ("answer", "afterwards")})
    about = {"memory": lambda: memory(host), "afterwards": built.afterwards}
    for line in sys.stdin:
        question = json.loads(line)
        say(about[question]() if question in about else built.answer(question))


if __name__ == "__main__":
    main(*sys.argv[1:])
