"""Balanced sampling: all classes equally often, as a function of the seed and the epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxtl
from jaxtl.data.pipeline import epoch_order
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError

PREPROCESS = Preprocess(size=8, mean=(0.5,), std=(0.5,), crop_pct=1.0)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(0, 5), st.integers(0, 5))
def test_every_class_has_its_share_and_no_image_comes_twice_before_all_have_come(classes, seed, epoch) -> None:
    labels = np.array(classes)
    order = epoch_order(seed, epoch, len(labels), labels)
    assert len(order) == len(labels)
    counts = np.bincount(labels[order], minlength=7)[np.unique(labels)]
    assert counts.max() - counts.min() <= 1
    for label in np.unique(labels):
        often = np.bincount(order, minlength=len(labels))[labels == label]
        assert often.max() - often.min() <= 1
    np.testing.assert_array_equal(order, epoch_order(seed, epoch, len(labels), labels))


def test_batches_follow_it_wherever_images_are_kept(monkeypatch) -> None:
    def opened(**options):
        data = jaxtl.open_data("digits", PREPROCESS, seed=3, augment="none", train_samples=60, **options)
        keep = np.concatenate([np.flatnonzero(data.train.labels == label)[: 1 + label] for label in range(5)])
        from jaxtl.data.dataset import Data
        from jaxtl.data.sources import Subset

        return Data(
            name="few",
            classes=data.classes,
            train=Subset(data.train, keep),
            val=data.val,
            preprocess=PREPROCESS,
            augment=data.augment,
            split="by hand",
            sampling="balanced",
            storage=options.get("storage", "auto"),
        )

    seen = []
    for storage in ("stream", "device"):
        data = opened(storage=storage)
        batches = data.train_batches(5, seed=1)
        labels = np.concatenate([np.asarray(next(batches)["label"]) for _ in range(2 * data.steps_per_epoch(5))])
        assert np.bincount(labels[:15], minlength=5).tolist() == [3] * 5
        seen.append(labels.tolist())
        assert "every class equally often" in data.describe()
    assert seen[0] == seen[1]


def test_the_fingerprint_tells_and_other_words_are_refused() -> None:
    prints = {jaxtl.open_data("digits", PREPROCESS, sampling=how).fingerprint for how in ("shuffled", "balanced")}
    assert len(prints) == 2
    with pytest.raises(InputError, match="'balancd' is none of shuffled, balanced; did you mean 'balanced'"):
        jaxtl.open_data("digits", PREPROCESS, sampling="balancd")
