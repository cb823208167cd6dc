"""jaxtl beside PyTorch, on one machine, in one run.

::

    python -m benchmarks.run                                   # the training step, small: minutes
    python -m benchmarks.run --full --data FOLDER --weights FILE             # every work: hours on a CPU
    python -m benchmarks.run --full --only fine_tuning --data FOLDER --weights FILE
    python -m benchmarks.run --quick                           # every work on toy inputs, to see that it runs

``FOLDER`` holds ``train/<class>`` and ``val/<class>``; ``FILE`` is for ResNet-18 cut after ``layer3``: without it
weights are random, and accuracies mean nothing. With ``--bfloat16`` both sides compute in bfloat16 on a CPU too; in
``evaluation`` jaxtl computes in float32 everywhere. Each work is one file here: what it measures, its two sides, its
table.

``results.json`` and ``RESULTS.md`` are written by the program, after every row. A row takes the place of an earlier one
of the same case (setting, network, what trains, images, weights, ...) when all its turns are done. Every other row
stays, below the new ones, with the date, the commit and the versions it was measured with: those that ``--networks``
leaves out, or that a run stopped by Ctrl-C did not come to. Results of toy inputs are not written.

**Turns.** Each side is a process of its own, and the sides take turns, every other turn in the opposite order. A figure
is the median of its turns, with the smallest and the largest; a ratio is the median of the turns' ratios. Where a rate
is measured both processes live on and one waits while the other works, and compilation and warm-up come first. Where a
whole run is measured, every turn is a fresh process with empty caches of its own and the turn's number for a seed, and
compilation counts.

**PyTorch** is set up as its users would for speed: timm's networks in the channels-last layout; the frozen front
under ``no_grad``, so that it stores nothing, its BatchNorms in evaluation mode; fused AdamW over the trained
parameters alone; timm's loader with persistent workers, images shipped as bytes and normalised in batches; features
cached in memory where jaxtl caches them, pooled where the head alone trains; on a GPU bfloat16 autocast and
``torch.compile``. On a CPU it runs eagerly.

**Both** use all the cores they may, and have their memory in huge pages where Linux gives them on request: the command
``jaxtl`` asks for them by itself, PyTorch's users must. Measure on a quiet machine: other work slows the two unequally,
since PyTorch's threads wait for each other at every operation and one that is interrupted holds up the rest. Each work
waits, three minutes at most, until the load average has fallen, so that what it was then is not the last work's. Where
quiet cannot be had, one core is fairer: ``taskset -c 0 python -m benchmarks.run``.

**Memory** is the most that a side's process and the workers that it started held at any time, interpreter and libraries
included, what they share counted once (``benchmarks.host_memory``).
"""
