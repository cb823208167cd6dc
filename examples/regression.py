"""Numbers instead of classes (regression): by how many degrees a digit is turned. Offline, in less than a minute.

On your own images write a table with a column of paths and one column, or several, of numbers, and open it with
``jaxtl.open_data("csv:table.csv", model, task="regression")``.
"""

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import jaxtl

UNIT = 30.0  # degrees: losses are best computed of numbers around 1


class TurnedDigits:
    """Threes, sevens and nines, each turned by an angle of its own."""

    classes = ("angle",)

    def __init__(self, count: int, digits_from: slice):
        digits = load_digits()
        rng = np.random.default_rng(0)
        wanted = np.isin(digits.target, (3, 7, 9))
        places = rng.choice(np.arange(len(wanted))[digits_from][wanted[digits_from]], count)
        self.images = (digits.images[places] * 255 / 16).astype(np.uint8)
        self.targets = rng.uniform(-90, 90, count) / UNIT

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, float]:
        large = Image.fromarray(self.images[index]).resize((32, 32), Image.Resampling.BICUBIC)
        angle = self.targets[index]
        return large.rotate(UNIT * angle, Image.Resampling.BICUBIC), angle


def main() -> None:
    model = jaxtl.load("cifar_resnet20.letters", num_classes=1)
    parts = TurnedDigits(900, slice(1400)), TurnedDigits(300, slice(1400, None))
    data = jaxtl.open_data(parts, model, augment="none", task="regression")
    print(data)
    result = jaxtl.fine_tune(
        model,
        data,
        epochs=6,
        loss={"name": "mse"},
        optimizer={"slow": {"name": "adamw", "lr": 1e-3}, "fast": {"name": "adamw", "lr": 1e-2}},
        progress=False,
    )
    best = result.best
    print(f"off by {UNIT * best['val_mae']:.1f} degrees on average; explained variance (r2) {best['val_r2']:.3f}")


if __name__ == "__main__":
    main()
