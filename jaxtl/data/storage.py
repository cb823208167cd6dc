"""Where the training images are kept between epochs: chosen by their size and the machine's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from jaxtl.data.bands import size_of
from jaxtl.data.images import reduction
from jaxtl.data.sources import Source, image_size
from jaxtl.errors import InputError, nearest

KINDS = ("auto", "device", "disk", "stream")
DEVICE_SHARE = 4  # one part in so many of the device's memory
_ALL_SIZES = 20_000  # sets of more images are measured by a sample
_SAMPLE = 2_000


@dataclasses.dataclass(frozen=True)
class Footprint:
    """What the training images of a set take, in bytes.

    Args:
        images: how many there are.
        memory: as they are kept in memory: decoded whole, or prepared.
        disk: as they are kept on disk, reduced where they are larger than needed.
        padded: as one array on the device, each as large as the largest.
        height: of the largest, in pixels, as they are kept.
        width: of the widest.
        reduced: whether any is kept reduced.
        exact: False where it was taken from a sample, or no size is known.
    """

    images: int
    memory: int
    disk: int
    padded: int
    height: int
    width: int
    reduced: bool
    exact: bool


@dataclasses.dataclass(frozen=True)
class Storage:
    """What was chosen, why, for people, and whether no image is decoded twice."""

    kind: str
    reason: str
    fits: bool = True


def check_kind(wanted: str) -> None:
    """Raises `InputError` for an unknown kind of storage."""
    if wanted not in KINDS:
        raise InputError(f"storage '{wanted}' is none of {', '.join(KINDS)}{nearest(str(wanted), KINDS)}")


def measure(
    source: Source, channels: int, *, at_least: int | None, prepared: tuple[int, int], thorough: bool = False
) -> Footprint | None:
    """The footprint of a source's images, from their headers; None where no size is known.

    Files whose headers cannot be read are taken for as large as the others.

    Args:
        source: the images.
        channels: of the network.
        at_least: short side that is kept, as `jaxtl.data.images.reduction` says; None: `prepared` pixels are kept.
        prepared: (height, width) after the evaluation preprocessing.
        thorough: looks at every image, and decodes it where it is no file and its size is not known otherwise.

    >>> from jaxtl.data.digits import load_digits
    >>> measure(load_digits(), 1, at_least=4, prepared=(8, 8))
    ... # doctest: +ELLIPSIS
    Footprint(images=1797, memory=115008, disk=28752, padded=28752, height=4, width=4, reduced=True, exact=True)
    """
    count = len(source)
    if at_least is None:
        height, width = prepared
        size = count * height * width * channels
        return Footprint(count, size, size, size, height, width, reduced=False, exact=True)
    whole = thorough or count <= _ALL_SIZES
    indices = range(count) if whole else range(0, count, count // _SAMPLE)
    decode = thorough and getattr(source, "check", None) is None
    found = [image_size(source, index) or (size_of(source[index][0]) if decode else None) for index in indices]
    sizes = [size for size in found if size is not None]
    if not sizes:
        return None
    share = count / len(sizes)
    kept = [kept_size(size, at_least, prepared) for size in sizes]
    height, width = max(size[0] for size in kept), max(size[1] for size in kept)
    return Footprint(
        images=count,
        memory=round(share * sum(w * h for w, h in sizes)) * channels,
        disk=round(share * sum(h * w for h, w in kept)) * channels,
        padded=count * height * width * channels,
        height=height,
        width=width,
        reduced=any(reduction(size, at_least) > 1 for size in sizes),
        exact=whole,
    )


def kept_size(size: tuple[int, int], at_least: int | None, prepared: tuple[int, int]) -> tuple[int, int]:
    """Height and width that an image of that width and height is kept at.

    >>> kept_size((4001, 3000), at_least=700, prepared=(224, 224))
    (750, 1001)
    """
    if at_least is None:
        return prepared
    steps = reduction(size, at_least)
    return -(-size[1] // steps), -(-size[0] // steps)


def choose(
    wanted: str,
    footprint: Footprint | None,
    *,
    small: int,
    memory: int,
    device: int | None,
    room: Callable[[], int],
    written: Callable[[], bool] = lambda: False,
) -> Storage:
    """Which kind of storage, and why.

    Args:
        wanted: ``device``, ``disk``, ``stream``, or ``auto``: the device where it is no CPU and the images take no
            more than a quarter of its memory; else memory for small sets; else the disk, as long as they fit there;
            else memory, likewise; else a stream.
        footprint: of the training images; None: not known.
        small: bytes that decoded images may take in the host's memory rather than on disk.
        memory: bytes that they may take there where the disk has no room.
        device: bytes of the device's memory; None for a CPU.
        room: gives the bytes that they may take on disk.
        written: tells whether they are on disk already.

    Raises:
        InputError: an unknown kind, or images that don't fit where they are wanted.

    >>> some = Footprint(100, 4 * 10**7, 10**7, 2 * 10**7, 500, 500, False, True)
    >>> [choose("auto", some, small=2**20, memory=2**30, device=None, room=lambda: room).kind for room in (0, 10**9)]
    ['stream', 'disk']
    >>> print(choose("auto", some, small=2**20, memory=2**30, device=10**9, room=lambda: 0).reason)
    20 MB as one array, at most a quarter of the device's 1.0 GB
    """
    check_kind(wanted)
    if wanted == "stream":
        return Storage("stream", "as asked for")
    if footprint is None:
        return Storage("stream", "the sizes of the images are not known")
    if wanted == "device" or (wanted == "auto" and device is not None and footprint.padded <= device // DEVICE_SHARE):
        if device is not None and footprint.padded > device:
            raise InputError(
                f"the decoded training images take {_bytes(footprint.padded)} on the device, which has "
                f"{_bytes(device)}: use storage='disk'"
            )
        share = "" if device is None else f", at most a quarter of the device's {_bytes(device)}"
        reason = f"{_bytes(footprint.padded)} as one array{share}"
        return Storage("device", reason if wanted == "auto" else "as asked for")
    in_memory = Storage("stream", f"{_bytes(footprint.memory)} decoded, which stay in memory")
    if wanted == "auto" and footprint.memory <= small:
        return in_memory
    if written() or footprint.disk <= (free := room()):
        return Storage("disk", f"{_bytes(footprint.memory)} decoded, {_bytes(footprint.disk)} on disk")
    if wanted == "disk":
        raise InputError(
            f"the decoded training images take {_bytes(footprint.disk)} on disk, where {_bytes(free)} may be used: "
            "free some space, set JAXTL_CACHE to a folder on a larger disk, or use storage='stream'"
        )
    if footprint.memory <= memory:
        return in_memory
    return Storage(
        "stream", f"{_bytes(footprint.disk)} are more than the {_bytes(free)} that may be used on disk", False
    )


def device_bytes() -> int | None:
    """Memory of the default device in bytes; None for a CPU, where it does not tell, and with several processes."""
    import jax

    from jaxtl.backend import device_memory, on_cpu

    if on_cpu() or jax.process_count() > 1:
        return None
    return device_memory()


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if count < 10 * size else f"{count / size:.0f} {unit}"
    return f"{count / 1000:.0f} kB"
