"""Everything a run needs, as typed data: read from YAML, changed by dotted names, checked as a whole.

A recipe says what to do and holds no code: which groups the parameters fall into, how each group learns, for how long
and on which images.
"""

from jaxtl.recipe.coherence import FROZEN
from jaxtl.recipe.optimizers import LAMB, LARS, SGD, Adafactor, Adam, AdamW, AnyOptimizer, Lion, Muon
from jaxtl.recipe.reading import as_recipe, load_recipe
from jaxtl.recipe.recipe import DEFAULT_GROUPS, Recipe
from jaxtl.recipe.schedules import AnySchedule, Constant, Cosine, Linear, OneCycle, Plateau, Step
from jaxtl.recipe.sections import Augment, DataSection, ModelSection
from jaxtl.recipe.training import MSE, AnyLoss, Focal, Phase, Sigmoid, Softmax

__all__ = [
    "DEFAULT_GROUPS",
    "FROZEN",
    "LAMB",
    "LARS",
    "MSE",
    "SGD",
    "Adafactor",
    "Adam",
    "AdamW",
    "AnyLoss",
    "AnyOptimizer",
    "AnySchedule",
    "Augment",
    "Constant",
    "Cosine",
    "DataSection",
    "Focal",
    "Linear",
    "Lion",
    "ModelSection",
    "Muon",
    "OneCycle",
    "Phase",
    "Plateau",
    "Recipe",
    "Sigmoid",
    "Softmax",
    "Step",
    "as_recipe",
    "load_recipe",
]
