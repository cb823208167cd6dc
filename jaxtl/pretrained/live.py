"""A live torch module beside the model that was loaded from it: how it was built, and whether both compute the same."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import jax
import numpy as np

from jaxtl.errors import InputError
from jaxtl.model import Model
from jaxtl.models.registry import option_names
from jaxtl.notices import say
from jaxtl.pretrained.timm_options import obstacle, timm_arguments

TOLERANCE = 1e-3
"""Of the largest output. Rounding stays at a hundredth of that, since both compute in full float32."""

_PLAIN = (bool, int, float, str, tuple, list, FunctionType, type, type(None))
_OF_TRAINING = (
    "training",
    "drop",
    "proj_drop",
    "attn_drop",
    "grad_checkpointing",
    "pretrained_cfg",
    "default_cfg",
    "p",
)
_POOLS = ("token", "avg", "max", "avgmax", "map")


def is_module(thing: Any) -> bool:
    """Whether it is a ``torch.nn.Module``."""
    if not hasattr(thing, "state_dict"):
        return False
    import torch

    return isinstance(thing, torch.nn.Module)


def built_with(module: Any, architecture: str) -> dict[str, Any]:
    """Options of the architecture that no array tells and that a module of timm's keeps: the size of images and
    patches, and how a transformer pools."""
    known = option_names(architecture)
    found: dict[str, Any] = {}
    for option in ("img_size", "patch_size"):
        size = getattr(getattr(module, "patch_embed", None), option, None)
        if size and "img_size" in known and option in known:
            found[option] = tuple(size) if isinstance(size, tuple | list) else size
    pool, norm = getattr(module, "global_pool", None), getattr(module, "fc_norm", None)
    if pool in _POOLS and "global_pool" in known:
        found["global_pool"] = pool
        of_norm = "fc_norm" if "fc_norm" in known else "use_fc_norm"
        if norm is not None:
            found[of_norm] = type(norm).__name__ != "Identity"
    return found


def check(module: Any, model: Model, where: str) -> None:
    """Compares what a module and the model with its weights compute from one random image.

    Nothing is computed where timm, asked for the same network, builds the same module.

    Args:
        module: a ``torch.nn.Module`` on any device and in any precision; it stays as it is.
        model: what was loaded from it, unchanged.
        where: what the module is called in messages.

    Raises:
        InputError: the outputs differ by more than ``TOLERANCE``.
    """
    others = _built_otherwise(module, model)
    if others == []:
        return
    images = np.random.default_rng(0).standard_normal((1, *model.preprocess.size, model.preprocess.channels))
    try:
        theirs = _outputs(module, images.astype(np.float32).transpose(0, 3, 1, 2).copy())
    except Exception as error:  # a module of somebody's own may fail in any way
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        say(f"what {where} computes was not compared with the model, because it takes no batch of images ({reason})")
        return
    with jax.default_matmul_precision("float32"):
        ours = np.asarray(model(images.astype(np.float32)))
    if not np.isfinite(theirs).all():
        return
    if theirs.shape != ours.shape:
        difference = f"outputs of shape {theirs.shape} and {ours.shape}"
    elif (gap := np.abs(ours - theirs).max()) > TOLERANCE * (largest := np.abs(theirs).max()):
        difference = f"outputs for one image differ by {gap / largest:.2g} of the largest" if largest else "outputs"
    else:
        return
    how = f" ({', '.join(others[:3])})" if others else ""
    raise InputError(
        f"{where} computes something else than {model.graph.architecture} with its weights ({difference}), so it was "
        f"built with other settings{how}: pass create_model's keywords, such as act_layer='silu', to from_torch as "
        "well, or module.state_dict() for the weights alone"
    )


def _outputs(module: Any, images: np.ndarray) -> np.ndarray:
    import torch

    tensors = [*module.parameters(), *module.buffers()]
    plain = all(t.device.type == "cpu" and t.dtype in (torch.float32, torch.int64, torch.bool) for t in tensors)
    module = module if plain else copy.deepcopy(module).to("cpu", torch.float32)
    with _evaluating(module), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = module(torch.from_numpy(images))
        if not isinstance(answer, torch.Tensor):
            raise TypeError(f"it returns a {type(answer).__name__}")
        return answer.float().numpy()


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Evaluation mode, without the change of the images' scale that torchvision's Inception makes."""
    training = {part: part.training for part in module.modules()}
    scales = getattr(module, "transform_input", None)
    module.eval()
    if scales:
        module.transform_input = False
    try:
        yield
    finally:
        for part, was in training.items():
            part.training = was
        if scales:
            module.transform_input = scales


def _built_otherwise(module: Any, model: Model) -> list[str] | None:
    """What a module of timm's has otherwise than the one that timm builds for the same network; ``None``: timm
    builds none that can be compared."""
    if not type(module).__module__.startswith("timm.") or obstacle(model):
        return None
    import timm
    import torch

    with torch.device("meta"):
        expected = timm.create_model(model.graph.architecture, num_classes=model.num_classes, **timm_arguments(model))
    found, wanted = _described(module), _described(expected)
    both = [name for name in found if name in wanted]
    others = [f"{name} is {found[name]!r} and not {wanted[name]!r}" for name in both if found[name] != wanted[name]]
    return others if others or found.keys() == wanted.keys() else None


def _described(module: Any) -> dict[str, Any]:
    """The kind of each part of a module, and what it holds in plain values, by name."""
    described: dict[str, Any] = {}
    for path, part in module.named_modules():
        described[path] = type(part).__qualname__
        for name, value in vars(part).items():
            if name.startswith(("_", "drop")) or name in _OF_TRAINING:
                continue
            described[f"{path}.{name}".lstrip(".")] = value if isinstance(value, _PLAIN) else type(value).__qualname__
    return described
