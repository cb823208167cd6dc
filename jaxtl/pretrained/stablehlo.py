"""A model as one StableHLO program, from pixels to its answers, that JAX runs without jaxtl."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp

from jaxtl.data.preprocess import normalise
from jaxtl.errors import InputError
from jaxtl.model import Model

PROGRAM = "model.stablehlo"
ABOUT = "model.json"
SCRIPT = "predict.py"
PLATFORMS = ("cpu", "cuda", "tpu")
_OUTPUT = {"class": "probabilities", "multi-label": "a probability for each class", "regression": "numbers"}
_LARGEST = 1_900_000_000  # bytes; the format's offsets end at 2 GiB


def program(model: Model) -> jax.export.Exported:
    """uint8 (batch, height, width, channels), as ``model.preprocess`` gives it -> float32 (batch, classes): what
    ``model.answers`` makes of the logits, for any batch size and on every platform. A model without a head gives its
    features.

    >>> import jaxtl, numpy as np
    >>> exported = program(jaxtl.load("cifar_resnet20", weights=None, num_classes=2))
    >>> exported.call(np.zeros((3, 32, 32, 3), np.uint8)).shape
    (3, 2)
    """

    def run(pixels: jax.Array) -> jax.Array:
        images = normalise(pixels, model.preprocess.mean, model.preprocess.std)
        found = model.graph.apply(model.params, model.batch_stats, images)[0]
        return model.answers(found) if model.num_classes else found

    (batch,) = jax.export.symbolic_shape("batch")
    pixels = jax.ShapeDtypeStruct((batch, *model.preprocess.size, model.preprocess.channels), jnp.uint8)
    return jax.export.export(jax.jit(run), platforms=PLATFORMS)(pixels)


def write_stablehlo(model: Model, folder: Path) -> None:
    """Writes the program, what is to be known about it, and a script that shows how to use it.

    Raises:
        InputError: weights too large for one program.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((model.params, model.batch_stats)))
    if size > _LARGEST:
        raise InputError(f"{model.name} has {size / 1e9:.1f} GB of weights; a StableHLO program holds less than 2 GB")
    about = {
        "name": model.name,
        "classes": list(model.classes or map(str, range(model.num_classes))),
        "preprocess": model.preprocess.to_dict(),
        "input": f"uint8 (batch, {', '.join(map(str, model.preprocess.size))}, {model.preprocess.channels})",
        "task": model.task,
        "output": f"float32 (batch, {model.num_classes}): {_OUTPUT[model.task]}"
        if model.num_classes
        else f"float32 (batch, {model.graph.network.num_features}): features",
        "platforms": list(PLATFORMS),
        "jax": jax.__version__,
    }
    (folder / PROGRAM).write_bytes(program(model).serialize())
    (folder / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("predict_exported.py"), folder / SCRIPT)
