"""Images of six channels, as satellites take them, with a network trained on one. Offline, in less than a minute.

On your own images: ``.npy`` files or TIFF files of several pages in class folders, opened with ``folder:PATH``, or one
array of all images with ``arrays:PATH.npz``. The network is loaded with ``in_chans`` and adapts its first layer.
"""

import numpy as np
from sklearn.datasets import load_digits

import jaxtl

GAINS = np.array([1.0, 0.8, 0.6, 0.4, 0.3, 0.2])


class SixBands:
    """Digits seen in six bands, each fainter than the one before and with noise of its own."""

    classes = tuple("0123456789")

    def __init__(self, count: int, digits_from: slice):
        digits = load_digits()
        rng = np.random.default_rng(0)
        places = rng.choice(np.arange(len(digits.images))[digits_from], count)
        bright = digits.images[places][..., None] * (255 / 16) * GAINS
        self.images = np.clip(bright + rng.normal(40, 30, bright.shape), 0, 255).astype(np.uint8)
        self.targets = digits.target[places]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], int(self.targets[index])


def main() -> None:
    model = jaxtl.load("cifar_resnet20.letters", num_classes=10, in_chans=6)
    data = jaxtl.open_data((SixBands(900, slice(1400)), SixBands(300, slice(1400, None))), model, augment="glyph")
    print(data)
    result = jaxtl.fine_tune(
        model,
        data,
        epochs=4,
        optimizer={"slow": {"name": "adamw", "lr": 1e-3}, "fast": {"name": "adamw", "lr": 1e-2}},
        progress=False,
    )
    print(f"accuracy {result.best['val_accuracy']:.3f}")


if __name__ == "__main__":
    main()
