"""``jaxtl.save``: a model as one folder, in the layout of timm's hub repositories."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from jaxtl import __version__
from jaxtl.errors import InputError
from jaxtl.files import make_folder
from jaxtl.model import Model
from jaxtl.pretrained import names

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
FILES = (WEIGHTS, CONFIG)
_UNFINISHED = ".unfinished-"


def save(model: Model, folder: str | Path, *, training: dict[str, Any] | None = None) -> Path:
    """Writes a model that ``jaxtl.load(folder)`` gives back bit for bit. No pickle.

    The folder holds ``model.safetensors`` (torch's names and axes, so timm reads it too) and ``config.json``
    (architecture, class names, preprocessing). Files of an earlier save are replaced only when the new ones are whole.

    Args:
        model: what to save.
        folder: is made where it does not exist.
        training: anything JSON holds about how the model was made, kept under ``config["jaxtl"]["training"]``.

    Raises:
        InputError: the path is a file, or cannot be written.

    >>> import tempfile, jaxtl
    >>> model = jaxtl.load("cifar_resnet20", weights=None, num_classes=2)
    >>> folder = save(model.replace(classes=("ant", "bee")), tempfile.mkdtemp())
    >>> jaxtl.load(folder).classes
    ('ant', 'bee')
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    make_folder(folder)
    try:
        for abandoned in folder.glob(f"{_UNFINISHED}*"):  # by a process that was killed
            shutil.rmtree(abandoned)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}") from error
    try:
        state = names.state_dict(model.params, model.batch_stats)
        save_file(state, unfinished / WEIGHTS, metadata={"format": "pt"})
        config = json.dumps(_config(model, training), indent=2, ensure_ascii=False) + "\n"
        (unfinished / CONFIG).write_text(config, encoding="utf-8")
        shutil.copymode(unfinished / CONFIG, unfinished / WEIGHTS)  # safetensors lets nobody else read them
        _publish(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _publish(unfinished: Path, folder: Path) -> None:
    """Puts both files in their places, or, when that fails, the earlier ones back."""
    for name in FILES:
        if (folder / name).exists():
            _second_name(folder / name, unfinished / f"earlier-{name}")
    try:
        for name in FILES:
            os.replace(unfinished / name, folder / name)
    except BaseException:
        for name in FILES:
            earlier = unfinished / f"earlier-{name}"
            if earlier.exists():
                shutil.move(earlier, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
        raise


def _second_name(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, name)


def _config(model: Model, training: dict[str, Any] | None) -> dict[str, Any]:
    graph = model.graph
    options = {k: v for k, v in graph.options.items() if k not in ("num_classes", "in_chans") and v is not None}
    cfg = {
        **model.preprocess.to_dict(),
        "num_classes": model.num_classes,
        "first_conv": graph.first_conv.removesuffix(".kernel"),
        "classifier": graph.head,
        "license": model.license,
    }
    return {
        "architecture": graph.architecture,
        "num_classes": model.num_classes,
        "num_features": graph.network.num_features,
        "global_pool": "avg",
        "model_args": {} if model.preprocess.channels == 3 else {"in_chans": model.preprocess.channels},
        "label_names": None if model.classes is None else list(model.classes),
        "pretrained_cfg": cfg,
        "jaxtl": {"version": __version__, "name": model.name, "options": options, "training": training},
    }
