"""A task done by PyTorch: loader, optimizer, schedule, epochs, and features that are cached in memory."""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


def train(guest: Guest, task: Task, *, seed: int, workers: int, compiled: bool, timed: int | None) -> dict[str, Any]:
    """Does the task, or its first ``timed`` epochs: the others are then taken to need the median of these.

    Without caching all epochs do the same work on fresh images, so that few of them tell what the rest needs.

    Returns:
        ``seconds`` in all; ``epochs``, seconds of each, its validation included; ``curve``, seconds since the start and
        accuracy of each validation; ``accuracy`` at the end; ``extrapolated``, the number of epochs that were not run;
        ``warm``, the seconds until the first epoch ended, null where no other follows.
    """
    begun = time.perf_counter()
    guest.torch.manual_seed(seed)
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

    batches = _batches(guest, network, task, workers)
    step = _stepper(guest, network, task, batches.steps_per_epoch)
    training: list[float] = []
    epoch_seconds: list[float] = []
    curve: list[tuple[float, float]] = []
    warm = None
    number = itertools.count()
    run = task.epochs if timed is None else min(timed, task.epochs)
    for epoch in range(run):
        epoch_begun = time.perf_counter()
        if epoch == 1:
            warm = epoch_begun - begun
        for features, labels in batches.epochs[epoch % len(batches.epochs)]():
            step(next(number), features, labels)
        guest.wait()
        training.append(time.perf_counter() - epoch_begun)
        if (epoch + 1) % task.eval_every == 0 or epoch + 1 == run:
            accuracy = _accuracy(guest, network, batches.validation)
            curve.append((time.perf_counter() - begun, accuracy))
        epoch_seconds.append(time.perf_counter() - epoch_begun)
    missing = task.epochs - run
    whole = time.perf_counter() - begun + missing * statistics.median(training)
    return {
        "seconds": whole,
        "epochs": epoch_seconds,
        "curve": curve,
        "accuracy": None if missing else curve[-1][1],
        "extrapolated": missing,
        "warm": warm,
        "same": {
            "preprocess": preprocess(guest, task),
            "images": batches.images,
            "classes": classes,
            "steps": task.epochs * batches.steps_per_epoch,
            "trained": sum(p.numel() for p in network.trained()),
        },
    }


@dataclass(frozen=True)
class _Inputs:
    """Outputs of the frozen front with labels.

    Attributes:
        epochs: shuffled, for each epoch in turn.
        validation: in order.
        steps_per_epoch: batches of an epoch.
        images: how many there are to train on, and to validate with.
    """

    epochs: list[Batches]
    validation: Batches
    steps_per_epoch: int
    images: list[int]


def _batches(guest: Guest, network: Network, task: Task, workers: int) -> _Inputs:
    def images(split: str, *, shuffle: bool) -> Any:
        augment = task.augment if split == "train" else "none"
        return make_loader(guest, task, split, augment=augment, shuffle=shuffle, workers=workers)

    def from_files(loader: Any) -> Batches:
        return lambda: ((_front(guest, network, images), labels) for images, labels in loader)

    train_images, val_images = images("train", shuffle=not task.cached), images("val", shuffle=False)
    counts = [len(train_images.dataset), len(val_images.dataset)]
    if not task.cached:
        return _Inputs([from_files(train_images)], from_files(val_images), len(train_images), counts)
    views = (task.views or task.epochs) if task.augment != "none" else 1
    kept = [_collected(guest, network, train_images) for _ in range(views)]
    val = _collected(guest, network, val_images)
    epochs = [_shuffled(guest, *view, task.batch_size) for view in kept]
    return _Inputs(epochs, lambda: _in_order(*val, task.eval_batch_size), counts[0] // task.batch_size, counts)


def _front(guest: Guest, network: Network, images: Any) -> Any:
    with guest.autocast():
        return network.prefix(images.contiguous(memory_format=guest.torch.channels_last))


def _collected(guest: Guest, network: Network, loader: Any) -> tuple[Any, Any]:
    """The frozen front's outputs of all images, maps as (N, rows, columns, channels) so that images lie together, and
    the labels."""
    torch = guest.torch
    whole, labels, done = None, [], 0
    for images, some in loader:
        features = _front(guest, network, images)
        features = features.permute(0, 2, 3, 1) if features.ndim == 4 else features
        if whole is None:
            shape = (len(loader.dataset), *features.shape[1:])
            whole = torch.empty(shape, dtype=features.dtype, device=features.device)
        whole[done : done + len(some)] = features
        labels.append(some)
        done += len(some)
    return whole, torch.cat(labels)


def _as_batch(features: Any) -> Any:
    return features.permute(0, 3, 1, 2) if features.ndim == 4 else features


def _in_order(features: Any, labels: Any, batch_size: int) -> Iterator[tuple[Any, Any]]:
    for some, their in zip(features.split(batch_size), labels.split(batch_size), strict=True):
        yield _as_batch(some), their


def _shuffled(guest: Guest, features: Any, labels: Any, batch_size: int) -> Batches:
    def batches() -> Iterator[tuple[Any, Any]]:
        order = guest.torch.randperm(len(labels), device=labels.device)
        for chosen in order.split(batch_size)[: len(labels) // batch_size]:
            yield _as_batch(features[chosen]), labels[chosen]

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
