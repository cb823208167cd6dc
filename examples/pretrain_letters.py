"""Pretrains the network that jaxtl carries, `cifar_resnet20.letters`, on rendered printed letters.

    python examples/pretrain_letters.py --glyphs 200000 --output letters

Every glyph is new: the network sees each picture once. What the carried weights were made with, and what they scored,
stands in `examples/pretrain_letters.log`, which this script printed.
"""

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import optax
from letters import CLASSES, Letters

import jaxtl

PREPROCESS = jaxtl.Preprocess(size=32, mean=(0.29,), std=(0.34,), interpolation="bicubic", crop_pct=1.0)
HELD_OUT_SEED, HELD_OUT = 1, 20_000


def batches(letters: Letters, glyphs: int, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches in order, each rendered while the one before it is used."""
    ranges = [range(start, start + batch_size) for start in range(0, glyphs - batch_size + 1, batch_size)]
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(letters.batch, ranges[0])
        for following in [*ranges[1:], None]:
            images, labels = ahead.result()
            if following is not None:
                ahead = pool.submit(letters.batch, following)
            yield {"image": images, "label": labels}


def pretrain(glyphs: int, batch_size: int, peak_rate: float, weight_decay: float, log_every: int) -> jaxtl.Model:
    """Trains all of `cifar_resnet20` from scratch with AdamW, a warm-up of 5 % and a cosine to zero."""
    model = jaxtl.load("cifar_resnet20", weights=None, num_classes=len(CLASSES), in_chans=1, seed=0)
    model = model.replace(preprocess=PREPROCESS, classes=CLASSES, name="cifar_resnet20.letters", license="apache-2.0")
    steps = glyphs // batch_size
    rate = optax.warmup_cosine_decay_schedule(0.0, peak_rate, steps // 20, steps)
    decayed = optax.adamw(rate, weight_decay=weight_decay)
    plain = optax.adam(rate)
    optimizer = jaxtl.multi_transform(
        {"kernels": decayed, "norms and biases": plain},
        lambda path, leaf: "kernels" if path.endswith("kernel") else "norms and biases",
        clip_norm=1.0,
    )
    state = jaxtl.TrainState.create(model, optimizer)
    train_step = jaxtl.make_train_step(model, optimizer)

    recent, begun = [], time.perf_counter()
    for step, batch in enumerate(batches(Letters(seed=0), glyphs, batch_size), start=1):
        state, metrics = train_step(state, batch)
        recent.append(metrics)
        if step % log_every == 0 or step == steps:
            loss, accuracy = (np.mean([m[key] for m in jax.device_get(recent)]) for key in ("loss", "accuracy"))
            seconds = time.perf_counter() - begun
            print(
                f"{step * batch_size:8d} glyphs  loss {loss:.3f}  accuracy {100 * accuracy:5.2f} %  "
                f"{step * batch_size / seconds:5.0f} glyphs/s",
                flush=True,
            )
            recent = []
    return state.to_model(model)


def evaluate(model: jaxtl.Model) -> float:
    """Accuracy on glyphs of a seed that training does not use."""
    eval_step = jaxtl.make_eval_step(model)
    found = [eval_step(model, batch)["correct"] for batch in batches(Letters(HELD_OUT_SEED), HELD_OUT, batch_size=500)]
    return int(sum(found)) / HELD_OUT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--glyphs", type=int, default=200_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--peak-rate", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--output", default="letters")
    arguments = parser.parse_args()
    if arguments.glyphs < arguments.batch_size:
        parser.error(f"--glyphs {arguments.glyphs} are less than a batch of {arguments.batch_size}")
    settings = {k: v for k, v in vars(arguments).items() if k != "output"}
    print(f"jaxtl {jaxtl.__version__}, jax {jax.__version__}, {jax.default_backend()}: {settings}", flush=True)
    model = pretrain(**settings, log_every=max(1, arguments.glyphs // arguments.batch_size // 40))
    accuracy = evaluate(model)
    print(
        f"held-out letters: {100 * accuracy:.2f} % of {HELD_OUT} ({len(CLASSES)} classes, upper and lower case apart)"
    )
    jaxtl.save(model, arguments.output, training={"script": "examples/pretrain_letters.py", **settings})


if __name__ == "__main__":
    main()
