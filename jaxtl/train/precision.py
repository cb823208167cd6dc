"""What a run computes in where its recipe leaves that open."""

from __future__ import annotations

from jaxtl.backend import device, from_ampere_on
from jaxtl.notices import say
from jaxtl.recipe import Recipe
from jaxtl.recipe.training import Precision


def computed_in(recipe: Recipe) -> Precision:
    """The recipe's precision, and for ``auto`` bfloat16 where the device is fast at it, a TPU or a GPU from Ampere on.

    >>> computed_in(Recipe(precision="bf16"))
    'bf16'
    """
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if device().platform == "tpu" or from_ampere_on() else "f32"


def settled(recipe: Recipe) -> Recipe:
    """The recipe with its precision written out; says so where that is not float32."""
    found = computed_in(recipe)
    if found != "f32" and recipe.precision == "auto":
        say(
            f"computed in bfloat16, which {device().device_kind} is fast at; precision: f32 keeps float32 "
            "between layers"
        )
    return recipe.replace(precision=found)
