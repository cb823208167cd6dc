"""``jaxtl.save``: a model as one folder, in the layout of timm's hub repositories."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from jaxtl import __version__
from jaxtl.files import expanded, written_together
from jaxtl.model import Model, check_whole
from jaxtl.models import registry
from jaxtl.pretrained import names, tags
from jaxtl.pretrained.config import CONFIG, check_config
from jaxtl.pretrained.timm_options import obstacle, timm_arguments

WEIGHTS = "model.safetensors"
_SAID_ELSEWHERE = ("num_classes", "in_chans", "remat")  # the last is a matter of a training run
_NOT_FOR_TIMM = "jaxtl_alone"
"""A field that timm has not, so that it refuses to build a network which it would build otherwise."""


def save(model: Model, folder: str | Path, *, training: dict[str, Any] | None = None) -> Path:
    """Writes a model that ``jaxtl.load(folder)`` gives back bit for bit. No pickle.

    The folder holds ``model.safetensors`` (torch's names and axes) and ``config.json`` (architecture, class names,
    preprocessing). timm reads it too, where it can build the network (``jaxtl.export`` says of which it cannot), and
    fails where it cannot. Files of an earlier save are replaced only when the new ones are whole.

    Args:
        model: what to save.
        folder: is made where it does not exist.
        training: anything JSON holds about how the model was made, kept under ``config["jaxtl"]["training"]``.

    Raises:
        InputError: the path is a file, or cannot be written; the model has other than one name for each class, or
            other parameters or statistics than its network.

    >>> import tempfile, jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=2)
    >>> folder = save(model.replace(classes=("ant", "bee")), tempfile.mkdtemp())
    >>> jaxtl.load(folder).classes
    ('ant', 'bee')
    """
    folder = expanded(folder)
    check_whole(model)
    with written_together(folder) as unfinished:
        write_model(model, unfinished, config_of(model, training))
    return folder


def write_model(model: Model, folder: Path, config: dict[str, Any]) -> None:
    """Writes the weights under timm's names and a ``config.json``."""
    from safetensors.numpy import save_file

    check_config(config, f"{model.name} cannot be saved")
    state = names.state_dict(model.params, model.batch_stats)
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    shutil.copymode(folder / CONFIG, folder / WEIGHTS)  # safetensors lets nobody else read them


def config_of(model: Model, training: dict[str, Any] | None = None) -> dict[str, Any]:
    """What ``config.json`` says about a model."""
    graph = model.graph
    usual = registry.defaults(graph.architecture)
    options = {
        option: value
        for option, value in graph.options.items()
        if option not in _SAID_ELSEWHERE and (value is not None or usual.get(option) is not None)
    }
    cfg = {
        **model.preprocess.to_dict(),
        "num_classes": model.num_classes,
        "first_conv": graph.first_conv.removesuffix(".kernel"),
        "classifier": graph.head,
        "license": model.license,
    }
    if reason := obstacle(model):
        cfg[_NOT_FOR_TIMM] = reason
        arguments = {} if model.preprocess.channels == 3 else {"in_chans": model.preprocess.channels}
    else:
        arguments = timm_arguments(model)
        known = tags.find(graph.architecture).pretrained_cfg
        cfg |= {key: known[key] for key in ("first_conv", "classifier") if known.get(key)}
        if "img_size" in usual:
            cfg["fixed_input_size"] = True  # timm builds for images of input_size
    return {
        "architecture": graph.architecture,
        "num_classes": model.num_classes,
        "num_features": graph.network.num_features,
        "global_pool": getattr(graph.network, "global_pool", "avg"),
        "model_args": arguments,
        "label_names": None if model.classes is None else list(model.classes),
        "pretrained_cfg": cfg,
        "jaxtl": {
            "version": __version__,
            "name": model.name,
            "options": options,
            "task": model.task,
            "training": training,
        },
    }
