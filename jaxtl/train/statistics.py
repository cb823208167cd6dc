"""The statistics of every BatchNorm's input over many images, pooled exactly over batches."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtl.backend import on_cpu
from jaxtl.data.dataset import Data
from jaxtl.data.preprocess import normalise
from jaxtl.data.sources import Source
from jaxtl.errors import InputError
from jaxtl.jitted import jit
from jaxtl.model import Model
from jaxtl.models.graph import Modes
from jaxtl.models.layers import BatchNorm
from jaxtl.trees import Tree, flatten, unflatten


def pooled_statistics(model: Model, data: Data, modes: Modes, batch_size: int, split: str, most: int | None) -> Tree:
    """Mean and unbiased variance over all images of what each BatchNorm in ``modes.observe`` gets.

    With the model's statistics elsewhere: a tree like ``model.batch_stats``. Images are prepared as in evaluation and
    taken in one random order, which is always the same, so that batches and samples are mixed over the classes; the
    batches are as equal in size as can be, and nothing is padded.

    Args:
        batch_size: images per batch at most.
        split: ``"train"`` or ``"val"``.
        most: how many images at most; None: all.

    Raises:
        InputError: data prepared for another network, an unknown split, or numbers below 1.
    """
    source = _source(model, data, batch_size, split, most)
    count = len(source) if most is None else min(most, len(source))
    parts = _parts(len(source), count, batch_size)
    step = model.graph.remember(("observe", modes, model.preprocess), lambda: _make_step(model, modes))
    images = _batches(data, split, parts)
    under_way = (step(model.params, model.batch_stats, batch) for batch in images)
    found = jax.device_get([jax.block_until_ready(made) if on_cpu() else made for made in under_way])
    height, width = model.preprocess.size
    positions = positions_per_image(model, (height, width, model.preprocess.channels))
    stats = flatten(model.batch_stats)
    for norm in modes.observe:
        counts = np.array([len(part) * positions[norm] for part in parts], np.float64)
        means, variances = (np.array([batch[f"{norm}.{name}"] for batch in found]) for name in ("mean", "var"))
        mean, var = pool(counts, means, variances)
        stats[f"{norm}.mean"], stats[f"{norm}.var"] = jnp.asarray(mean, jnp.float32), jnp.asarray(var, jnp.float32)
    return unflatten(stats)


def pool(counts: np.ndarray, means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance of a whole from those of its parts: within the parts plus between them.

    Args:
        counts: values in each part, (parts,).
        means: (parts, channels).
        variances: unbiased, (parts, channels).

    >>> whole = np.array([1.0, 2.0, 6.0, 9.0, 4.0])
    >>> parts = [whole[:2], whole[2:]]
    >>> mean, var = pool(
    ...     np.array([2, 3]), *(np.array([[of(part)] for part in parts]) for of in (np.mean, lambda p: p.var(ddof=1)))
    ... )
    >>> bool(np.isclose(mean, whole.mean())[0]), bool(np.isclose(var, whole.var(ddof=1))[0])
    (True, True)
    """
    counts = np.asarray(counts, np.float64)[:, None]
    means, variances = np.asarray(means, np.float64), np.asarray(variances, np.float64)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    within = ((counts - 1) * variances).sum(0)
    between = (counts * np.square(means - mean)).sum(0)
    return mean, (within + between) / (total - 1)


def positions_per_image(model: Model, shape: tuple[int, int, int]) -> dict[str, int]:
    """For each BatchNorm, the positions that one image of shape (H, W, C) has where it stands; nothing is computed.

    >>> import jaxtl
    >>> positions = positions_per_image(jaxtl.load("cifar_resnet20", weights=None), (32, 32, 3))
    >>> positions["bn1"], positions["layer3.2.bn2"]
    (1024, 64)
    """
    found: dict[str, int] = {}

    def run(params: Tree, stats: Tree, images: jax.Array) -> jax.Array:
        network = nnx.merge(nnx.graphdef(model.graph.network), params, stats)
        for keys, module in list(nnx.iter_modules(network)):
            for name, child in list(vars(module).items()):
                if isinstance(child, BatchNorm):
                    setattr(module, name, _Probe(child, ".".join(map(str, (*keys, name))), found))
        return network(images)

    jax.eval_shape(run, model.params, model.batch_stats, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return found


class _Probe(nnx.Module):
    """Stands where a BatchNorm stood and notes the size of its input."""

    def __init__(self, norm: BatchNorm, path: str, found: dict[str, int]) -> None:
        self.norm = norm
        self.note = lambda size: found.update({path: size})

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        self.note(x.size // x.shape[0] // x.shape[-1])
        return self.norm(x, rngs)


def _make_step(model: Model, modes: Modes) -> Any:
    graph, preprocess = model.graph, model.preprocess

    def step(params: Tree, batch_stats: Tree, images: jax.Array) -> dict[str, jax.Array]:
        _, stats = graph.apply(params, batch_stats, normalise(images, preprocess.mean, preprocess.std), modes)
        return {path: leaf for path, leaf in flatten(stats).items() if path.rpartition(".")[0] in modes.observe}

    return jit(step)


def _source(model: Model, data: Data, batch_size: int, split: str, most: int | None) -> Source:
    sources = {"train": data.train, "val": data.val}
    if split not in sources:
        raise InputError(f"split must be 'train' or 'val', not {split!r}")
    for name, number in (("batch_size", batch_size), ("the number of images", most)):
        if number is not None and number < 1:
            raise InputError(f"{name} must be at least 1, not {number}")
    ours, theirs = model.preprocess.to_dict(), data.preprocess.to_dict()
    if ours != theirs:
        fields = "; ".join(f"{key} {ours[key]} against {theirs[key]}" for key in ours if ours[key] != theirs[key])
        raise InputError(
            f"{model.name} does not fit {data.name}: its preprocessing is not the data's ({fields}): "
            "open the data with this model"
        )
    return sources[split]


def _parts(images: int, count: int, batch_size: int) -> list[np.ndarray]:
    """The first ``count`` of a fixed random order, in as few batches as possible, whose sizes differ by one at most."""
    order = np.random.default_rng(0).permutation(images)[:count]
    return np.array_split(order, -(-count // batch_size))


def _batches(data: Data, split: str, parts: list[np.ndarray]) -> Iterator[np.ndarray]:
    def load(place: np.ndarray) -> np.ndarray:
        return data.evaluated(place, split)

    with ThreadPoolExecutor(max(1, data.threads)) as pool:
        for part in parts:
            yield np.concatenate(list(pool.map(load, part[:, None])))
