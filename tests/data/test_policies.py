"""RandAugment and TrivialAugment: torchvision's lists and strengths, the same changes on host and device, and what
erases, blurs and greys."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import rotating
from PIL import Image
from timm_guest import import_timm

from jaxtl.data import device_augment, geometry
from jaxtl.data.augment import Augment, preset
from jaxtl.data.device_augment import augmented, example_keys
from jaxtl.data.geometry import Move
from jaxtl.data.policies import LEVELS, POLICIES, changes_of, strength
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError

THEIR_NAMES = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "shift_x": "TranslateX",
    "shift_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "saturation": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}
NOTHING = {"scale": None, "flip": 0.0}


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    rows, columns = np.mgrid[:32, :40]
    return np.stack([127 + 120 * np.sin(rows / 5 + s) * np.cos(columns / 6) for s in range(3)], axis=-1).astype(
        np.uint8
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_changes_and_strengths_are_torchvisions(policy) -> None:
    import_timm()
    from torchvision import transforms

    if policy == "randaugment":
        theirs = transforms.RandAugment()._augmentation_space(LEVELS, (224, 224))
    else:
        theirs = transforms.TrivialAugmentWide()._augmentation_space(LEVELS)
    changes = changes_of(policy)
    assert {THEIR_NAMES[change.name] for change in changes} == theirs.keys()
    for change in changes:
        expected, signed = theirs[THEIR_NAMES[change.name]]
        if expected.ndim == 0:
            continue
        ours = np.array([strength(change, level, True) for level in range(LEVELS)])
        scale = 224 if change.name.startswith("shift") else 1
        if change.name == "posterize":
            ours = 8 - np.round(ours)
        if change.name == "solarize":
            ours = 255 - ours
            expected = expected * (255 / expected.max())  # of 1 in newer versions
        np.testing.assert_allclose(scale * ours, expected.numpy(), rtol=1e-3, atol=1e-3, err_msg=change.name)
        assert signed == (change.kind == "move" or change.name in ("brightness", "saturation", "contrast", "sharpness"))


@pytest.mark.parametrize(
    ("move", "theirs"),
    [
        (Move(rotate=25.0), {"angle": 25.0}),
        (Move(shear_x=0.3), {"shear": [-np.degrees(np.arctan(0.3)), 0.0]}),
        (Move(shear_y=0.3), {"shear": [0.0, -np.degrees(np.arctan(0.3))]}),
        (Move(shift_x=0.1, shift_y=-0.25), {"translate": [4, -8]}),
        (Move(zoom=1.5), {"scale": 1.5}),
    ],
    ids=["rotate", "shear_x", "shear_y", "shift", "zoom"],
)
def test_moves_are_torchvisions(waves, move, theirs) -> None:
    """Away from the rim, where the two differ in what they uncover."""
    import_timm()
    import torch
    from torchvision.transforms import InterpolationMode, functional

    options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **theirs}
    tensor = torch.from_numpy(waves).permute(2, 0, 1)
    expected = functional.affine(tensor, **options, interpolation=InterpolationMode.BILINEAR).permute(1, 2, 0).numpy()
    inside = functional.affine(torch.full_like(tensor, 255), **options).permute(1, 2, 0).numpy() == 255
    host = geometry.moved(waves, move).astype(int)
    device = np.asarray(jax.jit(lambda pixels: device_augment.moved(pixels, move))(waves.astype(np.float32)))
    inner = inside & np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1)
    assert inner.mean() > 0.4
    assert np.mean(np.abs(host - expected)[inner] > 2) < 0.003
    assert np.mean(np.abs(device - host) > 1) < 0.01


class _Given:
    """A generator for the host that gives what the device draws."""

    def __init__(self, draws):
        self._draws = iter(draws)

    def integers(self, count):
        return int(next(self._draws) * count)


@pytest.mark.parametrize("policy", rotating(POLICIES, 1))
def test_the_device_changes_images_as_the_host_does(waves, policy) -> None:
    count, augment = 60, Augment(**NOTHING, policy=policy)
    keys = example_keys(0, jnp.zeros(count, jnp.uint32), jnp.arange(count, dtype=jnp.uint32))
    images, sizes = np.tile(waves, (count, 1, 1, 1)), np.tile(np.int32(waves.shape[:2]), (count, 1))
    ours = jax.jit(partial(augmented, augment=augment, size=waves.shape[:2]))(images, sizes, keys)
    more = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1), (device_augment._MORE_DRAWS,)))(keys)
    far = []
    for drawn, found in zip(np.asarray(more)[:, device_augment._POLICY].reshape(count, -1, 3), ours, strict=True):
        given = []
        for which, level, side in drawn[: augment.drawn_changes]:
            given += [which] + ([level] if policy == "trivialaugment" else []) + [0.75 if side < 0.5 else 0.25]
        theirs = augment._by_policy(waves, policy, _Given(given))
        far.append(np.mean(np.abs(np.asarray(found).astype(int) - theirs) > 3))
    assert np.mean(far) < 0.01
    assert len({np.asarray(found).tobytes() for found in ours}) > count / 2


def test_all_changes_come_equally_often(waves, monkeypatch) -> None:
    seen: list[str] = []
    changes = changes_of("trivialaugment")
    monkeypatch.setattr("jaxtl.data.augment.moved", lambda pixels, move: pixels)
    monkeypatch.setattr("jaxtl.data.augment.toned", lambda xp, pixels, name, amount: seen.append(name) or pixels)
    rng = np.random.default_rng(0)
    for _ in range(1400):
        Augment(**NOTHING, policy="trivialaugment").after_crop(waves[:2, :2], rng)
    tones = [change.name for change in changes if change.kind == "tone"]
    counts = [seen.count(name) for name in tones]
    assert len(changes) == 14
    assert min(counts) > 65
    assert max(counts) < 140


def test_erased_boxes_have_the_wanted_area_and_the_mean_colour(waves) -> None:
    augment = Augment(**NOTHING, erase=1.0, erase_scale=(0.1, 0.3))
    shares = []
    for seed in range(100):
        found = augment.after_crop(waves, np.random.default_rng(seed))
        changed = (found != waves).any(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        shares.append(len(rows) * len(columns) / changed.size)
        colours = {tuple(colour) for colour in found[changed].tolist()}
        assert colours == {tuple(waves.astype(int).mean((0, 1)).astype(int).tolist())}
    assert 0.07 < min(shares) < 0.14
    assert 0.25 < max(shares) < 0.33
    assert Augment(**NOTHING, erase=0.5).is_random


def test_probabilities_on_host_and_device(waves) -> None:
    """Grey, blurred, erased and mirrored up and down: each as often as asked for, on its own."""
    count = 200
    keys = example_keys(0, jnp.zeros(count, jnp.uint32), jnp.arange(count, dtype=jnp.uint32))
    small = waves[::2, ::2]
    images, sizes = np.tile(small, (count, 1, 1, 1)), np.tile(np.int32(small.shape[:2]), (count, 1))
    for name in ("grey", "blur", "erase", "flip_vertical"):
        augment = Augment(**NOTHING, **{name: 0.3}, blur_sigma=(1.0, 2.0))
        sides = [np.stack([augment.after_crop(small, np.random.default_rng(seed)) for seed in range(count)])]
        if name != "blur":  # which compiles for long
            sides.append(jax.jit(partial(augmented, augment=augment, size=small.shape[:2]))(images, sizes, keys))
        for found in sides:
            assert (np.asarray(found) != small).any((1, 2, 3)).mean() == pytest.approx(0.3, abs=0.09), name


@pytest.mark.parametrize("name", ["medium", "strong"])
def test_presets_for_photographs_work_on_grey_images_too(waves, name) -> None:
    for channels in (1, 3):
        preprocess = Preprocess(16).with_channels(channels)
        found = [preset(name)(Image.fromarray(waves), preprocess, np.random.default_rng(seed)) for seed in (0, 0, 1)]
        assert found[0].shape == (16, 16, channels)
        np.testing.assert_array_equal(found[0], found[1])
        assert (found[0] != found[2]).any()


def test_what_cannot_be_done_is_named() -> None:
    with pytest.raises(InputError) as error:
        Augment(policy="randaugmet", operations=9, magnitude=31, grey=2, blur_sigma=(0, 1), erase_scale=(0.5, 2))
    for part in ("did you mean 'randaugment'", "operations", "magnitude", "grey", "blur_sigma", "erase_scale"):
        assert part in str(error.value)
