"""jaxtl beside PyTorch, on one machine, in one run.

::

    python -m benchmarks.run                                   # the training step, small: minutes
    python -m benchmarks.run --full --data FOLDER --weights FILE             # every work: hours on a CPU
    python -m benchmarks.run --full --only fine_tuning --data FOLDER --weights FILE
    python -m benchmarks.run --quick                           # every work on toy inputs, to see that it runs

``FOLDER`` holds ``train/<class>`` and ``val/<class>``; ``FILE`` is for ResNet-18 cut after ``layer3``. With
``--bfloat16`` both sides compute in bfloat16 on a CPU too, but for ``evaluation``, where jaxtl computes in float32.
Each work is one file here: what it measures, its two sides, its table. ``results.json`` and ``RESULTS.md`` are written
by the program; a work that is not run keeps its last results, with the date and the versions they were measured with. A
work that is run loses the rows it had in that setting, those of networks that ``--networks`` leaves out as well.

**Turns.** Each side is a process of its own, and the sides take turns, every other turn in the opposite order. A figure
is the median of its turns, with the smallest and the largest; a ratio is the median of the turns' ratios. Where a rate
is measured both processes live on and one waits while the other works, and compilation and warm-up come first. Where a
whole run is measured, every turn is a fresh process with empty caches of its own and the turn's number for a seed, and
compilation counts.

**PyTorch** is set up as its users would for speed: timm's networks in the channels-last layout; the frozen front
under ``no_grad``, so that it stores nothing, its BatchNorms in evaluation mode; fused AdamW over the trained
parameters alone; timm's loader with persistent workers, images shipped as bytes and normalised in batches; features
cached in memory where jaxtl caches them; on a GPU bfloat16 autocast and ``torch.compile``.

**Both** use all the cores they may, and have their memory in huge pages where Linux gives them on request: the command
``jaxtl`` asks for them by itself, PyTorch's users must. Measure on a quiet machine: other work slows the two unequally,
since PyTorch's threads wait for each other at every operation and one that is interrupted holds up the rest. Where that
cannot be had, one core is fairer: ``taskset -c 0 python -m benchmarks.run``.

**Memory** is the most that a side's process and the workers that it started held at any time, interpreter and libraries
included, what they share counted once (``benchmarks.host_memory``).
"""
