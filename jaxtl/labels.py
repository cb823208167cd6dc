"""Ready-made labels for ``jaxtl.multi_transform``: which part of a network trains, and in which group."""

from jaxtl.finetune.label_makers import (
    by_pattern,
    from_stage,
    head_only,
    last_blocks,
    layerwise,
    norm_and_bias_only,
)

__all__ = ["by_pattern", "from_stage", "head_only", "last_blocks", "layerwise", "norm_and_bias_only"]
