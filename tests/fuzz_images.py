"""Reads mutated image files and says what went wrong, as JSON: ``python tests/fuzz_images.py COUNT SEED``.

It runs in a process of its own, which a crash in a decoder ends, and where nothing changes the filters of warnings.
libtiff writes errors of its own to standard error, which Pillow lets through.
"""

from __future__ import annotations

import collections
import gc
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from odd_images import ZOO
from PIL import Image

from jaxtl.data.images import image_size, read_image
from jaxtl.errors import InputError

LIMIT = 10**7  # pixels, so that bombs are found and the others take no time
LONGEST = 20  # seconds for one file
WARM = 0.2  # part of the run after which the memory should not grow any more


def seeds(folder: Path) -> list[tuple[str, bytes]]:
    """Files of the zoo that can be read, with their endings."""
    found = []
    for odd in ZOO:
        if odd.message is None:
            odd.make(folder / odd.file)
            found.append((Path(odd.file).suffix, (folder / odd.file).read_bytes()))
    pixels = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    for ending in (".jpg", ".webp", ".bmp", ".gif", ".tif", ".ppm"):  # with far more pixels than header
        Image.fromarray(pixels).save(folder / f"noise{ending}")
        found += [(ending, (folder / f"noise{ending}").read_bytes())] * 5
    for shape in ((16, 24, 6), (6, 16, 24)):
        np.save(folder / "bands.npy", np.zeros(shape, np.uint8))
        found.append((".npy", (folder / "bands.npy").read_bytes()))
    return found


def mutated(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed anywhere or in the header, a piece cut out, doubled or moved in from elsewhere, or the end lost."""
    found = bytearray(content)
    for _ in range(rng.integers(1, 3)):
        if not found:
            break
        kind = rng.choice((0, 0, 0, 1, 1, 2, 3, 4, 5, 6))
        start = int(rng.integers(len(found)))
        length = int(rng.integers(1, 1 + min(64, len(found))))
        if kind == 0:
            for place in rng.integers(0, len(found), rng.integers(1, 5)):
                found[place] = rng.integers(256)
        elif kind == 1:
            for place in rng.integers(0, min(64, len(found)), rng.integers(1, 4)):
                found[place] = rng.choice((0, 1, 127, 128, 254, 255, rng.integers(256)))
        elif kind == 2:
            del found[start : start + length]
        elif kind == 3:
            found[start:start] = found[start : start + length]
        elif kind == 4:
            at = int(rng.integers(len(other)))
            found[start:start] = other[at : at + length]
        elif kind == 5:
            found[start : start + 4] = bytes(rng.choice((0, 255), 4).astype(np.uint8))
        else:
            del found[start:]
    return bytes(found)


def run(count: int, seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    outcomes: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    slowest = 0.0
    warm = handles = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = seeds(folder)
        for number in range(count):
            if number == int(WARM * count):
                gc.collect()
                warm, handles = resident(), len(os.listdir("/proc/self/fd"))
            (suffix, content), (_, other) = (known[place] for place in rng.integers(0, len(known), 2))
            path = folder / f"fuzz{suffix}"
            path.write_bytes(mutated(content, other, rng))
            channels = int(rng.choice((3, 3, 3, 3, 3, 1, 1, 4, 6)))
            at_least = None if rng.random() < 0.5 else 8
            begun = time.perf_counter()
            signal.alarm(LONGEST)
            try:
                picture = np.asarray(read_image(path, channels, at_least))
                good = picture.dtype == np.uint8 and picture.size and picture.ndim in (2, 3)
                outcomes["image" if good else "strange"] += 1
                size = image_size(path, channels)
                if at_least is None and size is not None and size != picture.shape[1::-1]:
                    outcomes["another size in the header"] += 1
            except InputError:
                outcomes["refused"] += 1
            except BaseException as error:
                kept = Path(tempfile.gettempdir()) / f"fuzz-{seed}-{number}{suffix}"
                kept.write_bytes(path.read_bytes())
                wrong.append(f"{type(error).__name__}: {error} ({kept}, channels {channels}, at_least {at_least})")
            finally:
                signal.alarm(0)
            slowest = max(slowest, time.perf_counter() - begun)
        gc.collect()
        more_handles = len(os.listdir("/proc/self/fd")) - handles
    return {
        "outcomes": dict(outcomes),
        "wrong": wrong,
        "slowest": round(slowest, 2),
        "megabytes_more": (resident() - warm) // 2**20,
        "handles_more": more_handles,
    }


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _hang(*_: object) -> None:
    raise TimeoutError(f"a file took more than {LONGEST} seconds")


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = LIMIT
    signal.signal(signal.SIGALRM, _hang)
    warnings.simplefilter("always", append=True)
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]))))
