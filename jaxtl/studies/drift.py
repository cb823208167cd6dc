"""How far fine-tuning moved each stage of a network: its weights, and what it makes of images."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from jaxtl.data.dataset import Data
from jaxtl.model import Model
from jaxtl.train.features import extract
from jaxtl.trees import flatten


@dataclass(frozen=True)
class Drift:
    """How far one stage moved.

    Attributes:
        stage: its name.
        distance: ``||w - w0|| / ||w0||`` over all its parameters together; None for a stage without any.
        similarity: linear CKA of its pooled outputs before and after, 1 for the same up to rotation and scale.
    """

    stage: str
    distance: float | None
    similarity: float


def drift(before: Model, after: Model, data: Data, *, split: str = "val", batch_size: int = 64) -> list[Drift]:
    """Compares two models of one architecture, stage by stage in front of the head, on the images of a split.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1, until="layer1")
    >>> model = model.replace(preprocess=model.preprocess.replace(size=8))
    >>> data = jaxtl.open_data("digits", model, samples_per_class=2)
    >>> [(found.stage, found.distance, round(found.similarity, 3)) for found in drift(model, model, data)]
    [('stem', 0.0, 1.0), ('layer1', 0.0, 1.0)]
    """
    body = before.stages[:-1]
    old, new = (extract(model, data, split, stages=body, batch_size=batch_size) for model in (before, after))
    return [Drift(stage, distance(before, after, stage), linear_cka(old[stage], new[stage])) for stage in body]


def distance(before: Model, after: Model, stage: str) -> float | None:
    """``||w - w0|| / ||w0||`` over the parameters of a stage; None where there are none, or all were 0."""
    old, new = flatten(jax.device_get(before.params)), flatten(jax.device_get(after.params))
    paths = [path for path in old if before.graph.stage_of(path) == stage]
    moved = sum(float(np.sum((new[path].astype(np.float64) - old[path]) ** 2)) for path in paths)
    size = sum(float(np.sum(old[path].astype(np.float64) ** 2)) for path in paths)
    return float(np.sqrt(moved / size)) if size else None


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Similarity of two representations (N, P) and (N, Q) of the same N images, 0 to 1 (Kornblith et al., 2019).

    ``||Y'X||^2 / (||X'X|| ||Y'Y||)`` in Frobenius norms, with centred columns. Rotating either, or scaling it as a
    whole, changes nothing. A representation that does not vary has no likeness but to another such: then it is 1.

    >>> points = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]])
    >>> round(linear_cka(points, 3 * points[:, ::-1]), 6)
    1.0
    """
    x, y = (np.asarray(array, np.float64) - np.asarray(array, np.float64).mean(0) for array in (first, second))
    scale = float(np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    if scale == 0:
        return float(not x.any() and not y.any())
    return float(np.linalg.norm(y.T @ x) ** 2 / scale)
