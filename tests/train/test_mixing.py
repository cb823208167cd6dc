from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxtl.errors import InputError
from jaxtl.train.mixing import mix, symmetric_beta

SIZE, CLASSES = (12, 20), 6


def _images(count: int = 6) -> jax.Array:
    """Image i is i everywhere: what is left of it can be read off its pixels."""
    return jnp.broadcast_to(jnp.arange(count, dtype=jnp.float32)[:, None, None, None], (count, *SIZE, 3))


@partial(jax.jit, static_argnames=("mixup", "cutmix"))
def _many(images, labels, *, mixup: float = 0.0, cutmix: float = 0.0, keys):
    return jax.vmap(lambda key: mix(key, images, labels, CLASSES, mixup=mixup, cutmix=cutmix))(keys)


def _draws(count: int = 200, **alphas: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and the own image's share of each draw."""
    keys = jax.random.split(jax.random.key(0), count)
    images, labels = map(np.asarray, _many(_images(), jnp.arange(6), **alphas, keys=keys))
    return images, labels, labels[:, 0, 0]


def test_without_alphas_nothing_is_mixed() -> None:
    images, labels = mix(jax.random.key(0), _images(), jnp.arange(6), CLASSES)
    np.testing.assert_array_equal(images, _images())
    np.testing.assert_array_equal(labels, np.eye(6))


def test_the_share_of_a_label_that_is_no_class_is_not_a_number() -> None:
    _, labels = mix(jax.random.key(0), _images(), jnp.array([0, 1, 2, 3, CLASSES, -1]), CLASSES, mixup=0.4)
    assert np.isnan(labels).all(1).tolist() == [True, True, False, False, True, True]  # with those they are mixed with


def test_mixup_blends_images_and_labels_alike() -> None:
    images, labels, own = _draws(mixup=0.4)
    order = np.arange(6, dtype=np.float32)
    expected = own[:, None] * order + (1 - own[:, None]) * order[::-1]
    np.testing.assert_allclose(images, np.broadcast_to(expected[:, :, None, None, None], images.shape), atol=1e-5)
    eye = np.eye(6)
    np.testing.assert_allclose(labels, own[:, None, None] * eye + (1 - own)[:, None, None] * eye[::-1], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.02, 0.2, 1.0, 8.0])
def test_lambda_is_of_the_beta_distribution(alpha: float) -> None:
    uniform = np.random.default_rng(7).random((2, 20_000), np.float32)
    draws = np.sort(np.asarray(jax.jit(symmetric_beta)(*uniform, alpha), np.float64))
    assert np.isfinite(draws).all()
    expected = stats.beta(alpha, alpha).cdf(draws)
    for ranks in (np.searchsorted(draws, draws, side=side) / len(draws) for side in ("left", "right")):
        # 1.95 / sqrt(n) is the limit that a right sampler passes 999 times in 1000; equal draws stand for a range.
        inside = (draws > 1e-6) & (draws < 1 - 1e-6)
        assert np.abs(ranks - expected)[inside].max() < 1.95 / len(draws) ** 0.5


def test_mixup_uses_it() -> None:
    own = _draws(2000, mixup=0.4)[2]
    assert own.mean() == pytest.approx(0.5, abs=0.04)
    assert own.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.1)


def test_cutmix_pastes_one_box_and_the_labels_follow_its_area() -> None:
    images, labels, own = _draws(cutmix=1.0)
    cut_sizes = set()
    for image, label in zip(images[:, 0, :, :, 0], labels, strict=True):
        box = image == 5
        assert ((image == 0) | box).all()
        rows, columns = box.any(1), box.any(0)
        assert (box == rows[:, None] & columns).all()
        assert np.count_nonzero(np.diff(np.pad(rows, 1).astype(int))) in (0, 2), "one box"
        np.testing.assert_allclose(label[0], [1 - box.mean(), 0, 0, 0, 0, box.mean()], rtol=0, atol=2e-7)
        assert label.sum(1).tolist() == [1.0] * 6
        cut_sizes.add(int(box.sum()))
    assert len(cut_sizes) > 40
    assert own.min() < 0.3
    assert own.max() > 0.9


def test_cutmixs_box_is_the_papers_before_it_is_clipped() -> None:
    """The box of timm, drawn by hand with numpy, has the same mean share."""
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(20_000):
        side = np.sqrt(1 - generator.beta(1.0, 1.0))
        spans = []
        for length in SIZE:
            half, centre = int(length * side) // 2, generator.integers(length)
            spans.append(min(centre + half, length) - max(centre - half, 0))
        shares.append(1 - spans[0] * spans[1] / (SIZE[0] * SIZE[1]))
    own = _draws(4000, cutmix=1.0)[2]
    assert own.mean() == pytest.approx(np.mean(shares), abs=0.015)
    assert own.std() == pytest.approx(np.std(shares), rel=0.05)


def test_with_both_half_the_batches_are_cut_and_half_are_blended() -> None:
    images, labels, own = _draws(1000, mixup=1.0, cutmix=1.0)
    first = images[:, 0, :, :, 0]
    blended = (first == first[:, :1, :1]).all((1, 2)) & (first[:, 0, 0] > 0) & (first[:, 0, 0] < 5)
    assert 430 < blended.sum() < 570
    np.testing.assert_allclose(first.mean((1, 2)), 5 * (1 - own), atol=1e-4)
    np.testing.assert_allclose(labels.sum(2), 1, atol=1e-6)


def test_the_key_decides() -> None:
    images = jax.random.normal(jax.random.key(1), (4, *SIZE, 3))
    both = jax.jit(partial(mix, num_classes=CLASSES, mixup=0.5, cutmix=0.5))
    first, again, other = (both(jax.random.key(seed), images, jnp.arange(4)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (np.asarray(first[0]) != np.asarray(other[0])).any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_images_keep_their_dtype_and_float_targets_are_mixed_like_the_images(dtype) -> None:
    images = _images().astype(dtype)
    targets = jnp.arange(6, dtype=jnp.float32)
    mixed, labels = mix(jax.random.key(5), images, targets, 1, mixup=1.0)
    assert mixed.dtype == dtype
    assert labels.shape == (6, 1)
    np.testing.assert_allclose(labels[:, 0], np.asarray(mixed[:, 0, 0, 0], np.float32), rtol=1e-2)
    answers = jnp.array([[1, 1, 0], [0, 1, 0]])
    _, labels = mix(jax.random.key(5), images[:2], answers, 3, mixup=1.0)
    assert float(labels[0, 1]) == pytest.approx(1, abs=1e-6)
    assert 0 < float(labels[0, 0]) < 1
    assert float(labels[1, 2]) == 0


def test_what_cannot_be_mixed_is_named() -> None:
    key, images = jax.random.key(0), _images(2)
    with pytest.raises(InputError, match="cutmix is the alpha"):
        mix(key, images, jnp.arange(2), 2, cutmix=-1.0)
    with pytest.raises(InputError, match="must be float, not uint8"):
        mix(key, images.astype(jnp.uint8), jnp.arange(2), 2, mixup=1.0)
    with pytest.raises(InputError, match=r"whole numbers \(B,\) or numbers \(B, 2\), not float32"):
        mix(key, images, jnp.arange(2.0), 2, mixup=1.0)
