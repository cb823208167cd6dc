"""BatchNorm statistics of the target images, without any training."""

from __future__ import annotations

from jaxtl.data.dataset import Data
from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.models.graph import Modes
from jaxtl.train.statistics import pooled_statistics


def recalibrate(
    model: Model, data: Data, *, batch_size: int = 64, split: str = "train", batches: int | None = None
) -> Model:
    """The model with all BatchNorm statistics re-estimated on the images of some data; no parameter changes.

    AdaBN (Li et al. 2016, https://arxiv.org/abs/1603.04779): the network runs over the images with every BatchNorm on
    batch statistics, as in training, and the statistics of all batches are pooled exactly: the means weighted by size,
    the variances within batches plus those between them, unbiased as torch stores them. Images are prepared as in
    evaluation and mixed over the classes in a fixed order; all batches have the same size or one image less, so none
    is padded or too small to count. The classes of model and data need not be the same.

    Args:
        model: is not changed.
        data: opened with this model.
        batch_size: images per batch at most. Deeper layers see what batches of this size make of the earlier ones.
        split: ``"train"`` or ``"val"``; labels are never looked at.
        batches: how many batches at most; None: all images.

    Raises:
        InputError: a network without BatchNorm, data prepared for another network, an unknown split.

    >>> import jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, in_chans=1)
    >>> model = model.replace(preprocess=model.preprocess.replace(size=8))
    >>> adapted = recalibrate(model, jaxtl.open_data("digits", model), batches=2)
    >>> float(model.batch_stats["bn1"]["var"].mean()), float(adapted.batch_stats["bn1"]["var"].mean()) != 1
    (1.0, True)
    """
    check_batch_norms(model)
    norms = frozenset(model.graph.batch_norms)
    if batches is not None and batches < 1:
        raise InputError(f"batches must be at least 1, not {batches}")
    modes = Modes(adapt=norms, observe=norms)
    most = None if batches is None else batches * batch_size
    return model.replace(batch_stats=pooled_statistics(model, data, modes, batch_size, split, most))


def check_batch_norms(model: Model) -> None:
    """Raises ``InputError`` for a network without BatchNorm.

    >>> import jaxtl
    >>> check_batch_norms(jaxtl.load("vit_tiny_patch16_224", weights=None, num_classes=2))
    Traceback (most recent call last):
    jaxtl.errors.InputError: vit_tiny_patch16_224 has no BatchNorm, so there are no statistics to recalibrate
    """
    if not model.graph.batch_norms:
        raise InputError(f"{model.name} has no BatchNorm, so there are no statistics to recalibrate")
