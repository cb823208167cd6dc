"""A label function and a training loop of one's own: the last stage learns slowly, the new head fast.

Without options it goes from letters to digits, offline. On your own images:

    python examples/custom_labels.py --data folder:photos --model resnet18 --name new.jpg
"""

import argparse
from collections.abc import Callable

import jax
import numpy as np
import optax

import jaxtl


def last_stage_and_head(model: jaxtl.Model) -> Callable[[str, jax.Array], str]:
    """The label decides everything: gradient, optimizer memory, and whether a BatchNorm keeps its statistics."""
    graph = model.graph
    late = model.stages[model.stages.index(graph.last_stage) :]

    def label(path: str, leaf: jax.Array) -> str:
        if graph.in_head(path):
            return "fast"
        return "slow" if graph.stage_of(path) in late else "frozen"

    return label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="folder:PATH, with one subfolder for each class")
    parser.add_argument("--model", default="cifar_resnet20.letters", help="a name that 'jaxtl list' shows")
    parser.add_argument("--weights", default="default", help="a file or folder in place of the name's own, or 'none'")
    parser.add_argument("--until", help="cut the network after this stage")
    parser.add_argument("--size", type=int, help="input size in pixels, in place of the weights' own")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--output", default="out/custom_labels", help="a folder for the tuned model")
    parser.add_argument("--name", nargs="*", default=[], metavar="IMAGE", help="image files to name when it is tuned")
    arguments = parser.parse_args()
    # The data decides what the new head tells apart, and the weights decide how images are prepared.
    classes = jaxtl.open_data(arguments.data, jaxtl.Preprocess(size=32)).classes
    weights = None if arguments.weights == "none" else arguments.weights
    model = jaxtl.load(arguments.model, weights=weights, classes=classes, until=arguments.until)
    if arguments.size:
        model = model.replace(preprocess=model.preprocess.replace(size=(arguments.size, arguments.size)))
    data = jaxtl.open_data(arguments.data, model)
    print(data)

    rates = {"slow": optax.adamw(1e-4), "fast": optax.adamw(1e-3)}
    optimizer = jaxtl.multi_transform(rates, last_stage_and_head(model))
    print(jaxtl.explain(model, optimizer))

    state = jaxtl.TrainState.create(model, optimizer, seed=0)
    train_step = jaxtl.make_train_step(model, optimizer)
    eval_step = jaxtl.make_eval_step(model)
    batch_size = 32
    batches = data.train_batches(batch_size, seed=0)
    for epoch in range(1, arguments.epochs + 1):
        losses = []
        for _ in range(data.steps_per_epoch(batch_size)):
            state, metrics = train_step(state, next(batches))
            losses.append(metrics["loss"])
        found = [eval_step(state, batch) for batch in data.eval_batches(batch_size)]
        accuracy = sum(int(batch["correct"]) for batch in found) / len(data.val)
        print(f"epoch {epoch}: training loss {np.mean(losses):.3f}, validation accuracy {100 * accuracy:.1f} %")

    folder = jaxtl.save(state.to_model(model), arguments.output)
    if arguments.name:
        for image in jaxtl.predict(jaxtl.load(folder), arguments.name):
            print(f"{image['path']}: {image['label']} ({100 * image['probability']:.0f} %)")


if __name__ == "__main__":
    main()
