"""Everything a run needs, as typed data: read from YAML, changed by dotted names, checked as a whole.

A recipe says what to do and holds no code: which groups the parameters fall into, how each group learns, for how long
and on which images.
"""

from jaxtl.recipe.reading import load_recipe
from jaxtl.recipe.recipe import DEFAULT_GROUPS, FROZEN, Recipe
from jaxtl.recipe.sections import SGD, AdamW, Augment, Constant, Cosine, DataSection, ModelSection, OneCycle

__all__ = [
    "DEFAULT_GROUPS",
    "FROZEN",
    "SGD",
    "AdamW",
    "Augment",
    "Constant",
    "Cosine",
    "DataSection",
    "ModelSection",
    "OneCycle",
    "Recipe",
    "load_recipe",
]
