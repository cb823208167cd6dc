"""Training speed beside PyTorch: ``python -m benchmarks.run`` (minutes), ``python -m benchmarks.run --full`` (longer).

Each case is one network, one image size and one answer to what trains. jaxtl and PyTorch run in a process each and take
turns. A case's rate is the median of its turns, its ratio the median of the turns' ratios. What is timed is the whole
training step (forward, gradients of what trains, AdamW) on a normalised batch that is already on the device;
compilation and warm-up come first.

Both use all the cores they may. Measure on a quiet machine: other work slows the two unequally, since PyTorch's threads
wait for each other at every operation and one that is interrupted holds up the rest. Where that cannot be had, one core
is fairer: ``taskset -c 0 python -m benchmarks.run``.

PyTorch is set up as its users would for speed: timm's network in the channels-last layout, frozen parameters without
gradients, frozen BatchNorms in evaluation mode, fused AdamW over the trained parameters; on a GPU also
``torch.compile`` and bfloat16 autocast.

``benchmarks/results.json`` and ``benchmarks/RESULTS.md`` are written by the program alone.
"""
