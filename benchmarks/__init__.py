"""Training speed beside PyTorch: ``python -m benchmarks.run`` (minutes), ``python -m benchmarks.run --full`` (longer).

Each case is one network, one image size and one answer to what trains. jaxtl and PyTorch run in a process each and take
turns, so that other work on the machine slows both; a case's rate is the median of its turns, its ratio the median of
the turns' ratios. What is timed is the whole training step (forward, gradients of what trains, AdamW) on a normalised
batch that is already on the device; compilation and warm-up come first. Both use all processors.

PyTorch is set up as its users would for speed: timm's network in the channels-last layout, frozen parameters without
gradients, frozen BatchNorms in evaluation mode, fused AdamW over the trained parameters; on a GPU also
``torch.compile`` and bfloat16 autocast.

``benchmarks/results.json`` and ``benchmarks/RESULTS.md`` are written by the program alone.
"""
