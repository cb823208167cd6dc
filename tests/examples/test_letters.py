"""The rendered letters: deterministic, legible, and alike the digits they prepare a network for."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

SCRIPT = Path(__file__).parents[2] / "examples" / "letters.py"


@pytest.fixture(scope="module")
def letters():
    spec = importlib.util.spec_from_file_location("letters", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["letters"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["letters"]


@pytest.fixture(scope="module")
def printed(letters):
    """Every letter of every font, undistorted: uint8 [font, letter, 32, 32]."""
    return np.stack(
        [[letters.glyph(font, k) for k in range(len(letters.CLASSES))] for font in range(len(letters.FONTS))]
    )


def test_a_picture_depends_on_seed_and_index_alone(letters):
    together, labels = letters.Letters(seed=3).batch([7, 100_000_000_000, 7, 2])
    alone, label = letters.Letters(seed=3).batch([2])
    np.testing.assert_array_equal(together[0], together[2])
    np.testing.assert_array_equal(together[3], alone[0])
    assert labels[3] == label[0]
    other, _ = letters.Letters(seed=4).batch([2])
    assert (other != alone).any()
    assert (together[1] != together[0]).any()


def test_batches_have_the_promised_form(letters):
    images, labels = letters.Letters(seed=0, size=48).batch(range(3))
    assert images.shape == (3, 48, 48, 1)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32


def test_render_draws_from_the_generator(letters):
    image, label = letters.render(np.random.default_rng(5))
    again, label_again = letters.render(np.random.default_rng(5))
    assert image.shape == (32, 32)
    assert image.dtype == np.uint8
    assert 0 <= label < 52
    np.testing.assert_array_equal(image, again)
    assert label == label_again


def test_all_classes_come_equally_often(letters):
    _, labels = letters.Letters(seed=0).batch(range(5200))
    counts = np.bincount(labels, minlength=52)
    assert counts.min() > 60
    assert counts.max() < 150


def test_every_letter_of_every_font_has_ink_and_fits_the_frame(letters, printed):
    share = (printed > 127).mean(axis=(2, 3))
    assert share.min() > 0.03, "a glyph is missing or too thin"
    assert share.max() < 0.7, "a glyph is a block: the font lacks it"
    rows = (printed > 127).any(axis=3)
    height = 32 - rows.argmax(axis=2) - rows[:, :, ::-1].argmax(axis=2)
    assert height.min() >= 28
    border = np.concatenate([printed[:, :, :, 0], printed[:, :, :, -1]], axis=2)
    assert border.mean() < 20, "letters run out of the frame at the sides"


def test_every_distorted_picture_has_ink(letters):
    images, _ = letters.Letters(seed=1).batch(range(3000))
    assert images.reshape(3000, -1).max(axis=1).min() > 100
    assert images.mean(axis=(1, 2, 3)).min() > 20


def test_printed_letters_are_told_apart_by_the_nearest_mean(letters, printed):
    fonts = len(letters.FONTS)
    flat = printed.reshape(fonts, 52, -1).astype(float)
    right = []
    for font in range(fonts):
        means = np.delete(flat, font, axis=0).mean(axis=0)
        nearest = ((flat[font][:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
        right.append(nearest == np.arange(52))
    assert np.mean(right) > 0.8  # not more: fitted to the frame, `c` and `C` are one picture


def test_the_pictures_resemble_enlarged_handwritten_digits(letters):
    small = np.round(load_digits().images[:500] * 255 / 16).astype(np.uint8)
    bicubic = Image.Resampling.BICUBIC
    digits = np.stack([np.asarray(Image.fromarray(image).resize((32, 32), bicubic)) for image in small]) / 255
    drawn = letters.Letters(seed=0).batch(range(1000))[0][..., 0] / 255
    assert drawn.mean() == pytest.approx(digits.mean(), abs=0.04)
    assert (drawn > 0.5).mean() == pytest.approx((digits > 0.5).mean(), abs=0.05)
    assert (drawn < 0.1).mean() == pytest.approx((digits < 0.1).mean(), abs=0.06)


def test_the_script_writes_a_contact_sheet(letters, tmp_path, capsys):
    letters.main([str(tmp_path / "sheet.png")])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (684, 684)
    assert len(capsys.readouterr().out.split()) == 100
    with pytest.raises(SystemExit, match="usage"):
        letters.main([])
