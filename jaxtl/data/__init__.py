"""Images in: sources, evaluation preprocessing (equal to timm's), training augmentation, and batches."""

from jaxtl.data.augment import Augment
from jaxtl.data.dataset import Data
from jaxtl.data.open import open_data
from jaxtl.data.preprocess import Preprocess, normalise
from jaxtl.data.sources import Source

__all__ = ["Augment", "Data", "Preprocess", "Source", "normalise", "open_data"]
