"""The output of a network's fixed part for every image of a split: computed once, kept on disk, found again.

It is keyed by everything that its numbers depend on: the weights and statistics of the part, its options, the images,
their preprocessing and, of training images, the random changes of the view; and by the precision, JAX's of products
too, and the batches in which it was computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from jaxtl import cache
from jaxtl.backend import device
from jaxtl.data.dataset import Data
from jaxtl.data.pipeline import Batch
from jaxtl.errors import InputError
from jaxtl.files import reserve
from jaxtl.jax_settings import matmul_precision
from jaxtl.jitted import jit
from jaxtl.models.graph import POOLED, Graph
from jaxtl.notices import say
from jaxtl.recipe.training import Precision
from jaxtl.train.step import prepared
from jaxtl.trees import Tree, flatten

KIND = cache.FEATURES
_FORMAT = 2  # to be raised when the same settings give other pixels or features
_OPTIONS_OF_THE_HEAD = ("num_classes", "head", "drop_rate", "drop_path_rate", "remat", "until")


@dataclass(frozen=True)
class FixedPart:
    """A network up to some stage, in evaluation mode.

    Attributes:
        graph: of the network.
        params: all its parameters.
        batch_stats: all its statistics.
        preprocess: mean and std for uint8 images.
        after: the last stage, or ``POOLED``.
        precision: "f32", or "bf16": computed and kept in bfloat16.
    """

    graph: Graph
    params: Tree
    batch_stats: Tree
    preprocess: Any
    after: str
    precision: Precision = "f32"

    def shape(self, size: tuple[int, int], channels: int) -> jax.ShapeDtypeStruct:
        """Shape and type of the output for one image of that height and width."""
        image = jax.ShapeDtypeStruct((1, *size, channels), np.uint8)
        found = jax.eval_shape(self._function(), self.params, self.batch_stats, image)
        return jax.ShapeDtypeStruct(found.shape[1:], found.dtype)

    def __call__(self, images: np.ndarray) -> jax.Array:
        """The output for uint8 images (B, H, W, C)."""
        key = ("fixed part", self.after, self.preprocess, self.precision)
        run = self.graph.remember(key, lambda: jit(self._function()))
        return run(self.params, self.batch_stats, images)

    def _function(self) -> Callable[[Tree, Tree, jax.Array], jax.Array]:
        """Holds no arrays, so that the graph may remember it."""
        graph, preprocess, after, precision = self.graph, self.preprocess, self.after, self.precision

        def run(params: Tree, batch_stats: Tree, images: jax.Array) -> jax.Array:
            return graph.output_of(params, batch_stats, prepared(images, preprocess, precision), after)

        return run

    def key(self) -> str:
        """Hex digits over everything that the output depends on but the images."""
        graph = self.graph
        body = graph.stages[:-1]
        stages = body if self.after == POOLED else body[: body.index(self.after) + 1]
        digest = hashlib.sha256()
        options = {name: value for name, value in graph.options.items() if name not in _OPTIONS_OF_THE_HEAD}
        about = [_FORMAT, graph.architecture, sorted(options.items()), stages, self.after, self.precision]
        about += [device().platform, *filter(None, [matmul_precision()])]
        digest.update(json.dumps(about, default=repr).encode())
        for path, leaf in sorted((flatten(self.params) | flatten(self.batch_stats)).items()):
            if graph.stage_of(path) in stages:
                digest.update(path.encode())
                digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()


def variant(data: Data, view: int) -> int | None:
    """Which variant of the training images a view takes; None, evaluation's pixels, where all are alike."""
    changed = data.augment.is_random or data.train_preprocess != data.preprocess
    return view if changed else None


def is_on_disk(
    part: FixedPart,
    data: Data,
    split: str,
    *,
    view: int | None,
    seed: int,
    batch_size: int,
    part_key: str | None = None,
) -> bool:
    """Whether `features_of` finds them there."""
    return _stored(_key(part_key or part.key(), data, split, view, seed, batch_size)) is not None


def features_of(
    part: FixedPart,
    data: Data,
    split: str,
    *,
    view: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    part_key: str | None = None,
) -> np.ndarray:
    """The output of a fixed part for every image of a split, from the cache where it is there, else computed.

    On disk it stays as long as the cache has room for it, but for images that the next run cannot tell that it has
    them: then it goes with the data.

    Args:
        part: the network up to the stage in question.
        data: opened with its preprocessing.
        split: "train" or "val".
        view: which random variant of the training images (``data.view_batches``); None: evaluation's pixels.
        seed: of the variants.
        batch_size: images at once; it changes the result by rounding at most, so that others are kept apart.
        part_key: ``part.key()``, where it is known already.

    Returns:
        (N, ...) in the split's order; memory-mapped from the cache, or in memory where the cache has no room for it.
    """
    key = _key(part_key or part.key(), data, split, view, seed, batch_size)
    if (found := _stored(key)) is not None:
        return found
    cache.remove(KIND, key)  # what cannot be read would stay in the way
    count = len(data.train if split == "train" else data.val)
    batches = data.eval_batches(batch_size, split) if view is None else data.view_batches(batch_size, view, seed)
    size = (data.preprocess if view is None else data.train_preprocess).size
    row = part.shape(size, data.preprocess.channels)
    needed = count * int(np.prod(row.shape, dtype=np.int64)) * row.dtype.itemsize
    variant = "evaluation's pixels" if view is None else f"variant {view} of seed {seed}"
    about = {
        "what": f"{part.graph.architecture}: {part.after}",
        "data": data.name,
        "of": f"{count} {split} images, {variant}",
        "dtype": str(row.dtype),
    }
    shape = (count, *row.shape)
    with contextlib.ExitStack() as entry:
        array = _on_disk(entry, key, about, row.dtype, shape) if cache.make_room(needed) else None
        if array is None:
            array = np.empty(shape, _storable(row.dtype))
        _fill(array, part, batches)
        try:
            entry.close()
        except OSError as error:
            say(f"{_named(about)} are not kept for the next run: {error}")
    if not data.found_again(split):
        weakref.finalize(data, cache.remove, KIND, key)
    found = _stored(key)
    return array.view(row.dtype) if found is None else found


def _on_disk(
    entry: contextlib.ExitStack, key: str, about: dict[str, Any], dtype: Any, shape: tuple[int, ...]
) -> np.ndarray | None:
    """An array in the file of a new entry of the cache, which is made when ``entry`` ends; None where the disk has no
    space after all, or the folder is another user's."""
    try:
        with contextlib.ExitStack() as made:
            folder = made.enter_context(cache.written(KIND, key, about))
            array = np.lib.format.open_memmap(folder / "array.npy", "w+", _storable(dtype), shape)
            reserve(folder / "array.npy")
            made.callback(array.flush)
            entry.push(made.pop_all())
            return array
    except (OSError, InputError) as error:
        say(f"{_named(about)} stay in memory and not in {cache.cache_folder()}: {error}")
        return None


def _named(about: dict[str, Any]) -> str:
    return f"features ({about['what']}, {about['of']})"


def _key(part_key: str, data: Data, split: str, view: int | None, seed: int, batch_size: int) -> str:
    digest = hashlib.sha256(part_key.encode())
    settings: list[Any] = [data.content_key(split), data.preprocess.to_dict(), batch_size]
    if view is not None:
        settings += [data.train_preprocess.to_dict(), asdict(data.augment), data.storage.kind, seed, view]
    digest.update(json.dumps(settings, sort_keys=True, default=repr).encode())
    return digest.hexdigest()[:32]


def _stored(key: str) -> np.ndarray | None:
    folder = cache.find(KIND, key)
    if folder is None:
        return None
    try:
        dtype = json.loads((folder / "about.json").read_text(encoding="utf-8"))["dtype"]
        return np.load(folder / "array.npy", mmap_mode="r").view(jax.numpy.dtype(dtype))
    except (OSError, ValueError, EOFError, KeyError, TypeError):  # cleared meanwhile, or damaged
        return None


def _storable(dtype: Any) -> Any:
    """bfloat16 is no type of numpy's own, and its files do not name it."""
    return np.uint16 if dtype == jax.numpy.bfloat16 else dtype


def _fill(array: np.ndarray, part: FixedPart, batches: Iterator[Batch]) -> None:
    """One batch is computed while the one before is stored; nothing is asked of the device for it, such as a mask."""
    done = begun = 0
    waiting: list[tuple[jax.Array, int]] = []
    for batch in batches:
        images = batch["image"]
        count = min(len(images), len(array) - begun)
        begun += count
        waiting.append((part(images), count))
        if len(waiting) > 1:
            done += _store(array, done, *waiting.pop(0))
    for output, count in waiting:
        done += _store(array, done, output, count)


def _store(array: np.ndarray, start: int, output: jax.Array, count: int) -> int:
    array[start : start + count] = np.asarray(output)[:count].view(array.dtype)
    return count
