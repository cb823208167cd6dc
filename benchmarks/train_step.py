"""The training step alone: forward, gradients of what trains, AdamW, on a normalised batch on the device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import limits
from benchmarks.options import Options
from benchmarks.precision import bfloat16
from benchmarks.side import Side
from benchmarks.tables import NONE, megabytes, ratios, spread, table
from benchmarks.torch_network import ALL, HEAD, LAST, frozen_stages
from benchmarks.turns import SIDES as NAMES
from benchmarks.turns import rates

TITLE = "Training step"
NEEDS_DATA = False
ABOUT = (
    'Forward, gradients of what trains and AdamW, on a normalised batch on the device; "cached": on the output of the '
    "frozen front instead, computed once before. The limits are what the step "
    "that XLA compiled would reach if its arithmetic (floating-point operations that XLA counts) or its traffic "
    "(bytes its operations read and write, as if no cache kept any) were all, at the rates of a large matrix "
    "product and a large copy on this device in this run. They are counted with XLA's own form of every convolution, "
    "since it counts the body of a loop once; on a GPU the arithmetic is that of the traced products and "
    "convolutions, without attention by cuDNN and depthwise convolutions, and the traffic is without what cuBLAS and "
    "cuDNN read and write, of which XLA counts nothing. "
    '"Of the limit" is jaxtl\'s rate over the lower of the two, '
    "and above 1 where caches save traffic, or XLA counts arithmetic that is not done. There are none of a CPU in "
    "bfloat16, because XLA does not count what oneDNN multiplies. Cached rows have no memory: the most that their "
    "processes held was for the frozen front's pass before."
)
RATE = 1e-4


def networks(options: Options) -> Sequence[tuple[str, int, int]]:
    """Names, pixels and batch sizes."""
    return options.pick(
        quick=(("mobilenetv2_035", 32, 2), ("vit_tiny_patch16_224", 32, 2)),
        small=(("resnet18", 96, 8),),
        full=tuple(
            (name, 224, 256 if options.gpu else 16)
            for name in ("resnet18", "resnet50", "mobilenetv2_100", "vit_small_patch16_224")
        ),
    )


def cases(options: Options) -> Iterator[dict[str, Any]]:
    for name, size, batch_size in options.among(networks(options)):
        case = {"model": name, "size": size, "batch_size": batch_size}
        for trains in options.pick(quick=(LAST,), small=(ALL, LAST, HEAD), full=(ALL, LAST, HEAD)):
            yield {**case, "trains": trains, "cached": False}
        yield {**case, "trains": LAST, "cached": True}


def measure(options: Options, show: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"device": limits.measured(options), "rows": []}
    for case in cases(options):
        found["rows"].append(rates(__name__, case, options.turns, options.seconds))
        show(found)
    return found


def tables(found: dict[str, Any]) -> str:
    device = found["device"]
    rows = []
    for row in found["rows"]:
        case, ours, theirs = row["case"], row["rates"]["jaxtl"], row["rates"]["PyTorch"]
        cached = case.get("cached", False)
        rows.append(
            [case["model"], case["size"], case["batch_size"], case["trains"] + ", cached" * cached]
            + [spread(ours), spread(theirs), spread(ratios(ours, theirs), ".2f")]
            + _limits(row["about"]["jaxtl"]["more"].get("cost"), device, case["batch_size"], ours)
            + [NONE if cached else megabytes(row["memory"][side], where)
               for where in ("host", "device") for side in NAMES]
        )  # fmt: skip
    header = ["network", "pixels", "batch", "trains", "jaxtl, images/s", "PyTorch, images/s", "jaxtl / PyTorch"]
    header += ["limit by arithmetic, images/s", "limit by traffic, images/s", "of the limit"]
    header += [f"{where} memory of {side}, MB" for where in ("host", "device") for side in NAMES]
    speeds = (
        f"The device: {spread(device['flops'], '.1f', 1e-9)} GFLOP/s in a matrix product, "
        f"{spread(device['bytes'], '.1f', 1e-9)} GB/s in a copy."
    )
    return f"{speeds}\n\n{table(header, rows)}"


def _limits(cost: Any, device: dict[str, list[float]], batch_size: int, ours: list[float]) -> list[str]:
    if cost is None:
        return [NONE] * 3
    most = limits.bounds(cost, device, batch_size)
    lower = min(most.values())
    return [f"{most['flops']:.1f}", f"{most['bytes']:.1f}", spread([rate / lower for rate in ours], ".2f")]


def jaxtl_side(case: dict[str, Any], *, counted: bool = True) -> Side:
    """jaxtl's; where ``counted`` it says afterwards what the step asks of the device."""
    import jax
    import optax

    import jaxtl
    from benchmarks import jax_side
    from jaxtl.compiled import compiled
    from jaxtl.train.feature_cache import FixedPart

    model = jax_side.random_model(case["model"], case["size"])
    front = frozen_stages(case["trains"], model.stages, model.graph.last_stage)
    frozen = model.stages[:front]

    def label(path: str, leaf: Any) -> str:
        return "frozen" if model.graph.stage_of(path) in frozen else "trained"

    precision = jax_side.precision()
    optimizer = jaxtl.multi_transform({"trained": optax.adamw(RATE)}, label)
    state = jaxtl.TrainState.create(model, optimizer)
    images, labels = _batch(case)
    batch = jax.device_put({"image": images, "label": labels.astype(np.int32)})
    after = model.stages[front - 1] if case.get("cached") else None
    if after is not None:
        part = FixedPart(model.graph, model.params, model.batch_stats, model.preprocess, after, precision)
        batch["image"] = part(images)

    def made() -> Any:
        return jaxtl.make_train_step(model, optimizer, after=after, precision=precision)

    def lower() -> Any:
        return made().lower(state, batch)

    step = compiled(lower())

    def cost() -> dict[str, Any]:
        if counted and jax_side.on_gpu():
            arithmetic = limits.products(jax.make_jaxpr(made())(state, batch).jaxpr)
            return {"cost": {**limits.counted(step), "flops": arithmetic}}
        return {"cost": limits.cost(lower)} if counted and not bfloat16(gpu=False) else {}

    def run(steps: int) -> float:
        nonlocal state
        begun = time.perf_counter()
        for _ in range(steps):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        return time.perf_counter() - begun

    return Side(
        run,
        setup=jax_side.setup(),
        same={"trained": sum(leaf.size for leaf in jax.tree.leaves(state.params)), "stages": list(model.stages)},
        more={"images": case["batch_size"]},
        afterwards=cost,
        **jax_side.about(),
    )


def torch_side(case: dict[str, Any]) -> Side:
    from benchmarks import torch_side
    from benchmarks.torch_network import Network

    guest = torch_side.guest()
    torch = guest.torch
    compiled = case.get("compiled", guest.gpu)
    options = {"classes": _CLASSES, "size": case["size"], "compiled": compiled}
    network = Network(guest, case["model"], case["trains"], **options)
    trained = network.trained()
    optimizer = torch.optim.AdamW(trained, lr=RATE, fused=True)
    images, labels = _batch(case)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).to(guest.device)  # channels last already
    targets = torch.from_numpy(labels).to(guest.device)
    with guest.autocast():
        features = network.prefix(inputs) if case.get("cached") else None

    def run(steps: int) -> float:
        begun = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with guest.autocast():
                seen = network.prefix(inputs) if features is None else features
                loss = torch.nn.functional.cross_entropy(network.suffix(seen), targets)
            loss.backward()
            optimizer.step()
        loss.item()
        guest.wait()
        return time.perf_counter() - begun

    return Side(
        run,
        same={"trained": sum(parameter.numel() for parameter in trained), "stages": list(network.stages)},
        more={"images": case["batch_size"]},
        **guest.about(compiled),
    )


SIDES = {"jaxtl": jaxtl_side, "PyTorch": torch_side}
_CLASSES = 5


def _batch(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images, NHWC, and labels."""
    rng = np.random.default_rng(0)
    size = case["size"]
    images = rng.standard_normal((case["batch_size"], size, size, 3), dtype=np.float32)
    return images, rng.integers(0, _CLASSES, case["batch_size"])
