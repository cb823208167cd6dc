"""A task done by PyTorch: loader, optimizer, schedule, epochs, and features that are cached in memory."""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.task import Task
from benchmarks.torch_data import make_loader, preprocess
from benchmarks.torch_network import Network
from benchmarks.torch_side import Guest

Batches = Callable[[], Iterator[tuple[Any, Any]]]


def rate(step: int, steps: int, warmup: int, final: float) -> float:
    """The part of the peak at a step: a linear rise over the warm-up, then half a cosine down to ``final``.

    >>> [round(rate(step, steps=9, warmup=4, final=0.0), 3) for step in (0, 3, 6, 8)]
    [0.25, 1.0, 0.345, 0.0]
    """
    top, last = max(warmup - 1, 0), steps - 1
    done = min(max((step - top) / max(last - top, 1e-9), 0.0), 1.0)
    value = final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
    return value * min((step + 1) / warmup, 1.0) if warmup else value


def train(guest: Guest, task: Task, *, workers: int, compiled: bool, timed: int | None) -> dict[str, Any]:
    """Does the task, or its first ``timed`` epochs: the others are then taken to need the median of these.

    Without caching all epochs do the same work on fresh images, so that few of them tell what the rest needs.

    Returns:
        ``seconds`` in all, ``epochs`` (seconds of each, validation left out), ``curve`` (seconds since the start and
        accuracy, of each validation), ``accuracy`` at the end and ``extrapolated``, the number of epochs that were
        not run.
    """
    begun = time.perf_counter()
    torch = guest.torch
    classes = sum(entry.is_dir() for entry in os.scandir(f"{task.data}/train"))
    network = Network(
        guest,
        task.model,
        task.trains,
        classes=classes,
        size=task.size,
        until=task.until,
        weights=task.weights,
        compiled=compiled,
    )

    def images(split: str, *, shuffle: bool) -> Any:
        augment = task.augment if split == "train" else "none"
        return make_loader(guest, task, split, augment=augment, shuffle=shuffle, workers=workers)

    def from_files(loader: Any) -> Iterator[tuple[Any, Any]]:
        for batch, labels in loader:
            yield _front(guest, network, batch), labels

    epochs: list[Batches]
    if task.cached:
        views = (task.views or task.epochs) if task.augment != "none" else 1
        loader = images("train", shuffle=False)
        kept = [_collected(from_files(loader), torch) for _ in range(views)]
        epochs = [_shuffled(guest, *view, task.batch_size) for view in kept]
        val = _collected(from_files(images("val", shuffle=False)), torch)
        validation: Batches = lambda: zip(*(part.split(task.eval_batch_size) for part in val), strict=True)  # noqa: E731
        steps_per_epoch = len(kept[0][1]) // task.batch_size
    else:
        loader, val_loader = images("train", shuffle=True), images("val", shuffle=False)
        epochs = [lambda: from_files(loader)]
        validation = lambda: from_files(val_loader)  # noqa: E731
        steps_per_epoch = len(loader)

    step = _stepper(guest, network, task, steps_per_epoch)
    seconds: list[float] = []
    curve: list[tuple[float, float]] = []
    number = itertools.count()
    run = task.epochs if timed is None else min(timed, task.epochs)
    for epoch in range(run):
        epoch_begun = time.perf_counter()
        for features, labels in epochs[epoch % len(epochs)]():
            step(next(number), features, labels)
        guest.wait()
        seconds.append(time.perf_counter() - epoch_begun)
        if (epoch + 1) % task.eval_every == 0 or epoch + 1 == run:
            accuracy = _accuracy(guest, network, validation)
            curve.append((time.perf_counter() - begun, accuracy))
    missing = task.epochs - run
    whole = time.perf_counter() - begun + missing * statistics.median(seconds)
    return {
        "seconds": whole,
        "epochs": seconds,
        "curve": curve,
        "accuracy": None if missing else curve[-1][1],
        "extrapolated": missing,
        "same": {"preprocess": preprocess(guest, task), "trained": sum(p.numel() for p in network.trained())},
    }


def _front(guest: Guest, network: Network, images: Any) -> Any:
    with guest.autocast():
        return network.prefix(images.contiguous(memory_format=guest.torch.channels_last))


def _collected(batches: Iterator[tuple[Any, Any]], torch: Any) -> tuple[Any, Any]:
    """All features, maps as (N, rows, columns, channels) so that images lie together, and labels."""
    features, labels = zip(*batches, strict=True)
    whole = torch.cat([batch.permute(0, 2, 3, 1) if batch.ndim == 4 else batch for batch in features])
    return _as_batch(whole), torch.cat(labels)


def _as_batch(features: Any) -> Any:
    return features.permute(0, 3, 1, 2) if features.ndim == 4 else features


def _shuffled(guest: Guest, features: Any, labels: Any, batch_size: int) -> Batches:
    stored = features.permute(0, 2, 3, 1) if features.ndim == 4 else features

    def batches() -> Iterator[tuple[Any, Any]]:
        order = guest.torch.randperm(len(labels), device=labels.device)
        for chosen in order.split(batch_size)[: len(labels) // batch_size]:
            yield _as_batch(stored[chosen]), labels[chosen]

    return batches


def _stepper(guest: Guest, network: Network, task: Task, steps_per_epoch: int) -> Callable[..., None]:
    """One step with an optimizer over what trains, weight decay on kernels alone."""
    torch = guest.torch
    head = network.stages[-1]
    groups: dict[tuple[float, float], list[Any]] = {}
    for parameter in network.trained():
        peak = task.fast if network.stage_of(parameter) == head else task.slow
        groups.setdefault((peak, task.weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    made = [{"params": members, "peak": peak, "weight_decay": decay} for (peak, decay), members in groups.items()]
    optimizer = torch.optim.AdamW(made, lr=task.fast, fused=True)
    steps = task.epochs * steps_per_epoch
    warmup = min(round(task.warmup_epochs * steps_per_epoch), steps - 1)

    def step(number: int, features: Any, labels: Any) -> None:
        part = rate(number, steps, warmup, task.final)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * part
        optimizer.zero_grad(set_to_none=True)
        with guest.autocast():
            logits = network.suffix(features)
            loss = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=task.label_smoothing)
        loss.backward()
        optimizer.step()

    return step


def _accuracy(guest: Guest, network: Network, batches: Batches) -> float:
    network.train(False)
    correct, count = 0, 0
    with guest.torch.no_grad(), guest.autocast():
        for features, labels in batches():
            correct = correct + (network.suffix(features).argmax(1) == labels).sum()
            count += len(labels)
    network.train(True)
    return int(correct) / count
