"""Pairs of images that look the same: what is computed in blocks is what one pair after the other gives."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtl.studies import alike as module
from jaxtl.studies.alike import ALIKE, NEAR_BITS, alike, difference_hash


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    """Three pictures, each under noise that makes correlations around the limit."""
    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 3, 60)
    coarse, fine = generator.integers(0, 256, (3, 8, 9)), generator.integers(0, 256, (3, 32, 32))
    noise = generator.normal(0, 18 * generator.random((60, 1, 1)), (60, 32, 32))
    noisy = (0.7 * fine[kinds] + 38 + noise).clip(0, 255).astype(np.uint8)
    return (coarse[kinds] + generator.integers(-2, 3, (60, 8, 9))).clip(0, 255).astype(np.uint8), noisy


def _one_by_one(left, right, wanted) -> list[list[int]]:
    hashes = [difference_hash(part[0]) for part in (left, right)]
    return [
        [i, j]
        for i, one in enumerate(hashes[0])
        for j, other in enumerate(hashes[1])
        if int(one ^ other).bit_count() <= NEAR_BITS
        and wanted(i, j)
        and np.corrcoef(left[1][i].ravel(), right[1][j].ravel())[0, 1] >= ALIKE
    ]


def test_blocks_give_what_one_pair_after_the_other_gives(images, monkeypatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 7)
    monkeypatch.setattr(module, "_TOGETHER", 5)
    left, right = (tuple(part[:25] for part in images), tuple(part[20:] for part in images))
    near = alike(left, right)
    assert near.whole
    assert near.pairs.tolist() == _one_by_one(left, right, lambda i, j: True)
    itself = alike(images, images, lambda i, j: (i < j) & (i % 2 != j % 2))
    expected = _one_by_one(images, images, lambda i, j: i < j and i % 2 != j % 2)
    assert itself.pairs.tolist() == expected
    assert 50 < len(expected) < 900 / 3, "some on both sides of the limit"


@pytest.mark.parametrize("limit", ["MOST_FOUND", "MOST_COMPARED"])
def test_it_ends_where_too_many_are_alike(images, monkeypatch, limit) -> None:
    whole = alike(images, images)
    monkeypatch.setattr(module, "_TOGETHER", 5)
    monkeypatch.setattr(module, limit, 20)
    found = alike(images, images)
    assert whole.told is None
    assert (found.whole, found.told is None) == (False, False)
    assert found.pairs.tolist() == whole.pairs[: len(found.pairs)].tolist()
    assert 0 < len(found.pairs) <= 20


def test_images_without_contrast_are_like_nothing() -> None:
    flat = np.full((2, 8, 9), 7, np.uint8), np.full((2, 32, 32), 7, np.uint8)
    assert alike(flat, flat).pairs.tolist() == []
