"""What a network makes of a whole split: its pooled features, or the outputs of its stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxtl.backend import on_cpu
from jaxtl.compiled import keep_compiled
from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.jitted import jit
from jaxtl.model import Model
from jaxtl.models.graph import POOLED
from jaxtl.train.feature_cache import FixedPart, features_of
from jaxtl.train.step import prepared
from jaxtl.trees import Tree

HEAD = "head"
"""The key of the pooled features in front of the head."""


@dataclass(frozen=True)
class Features:
    """Features of the images of a split, in the split's order.

    Attributes:
        arrays: float32 (N, channels) by stage; what the head sees is called ``"head"``.
        labels: int32 (N,); of several labels an image, and of numbers, float32 as the data has them.

    >>> features = Features({"head": np.zeros((3, 8), np.float32)}, np.array([0, 1, 1], np.int32))
    >>> features["head"].shape, len(features)
    ((3, 8), 3)
    """

    arrays: Mapping[str, np.ndarray]
    labels: np.ndarray

    def __getitem__(self, stage: str) -> np.ndarray:
        return self.arrays[stage]

    def __len__(self) -> int:
        return len(self.labels)


def extract(
    model: Model, data: Data, split: str = "train", *, stages: Iterable[str] | None = None, batch_size: int = 64
) -> Features:
    """Computes the features of every image of a split once, with evaluation preprocessing and stored statistics.

    What the head sees is kept on disk, where training on cached features finds it too.

    Args:
        model: from ``jaxtl.load``. Its classes do not matter.
        data: from ``jaxtl.open_data``, opened with this model.
        split: ``"train"`` or ``"val"``.
        stages: names of body stages, whose outputs are averaged over all positions, and ``"head"`` for the pooled
            features that the head sees. Default: ``"head"`` alone.
        batch_size: images at once; it changes the result by rounding at most.

    Raises:
        InputError: unknown stages or splits, or data that was opened with another preprocessing.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1)
    >>> data = jaxtl.open_data("digits", model, samples_per_class=2)
    >>> features = extract(model, data, stages=("layer1", "head"))
    >>> {stage: array.shape for stage, array in features.arrays.items()}, features.labels.shape
    ({'layer1': (20, 16), 'head': (20, 64)}, (20,))
    """
    wanted = (HEAD,) if stages is None else tuple(dict.fromkeys([stages] if isinstance(stages, str) else stages))
    if not wanted:
        raise InputError(f"no stage to extract; name some of {', '.join((*model.stages[:-1], HEAD))}")
    ours, theirs = model.preprocess.to_dict(), data.preprocess.to_dict()
    if ours != theirs:
        different = ", ".join(f"{key} {ours[key]} against {theirs[key]}" for key in ours if ours[key] != theirs[key])
        raise InputError(
            f"the preprocessing of {model.name} is not that of {data.name} ({different}); open the data with this model"
        )
    keep_compiled()
    if wanted == (HEAD,):
        part = FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, POOLED)
        source = data.train if split == "train" else data.val
        pooled = features_of(part, data, split, batch_size=batch_size)
        return Features({HEAD: pooled}, _labels(source.labels))
    run = model.graph.remember(("features", wanted, model.preprocess), lambda: _compiled(model, wanted))
    found = []
    for batch in data.eval_batches(batch_size, split=split):
        outputs = run(model.params, model.batch_stats, batch["image"])
        found.append((jax.block_until_ready(outputs) if on_cpu() else outputs, batch["label"], batch["mask"]))
    arrays = {
        stage: np.concatenate([np.asarray(outputs[stage])[mask] for outputs, _, mask in found]) for stage in wanted
    }
    return Features(arrays, _labels(np.concatenate([label[mask] for _, label, mask in found])))


def _labels(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.float32 if np.issubdtype(labels.dtype, np.floating) else np.int32)


def _compiled(model: Model, wanted: tuple[str, ...]) -> Any:
    graph, preprocess = model.graph, model.preprocess
    stages = [stage for stage in wanted if stage != HEAD]

    def run(params: Tree, batch_stats: Tree, images: jax.Array) -> dict[str, jax.Array]:
        images = prepared(images, preprocess)
        outputs = graph.stage_outputs(params, batch_stats, images, stages)
        return outputs | {HEAD: graph.features(params, batch_stats, images)} if HEAD in wanted else outputs

    return jit(run)
