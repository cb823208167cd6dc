"""What would stop a work that was asked for is said before the first is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from benchmarks.options import Options
from jaxtl.errors import InputError, nearest


def check_files(data: Path | None, weights: Path | None) -> None:
    """Raises InputError: the folder or the file is not there, or is of another kind."""
    for split in ("train", "val") if data else ():
        if not any(entry.is_dir() for entry in (data / split).glob("*")):
            raise InputError(
                f"--data {data}: there is no {split}/<class>; name a folder with train/<class> and val/<class>"
            )
    if weights and (weights.suffix != ".safetensors" or not weights.is_file()):
        raise InputError(f"--weights {weights}: there is no such safetensors file")


def to_measure(works: Mapping[str, ModuleType], options: Options) -> Iterator[str]:
    """The names of those works that can be measured; of the others it says why not.

    Raises:
        InputError: no work measures one of ``options.networks``.
    """
    of_works = {name: [row[0] for row in work.networks(options)]
                for name, work in works.items() if hasattr(work, "networks")}  # fmt: skip
    known = {network for networks in of_works.values() for network in networks}
    for network in options.networks:
        if network not in known:
            among = f"they measure {', '.join(sorted(known))}" if known else "they do not measure several"
            raise InputError(f"--networks {network}: not one of these works'; {among}{nearest(network, known)}")
    for name, work in works.items():
        if work.NEEDS_DATA and not options.data:
            print(f"{name} is left out: it needs --data FOLDER with train/<class> and val/<class>")
        elif name in of_works and options.networks and not set(options.networks) & set(of_works[name]):
            print(f"{name} is left out: it measures none of --networks")
        else:
            yield name
