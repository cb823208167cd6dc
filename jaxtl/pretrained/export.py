"""``jaxtl.export``: a model as a folder that other programs use: timm, torchvision, or JAX alone."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jaxtl.errors import InputError, nearest
from jaxtl.files import expanded, written_together
from jaxtl.model import Model, check_whole
from jaxtl.notices import say
from jaxtl.pretrained import names
from jaxtl.pretrained.card import CARD, card, shareable
from jaxtl.pretrained.config import CONFIG, read_config
from jaxtl.pretrained.load import load
from jaxtl.pretrained.save import WEIGHTS, config_of, write_model
from jaxtl.pretrained.source import model_of
from jaxtl.pretrained.stablehlo import write_stablehlo
from jaxtl.pretrained.timm_options import check_fits_timm, timm_arguments
from jaxtl.pretrained.torchvision import builder_of, to_torchvision

ABOUT = "model.json"
_PICKLE = ("model.pth",)
"""Written where torch is installed; one of an earlier export would hold other weights than the files beside it."""


def export(model: Model, folder: str | Path, format: str = "timm", *, training: dict[str, Any] | None = None) -> Path:
    """Writes a model for others; all files of the folder, or none.

    Args:
        model: what to write.
        folder: is made where it does not exist.
        format: ``"timm"``: ``model.safetensors``, ``config.json`` and a model card, for
            ``timm.create_model("local-dir:FOLDER", pretrained=True)``, ``jaxtl.load`` and the Hugging Face hub;
            ``"torch"``: a state dict under torchvision's names, where torchvision has the architecture, else under
            timm's (which, is said), as safetensors and, where torch is installed, as ``model.pth``;
            ``"jaxtl"``: the same files where timm has no such network, for ``jaxtl.load`` and the hub;
            ``"stablehlo"``: a program for JAX alone, from pixels to answers, for CPUs, GPUs and TPUs.
        training: what the model card says about how the model was made, as ``jaxtl.save`` keeps it.

    Raises:
        InputError: another format, a network that the format cannot express, a model with other parameters or
            statistics than its network, or a folder that cannot be written.

    >>> import jaxtl, tempfile
    >>> model = jaxtl.load("resnet10t", weights=None, num_classes=2)
    >>> folder = export(model, tempfile.mkdtemp())
    >>> sorted(path.name for path in folder.iterdir())
    ['README.md', 'config.json', 'model.safetensors']
    """
    if format == "onnx":
        raise InputError(_NO_ONNX)
    if format not in _WRITERS:
        known = ", ".join(_WRITERS)
        raise InputError(f"a model can be exported as {known}, not as {format!r}{nearest(format, _WRITERS)}")
    folder = expanded(folder)
    check, write = _WRITERS[format]
    check_whole(model)
    check(model)
    with written_together(folder, instead_of=_PICKLE if format == "torch" else ()) as unfinished:
        said = write(model, unfinished, training)
    if said:
        say(said)
    return folder


def export_run(source: str | Path, folder: str | Path, format: str = "timm") -> Path:
    """``export`` of what a run wrote (its best model), of a saved folder, or of a name that ``jaxtl.load`` takes."""
    inner = expanded(model_of(source))
    if not (inner / CONFIG).is_file():
        return export(load(str(source)), folder, format)
    training = (read_config(inner).get("jaxtl") or {}).get("training")
    return export(load(inner), folder, format, training=training)


def _own_config(model: Model, training: dict[str, Any] | None) -> dict[str, Any]:
    if Path(model.name).is_absolute():  # a folder of this machine
        model = model.replace(name=Path(model.name).name)
    return config_of(model, shareable(training))


def _write_layout(model: Model, folder: Path, training: dict[str, Any] | None, *, in_timm: bool) -> str:
    """timm's layout, which is also jaxtl's own."""
    write_model(model, folder, _own_config(model, training))
    (folder / CARD).write_text(card(model, training, in_timm=in_timm), encoding="utf-8")
    return ""


def _fits_torch(model: Model) -> None:
    if builder_of(model.graph) is None:
        check_fits_timm(model)


def _write_torch(model: Model, folder: Path, training: dict[str, Any] | None) -> str:
    from safetensors.numpy import save_file

    state = names.state_dict(model.params, model.batch_stats)
    builder = builder_of(model.graph)
    if builder:
        state = to_torchvision(state, model.graph)
        whose, start, arguments = "torchvision", f"models.{builder.name}(", builder.arguments
    else:
        whose, start = "timm", f"create_model({model.graph.architecture!r}, "
        arguments = "".join(f", {key}={value!r}" for key, value in timm_arguments(model).items())
    network = f"{whose}.{start}num_classes={model.num_classes}{arguments})"
    about = {
        "names": whose,
        "network": network,
        "classes": model.classes and list(model.classes),
        "preprocess": model.preprocess.to_dict(),
    }
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    (folder / ABOUT).write_text(text, encoding="utf-8")
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copymode(folder / ABOUT, folder / WEIGHTS)
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.save({name: torch.from_numpy(array.copy()) for name, array in state.items()}, folder / _PICKLE[0])
    (folder / CARD).write_text(_TORCH.format(name=model.name, whose=whose, network=network), encoding="utf-8")
    return f"the names are {whose}'s: {network}"


_TORCH = """# {name}: a state dict with {whose}'s names

```python
import safetensors.torch
import {whose}

network = {network}
network.load_state_dict(safetensors.torch.load_file("model.safetensors"))
network.eval()
```

`model.json` has the class names and the preprocessing.
"""


def _fits_everything(model: Model) -> None:
    pass


def _write_stablehlo(model: Model, folder: Path, training: dict[str, Any] | None) -> str:
    write_stablehlo(model, folder)
    return ""


_Check = Callable[[Model], None]
_Write = Callable[[Model, Path, dict[str, Any] | None], str]
_WRITERS: dict[str, tuple[_Check, _Write]] = {
    "timm": (check_fits_timm, partial(_write_layout, in_timm=True)),
    "torch": (_fits_torch, _write_torch),
    "jaxtl": (_fits_everything, partial(_write_layout, in_timm=False)),
    "stablehlo": (_fits_everything, _write_stablehlo),
}

_NO_ONNX = (
    "there is no converter from JAX to ONNX that does these networks right (jax2onnx 0.17 writes max-pooling that "
    "onnxruntime refuses); export as timm, then "
    "torch.onnx.export(timm.create_model('local-dir:FOLDER', pretrained=True).eval(), ...)"
)
