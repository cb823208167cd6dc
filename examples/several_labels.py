"""Several labels an image: which digits are on a card with two of them. Offline, in less than a minute.

On your own images write a table with a column of paths and a column of labels such as "sun;sea", and open it with
``jaxtl.open_data("csv:table.csv", model)``.
"""

import numpy as np
from sklearn.datasets import load_digits

import jaxtl


class Cards:
    """Two digits side by side. Whatever has a length and gives (image, label) is a data set; this one names its labels
    ahead, one row of 0 and 1 for each card, so that nothing has to be drawn to learn them."""

    classes = tuple("0123456789")

    def __init__(self, count: int, digits_from: slice):
        digits = load_digits()
        pairs = np.random.default_rng(0).choice(np.arange(len(digits.images))[digits_from], (count, 2))
        self.images = (digits.images[pairs] * 255 / 16).astype(np.uint8).transpose(0, 2, 1, 3).reshape(count, 8, 16)
        self.targets = np.eye(10)[digits.target[pairs]].max(1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.images[index], self.targets[index]


def main() -> None:
    model = jaxtl.load("cifar_resnet20.letters", num_classes=10)
    model = model.replace(preprocess=model.preprocess.replace(size=(24, 48), crop_pct=1.0))
    data = jaxtl.open_data(
        (Cards(900, slice(1400)), Cards(300, slice(1400, None))), model, augment="glyph", task="multi-label"
    )
    print(data)
    result = jaxtl.fine_tune(
        model,
        data,
        epochs=6,
        loss={"name": "sigmoid"},
        optimizer={"slow": {"name": "adamw", "lr": 1e-3}, "fast": {"name": "adamw", "lr": 1e-2}},
        progress=False,
    )
    best = result.best
    print(f"macro F1 {best['val_macro_f1']:.3f}, mean average precision {best['val_mean_average_precision']:.3f}")


if __name__ == "__main__":
    main()
