"""Evaluation preprocessing: pixel for pixel what timm does."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from local_files import shared
from PIL import Image
from timm_guest import import_timm

from jaxtl.data.preprocess import CROP_MODES, Preprocess, normalise
from jaxtl.errors import InputError

SIZES = [(500, 375), (375, 500), (33, 47), (224, 224), (7, 5), (301, 60), (1, 90), (257, 256)]
INPUTS = [(64, 64), (96, 65), (65, 96), (17, 31)]
INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "lanczos"]


def timm_pixels(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    timm = import_timm()
    transform = timm.data.create_transform(
        input_size=(preprocess.channels, *preprocess.size),
        is_training=False,
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
        crop_pct=preprocess.crop_pct,
        crop_mode=preprocess.crop_mode,
        normalize=False,
    )
    return transform(image).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0, 1.15])
def test_equals_timm_on_made_images(noise, crop_mode, interpolation, crop_pct):
    for width, height in SIZES:
        image = noise(width, height)
        for size in INPUTS:
            preprocess = Preprocess(size, interpolation=interpolation, crop_mode=crop_mode, crop_pct=crop_pct)
            if crop_mode == "border" and (width, height) == (1, 90):
                continue  # timm cannot resize to a width of nothing; we keep one pixel
            np.testing.assert_array_equal(preprocess(image), timm_pixels(image, preprocess), err_msg=f"{size} {image}")


@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_equals_timm_on_grey_images(noise, crop_mode):
    preprocess = Preprocess((40, 50), mean=(0.4,), std=(0.2,), crop_mode=crop_mode)
    image = noise(61, 33, "L")
    pixels = preprocess(image)
    assert pixels.shape == (40, 50, 1)
    np.testing.assert_array_equal(pixels, timm_pixels(image, preprocess))


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("size", [(160, 160), (224, 192), (300, 300)])
def test_equals_timm_on_photographs(crop_mode, size):
    for interpolation in INTERPOLATIONS:
        preprocess = Preprocess(size, interpolation=interpolation, crop_mode=crop_mode)
        for path in sorted(shared("data/flowers").glob("val/*/*.jpg"))[::100]:
            with Image.open(path) as image:
                image = image.convert("RGB")
            np.testing.assert_array_equal(preprocess(image), timm_pixels(image, preprocess), err_msg=str(path))


def test_every_pretrained_configuration_of_timm_is_understood(noise):
    timm = import_timm()
    images = [noise(91, 67), noise(50, 120)]
    seen = set()
    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name).to_dict()
        if config["input_size"][0] != 3:
            continue
        preprocess = Preprocess.from_dict(config)
        resolved = timm.data.resolve_data_config(pretrained_cfg=config)
        assert preprocess == Preprocess(
            resolved["input_size"][1:],
            resolved["mean"],
            resolved["std"],
            resolved["interpolation"],
            resolved["crop_pct"],
            resolved["crop_mode"],
        ), name
        geometry = preprocess.replace(mean=(0.5,) * 3, std=(0.5,) * 3)
        if preprocess.size[0] <= 256 and geometry not in seen:
            seen.add(geometry)
            for image in images:
                np.testing.assert_array_equal(geometry(image), timm_pixels(image, geometry), err_msg=name)
    assert len(seen) > 10


def test_normalise_is_the_usual_formula(noise):
    preprocess = Preprocess(32)
    pixels = preprocess(noise(50, 40))
    expected = (pixels.astype(np.float64) / 255 - preprocess.mean) / preprocess.std
    result = jax.jit(lambda x: normalise(x, preprocess.mean, preprocess.std))(pixels[None])
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[0], expected, atol=2e-6)


def test_dict_survives_json_and_other_keys_are_left_alone():
    preprocess = Preprocess((96, 65), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "lanczos", 0.9, "border")
    data = json.loads(json.dumps(preprocess.to_dict()))
    assert Preprocess.from_dict(data) == preprocess
    assert Preprocess.from_dict({**data, "num_classes": 7, "url": "", "test_input_size": [3, 1, 1]}) == preprocess


def test_missing_keys_take_timms_defaults():
    assert Preprocess.from_dict({}) == Preprocess(224)
    assert Preprocess.from_dict({"crop_mode": None, "crop_pct": None, "interpolation": ""}) == Preprocess(224)
    grey = Preprocess.from_dict({"input_size": (1, 28, 28)})
    assert grey == Preprocess(28).with_channels(1)
    assert Preprocess.from_dict({"mean": [0.5], "std": (0.5,)}).mean == (0.5, 0.5, 0.5)


def test_with_channels():
    rgb = Preprocess(32, (0.25, 0.5, 0.75), (0.1, 0.2, 0.3))
    assert rgb.with_channels(3) is rgb
    assert rgb.with_channels(1).std == pytest.approx((0.2,))
    assert rgb.with_channels(5).mean == (0.25, 0.5, 0.75, 0.25, 0.5)
    assert rgb.with_channels(1).with_channels(3).mean == (0.5, 0.5, 0.5)
    with pytest.raises(InputError, match="at least 1 channel"):
        rgb.with_channels(0)


def test_every_wrong_field_is_named_at_once():
    with pytest.raises(InputError) as error:
        Preprocess((0, 5), (0.5,), (0.5, 0.0), "bicubik", 87.5, "centre")
    message = str(error.value)
    for part in ("size", "mean and std", "std must be positive", "did you mean 'bicubic'", "crop_pct", "'center'"):
        assert part in message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Preprocess(32).replace(sise=3), "did you mean 'size'"),
        (lambda: Preprocess.from_dict({"input_size": (224, 224)}), "input_size must be"),
        (lambda: Preprocess.from_dict({"mean": [0.1, 0.2]}), "mean has 2 values, but input_size says 3"),
        (lambda: Preprocess(8).with_channels(4)(Image.new("RGB", (9, 9))), "has 3 channels where the network takes 4"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InputError, match=message):
        call()
