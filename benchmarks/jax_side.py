"""What jaxtl's sides share."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from benchmarks.precision import bfloat16

CLASSES = 5


def about() -> dict[str, Any]:
    """Device and versions."""
    import jax

    names = ("jaxtl", "jax", "jaxlib", "flax", "optax")
    return {"device": jax.devices()[0].device_kind, "versions": {name: version(name) for name in names}}


def on_gpu() -> bool:
    import jax

    return jax.default_backend() != "cpu"


def random_model(name: str, size: int, **options: Any) -> Any:
    """A network for images of some pixels, with random weights."""
    import jaxtl
    from jaxtl.notices import quiet

    with quiet():
        return jaxtl.load(name, weights=None, img_size=size, **({"num_classes": CLASSES} | options))


def precision() -> str:
    """bfloat16 where both sides compute in it, else float32, in jaxtl's words."""
    return "bf16" if bfloat16(on_gpu()) else "f32"


def setup() -> str:
    """The same, for people."""
    return "bfloat16" if bfloat16(on_gpu()) else "float32"
